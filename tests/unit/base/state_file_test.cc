// Small files that are replaced whole.
#include "base/state_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

namespace cached {
namespace {

class StateFile : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/state_file_test.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string path() const { return directory_ + "/state"; }
  std::string directory_;
};

TEST_F(StateFile, ReadsWhatWasWritten) {
  const std::string content(10'000, 'x');
  ASSERT_TRUE(replace_state_file(path(), content).ok());
  EXPECT_EQ(*read_state_file(path(), content.size()), content);
}

TEST_F(StateFile, ReplacesAndLeavesNothingBeside) {
  ASSERT_TRUE(replace_state_file(path(), "old and longer").ok());
  ASSERT_TRUE(replace_state_file(path(), "new").ok());
  EXPECT_EQ(*read_state_file(path(), 100), "new");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_), {}), 1);
}

TEST_F(StateFile, IsOfMode0600) {
  ASSERT_TRUE(replace_state_file(path(), "secret").ok());
  struct stat attributes {};
  ASSERT_EQ(::stat(path().c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode & 0777U, 0600U);
}

TEST_F(StateFile, MissingIsEnoent) {
  EXPECT_EQ(read_state_file(path(), 100).error_number(), ENOENT);
}

TEST_F(StateFile, LargerThanTheLimitIsEfbig) {
  ASSERT_TRUE(replace_state_file(path(), std::string(101, 'x')).ok());
  EXPECT_EQ(read_state_file(path(), 100).error_number(), EFBIG);
}

TEST_F(StateFile, FailedWriteLeavesTheOldContent) {
  ASSERT_TRUE(replace_state_file(path(), "old").ok());
  std::filesystem::create_directory(path() + ".new");  // where the new one would be made
  EXPECT_EQ(replace_state_file(path(), "new").error_number(), EISDIR);
  EXPECT_EQ(*read_state_file(path(), 100), "old");
}

}  // namespace
}  // namespace cached
