// Numbers of volumes, which must not change.
#include "cached/volume/volume_ids.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace cached::volume {
namespace {

class VolumeIdsTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/volume_ids_test.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  void write(const std::string& text) { std::ofstream(directory_ + "/volumes") << text; }
  std::string directory_;
};

TEST_F(VolumeIdsTest, AreGivenInOrderFromOne) {
  const auto ids = VolumeIds::load(directory_, {"b", "a"});
  ASSERT_TRUE(ids.ok()) << ids.status().message();
  EXPECT_EQ(ids->of("b"), 1);
  EXPECT_EQ(ids->of("a"), 2);
}

TEST_F(VolumeIdsTest, StayWhenTheOrderChanges) {
  ASSERT_TRUE(VolumeIds::load(directory_, {"a", "b"}).ok());
  const auto ids = VolumeIds::load(directory_, {"c", "b", "a"});
  ASSERT_TRUE(ids.ok()) << ids.status().message();
  EXPECT_EQ(ids->of("a"), 1);
  EXPECT_EQ(ids->of("b"), 2);
  EXPECT_EQ(ids->of("c"), 3);
}

TEST_F(VolumeIdsTest, AreKeptForVolumesThatAreAway) {
  ASSERT_TRUE(VolumeIds::load(directory_, {"a", "b"}).ok());
  const auto without = VolumeIds::load(directory_, {"c"});
  ASSERT_TRUE(without.ok());
  EXPECT_EQ(without->of("c"), 3);
  EXPECT_EQ(VolumeIds::load(directory_, {"b"})->of("b"), 2);
}

TEST_F(VolumeIdsTest, DamagedFileIsNamed) {
  for (const char* text : {"x a\n", "1\n", "0 a\n", "1 a\n1 b\n", "1 a\n2 a\n", "65536 a\n", "1a\n"}) {
    write(text);
    const auto ids = VolumeIds::load(directory_, {"a"});
    EXPECT_EQ(ids.error_number(), EINVAL) << text;
    EXPECT_NE(ids.status().message().find(directory_ + "/volumes"), std::string::npos);
  }
}

TEST_F(VolumeIdsTest, NoNumberLeftIsEnospc) {
  std::string text;
  for (int i = 1; i <= 65'535; ++i) text += std::to_string(i) + " v" + std::to_string(i) + "\n";
  write(text);
  EXPECT_TRUE(VolumeIds::load(directory_, {"v7"}).ok());
  EXPECT_EQ(VolumeIds::load(directory_, {"new"}).error_number(), ENOSPC);
}

}  // namespace
}  // namespace cached::volume
