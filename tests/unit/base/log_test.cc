// Tests of the log: its levels, its file, and text from outside.
#include "base/log.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

namespace cached {
namespace {

TEST(Printable, LeavesPlainTextAlone) {
  EXPECT_EQ(printable("data/train 01.tar~"), "data/train 01.tar~");
}

TEST(Printable, EscapesControlCharactersAndHighBytes) {
  EXPECT_EQ(printable("a\nb\x1b[0m"), "a\\x0ab\\x1b[0m");
  EXPECT_EQ(printable("\x7f\xc3\xa4"), "\\x7f\\xc3\\xa4");
  EXPECT_EQ(printable(std::string_view("\0x", 2)), "\\x00x");
}

TEST(Printable, CutsLongText) {
  EXPECT_EQ(printable(std::string(256, 'a')), std::string(256, 'a'));
  EXPECT_EQ(printable(std::string(257, 'a')), std::string(256, 'a') + "...");
}

class LogFile : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(directory_.data()), nullptr); }
  void TearDown() override {
    EXPECT_TRUE(init_log("test", "info", "").ok());
    ::unlink(path().c_str());
    ::rmdir(directory_.c_str());
  }
  std::string path() const { return directory_ + "/log"; }
  std::string content() const {
    std::ifstream file(path());
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  std::string directory_ = "/tmp/cached-log-test-XXXXXX";
};

TEST_F(LogFile, HoldsMessagesOfItsLevelAndAbove) {
  ASSERT_TRUE(init_log("program", "warning", path()).ok());
  log_info("quiet {}", 1);
  log_warning("loud {}", 2);
  const std::string written = content();
  EXPECT_EQ(written.find("quiet"), std::string::npos);
  EXPECT_NE(written.find("loud 2"), std::string::npos);
  EXPECT_NE(written.find("program["), std::string::npos);
}

TEST_F(LogFile, IsAppendedTo) {
  ASSERT_TRUE(init_log("program", "info", path()).ok());
  log_info("first");
  ASSERT_TRUE(init_log("program", "info", path()).ok());
  log_info("second");
  EXPECT_NE(content().find("first"), std::string::npos);
  EXPECT_NE(content().find("second"), std::string::npos);
}

TEST_F(LogFile, ThatCannotBeOpenedIsAnError) {
  const Status status = init_log("program", "info", directory_ + "/missing/log");
  EXPECT_EQ(status.error_number(), ENOENT);
  EXPECT_NE(status.message().find("/missing/log"), std::string::npos);
}

TEST(Log, UnknownLevelIsAnErrorThatListsTheLevels) {
  const Status status = init_log("program", "loud", "");
  EXPECT_EQ(status.error_number(), EINVAL);
  EXPECT_NE(status.message().find("trace, debug, info, warning, error or off"), std::string::npos);
}

class LogLevel : public testing::TestWithParam<const char*> {};
TEST_P(LogLevel, IsAccepted) {
  EXPECT_TRUE(init_log("program", GetParam(), "").ok());
}
INSTANTIATE_TEST_SUITE_P(Table, LogLevel,
                         testing::Values("trace", "debug", "info", "warning", "error", "off"));

}  // namespace
}  // namespace cached
