// Tests of the log: its levels, its file, and text from outside.
#include "base/log.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/unique_fd.h"

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
    EXPECT_TRUE(init_log({.program = "test", .file = ""}).ok());
    std::filesystem::remove_all(directory_);
  }
  std::string path() const { return directory_ + "/log"; }
  LogOptions to_file(const std::string& level) const {
    return {.program = "program", .level = level, .target = LogTarget::kFile, .file = path()};
  }
  std::string content(const std::string& suffix = "") const {
    std::ifstream file(path() + suffix);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  std::string directory_ = "/tmp/cached-log-test-XXXXXX";
};

TEST_F(LogFile, HoldsMessagesOfItsLevelAndAbove) {
  ASSERT_TRUE(init_log(to_file("warning")).ok());
  log_info("quiet {}", 1);
  log_warning("loud {}", 2);
  const std::string written = content();
  EXPECT_EQ(written.find("quiet"), std::string::npos);
  EXPECT_NE(written.find("loud 2"), std::string::npos);
  EXPECT_NE(written.find("program["), std::string::npos);
}

TEST_F(LogFile, IsAppendedTo) {
  ASSERT_TRUE(init_log(to_file("info")).ok());
  log_info("first");
  ASSERT_TRUE(init_log(to_file("info")).ok());
  log_info("second");
  EXPECT_NE(content().find("first"), std::string::npos);
  EXPECT_NE(content().find("second"), std::string::npos);
}

TEST_F(LogFile, ThatCannotBeOpenedIsAnError) {
  const Status status =
      init_log({.program = "program", .target = LogTarget::kFile, .file = directory_ + "/missing/log"});
  EXPECT_EQ(status.error_number(), ENOENT);
  EXPECT_NE(status.message().find("/missing/log"), std::string::npos);
}

TEST_F(LogFile, ChangesItsLevelAtAnyTime) {
  ASSERT_TRUE(init_log(to_file("error")).ok());
  log_info("before");
  ASSERT_TRUE(set_log_level("info").ok());
  log_info("after");
  EXPECT_EQ(content().find("before"), std::string::npos);
  EXPECT_NE(content().find("after"), std::string::npos);
  EXPECT_EQ(set_log_level("loud").error_number(), EINVAL);
}

TEST_F(LogFile, IsRotatedBeforeItOutgrowsItsSize) {
  LogOptions options = to_file("info");
  options.rotate_bytes = 400;
  options.rotate_files = 2;
  options.lines_per_kind = 0;
  ASSERT_TRUE(init_log(options).ok());
  for (int i = 0; i < 40; ++i) log_info("line {}", i);
  EXPECT_NE(content().find("line 39"), std::string::npos);
  EXPECT_FALSE(content(".1").empty());
  EXPECT_FALSE(content(".2").empty());
  EXPECT_TRUE(content(".3").empty()) << "two old files are kept";
  for (const char* suffix : {"", ".1", ".2"}) EXPECT_LE(content(suffix).size(), 400U);
}

TEST_F(LogFile, ThatIsFullLosesLinesAndStopsNothing) {
  LogOptions options = to_file("info");
  options.file = "/dev/full";
  const uint64_t before = log_losses().failed;
  ASSERT_TRUE(init_log(options).ok());
  log_info("lost");
  log_info("lost as well");
  EXPECT_EQ(log_losses().failed, before + 2);
}

TEST_F(LogFile, LimitsLinesOfOneKindAndNoOthers) {
  LogOptions options = to_file("info");
  options.lines_per_kind = 3;
  ASSERT_TRUE(init_log(options).ok());
  const uint64_t before = log_losses().limited;
  for (int i = 0; i < 10; ++i) log_info("often {}", i);
  log_info("seldom");
  EXPECT_NE(content().find("often 2"), std::string::npos);
  EXPECT_EQ(content().find("often 3"), std::string::npos);
  EXPECT_NE(content().find("seldom"), std::string::npos);
  EXPECT_EQ(log_losses().limited, before + 7);
}

TEST_F(LogFile, HoldsJsonThatSurvivesAnyText) {
  LogOptions options = to_file("info");
  options.format = LogFormat::kJson;
  ASSERT_TRUE(init_log(options).ok());
  log_warning("a \"quoted\" \\ and\nbroken line");
  EXPECT_NE(content().find("\"level\":\"warning\""), std::string::npos) << content();
  EXPECT_NE(content().find(R"("message":"a \"quoted\" \\ and\u000abroken line"})"), std::string::npos)
      << content();
}

TEST_F(LogFile, OrTheJournalGetsFields) {
  const UniqueFd journal(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = directory_ + "/journal";
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ASSERT_EQ(::bind(journal.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_TRUE(
      init_log({.program = "program", .target = LogTarget::kJournal, .file = "", .journal_socket = path})
          .ok());
  log_error("one\ntwo");
  char packet[1024] = {};
  ASSERT_GT(::recv(journal.get(), packet, sizeof packet - 1, MSG_DONTWAIT), 0);
  const std::string text = packet;
  EXPECT_NE(text.find("PRIORITY=3\n"), std::string::npos) << text;
  EXPECT_NE(text.find("SYSLOG_IDENTIFIER=program\n"), std::string::npos) << text;
  EXPECT_NE(text.find("MESSAGE=one two\n"), std::string::npos) << text;
}

// What logs last is a destructor after main(): it finds no logger any more, and must not look for it.
TEST_F(LogFile, MayBeWrittenToUntilTheProcessIsGone) {
  struct LogsInTheEnd {
    ~LogsInTheEnd() { log_info("after main"); }
  };
  EXPECT_EXIT(
      {
        static LogsInTheEnd logs_in_the_end;
        if (!init_log(to_file("info")).ok()) std::abort();
        log_info("in main");
        std::exit(0);
      },
      testing::ExitedWithCode(0), "");
  EXPECT_NE(content().find("in main"), std::string::npos);
}

TEST(Log, UnknownLevelIsAnErrorThatListsTheLevels) {
  const Status status = init_log({.program = "program", .level = "loud", .file = ""});
  EXPECT_EQ(status.error_number(), EINVAL);
  EXPECT_NE(status.message().find("trace, debug, info, warning, error or off"), std::string::npos);
}

class LogLevel : public testing::TestWithParam<const char*> {};
TEST_P(LogLevel, IsAccepted) {
  EXPECT_TRUE(init_log({.program = "program", .level = GetParam(), .file = ""}).ok());
}
INSTANTIATE_TEST_SUITE_P(Table, LogLevel,
                         testing::Values("off", "error", "warning", "debug", "trace", "info"));

}  // namespace
}  // namespace cached
