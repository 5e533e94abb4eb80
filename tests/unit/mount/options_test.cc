// The command line in both of its forms.
#include "mount/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cached::mount {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Machine kUserMachine{.cores = 8, .root = false};

Result<Options> parse(const std::vector<std::string>& arguments, const Machine& machine = kUserMachine) {
  return parse_options("/usr/bin/cached-mount", arguments, machine);
}
Result<Options> parse_helper(const std::vector<std::string>& arguments) {
  return parse_options("/sbin/mount.cached", arguments, kUserMachine);
}

TEST(Options, Defaults) {
  const Result<Options> options = parse({"vol", "/mnt"});
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->volume, "vol");
  EXPECT_EQ(options->mountpoint, "/mnt");
  EXPECT_EQ(options->socket, "/run/cached/cached.sock");
  EXPECT_EQ(options->daemon_timeout_ms, 30'000U);
  EXPECT_EQ(options->snapshot, 0U);
  EXPECT_EQ(options->threads, 8U);
  EXPECT_EQ(options->read_ahead_bytes, 1024U * 1024);
  EXPECT_EQ(options->attribute_timeout_ns, 1'000'000'000U);
  EXPECT_EQ(options->negative_timeout_ns, 1'000'000'000U);
  EXPECT_FALSE(options->allow_other);
  EXPECT_FALSE(options->foreground);
}

TEST(Options, DefaultsFollowTheMachine) {
  EXPECT_EQ(parse({"v", "/m"}, {.cores = 1, .root = false})->threads, 4U);
  EXPECT_EQ(parse({"v", "/m"}, {.cores = 96, .root = false})->threads, 16U);
  EXPECT_TRUE(parse({"v", "/m"}, {.cores = 1, .root = true})->allow_other);
}

TEST(Options, OwnOptions) {
  const Result<Options> options = parse(
      {"-f", "vol", "-o", "socket=/s,daemon_timeout=2.5,snapshot=7,threads=3,read_ahead=4MiB,allow_other",
       "/mnt", "-oattr_timeout=0,entry_timeout=60,log_level=debug,log_file=/l"});
  ASSERT_TRUE(options.ok()) << options.status().message();
  EXPECT_EQ(options->socket, "/s");
  EXPECT_EQ(options->daemon_timeout_ms, 2500U);
  EXPECT_EQ(options->snapshot, 7U);
  EXPECT_EQ(options->threads, 3U);
  EXPECT_EQ(options->read_ahead_bytes, 4U * 1024 * 1024);
  EXPECT_EQ(options->attribute_timeout_ns, 0U);
  EXPECT_EQ(options->entry_timeout_ns, 60'000'000'000U);
  EXPECT_EQ(options->negative_timeout_ns, 60'000'000'000U) << "follows entry_timeout";
  EXPECT_EQ(options->log_level, "debug");
  EXPECT_EQ(options->log_file, "/l");
  EXPECT_TRUE(options->allow_other);
  EXPECT_TRUE(options->foreground);
}

TEST(Options, NegativeTimeoutOfItsOwn) {
  EXPECT_EQ(parse({"v", "/m", "-o", "negative_timeout=0,entry_timeout=9"})->negative_timeout_ns, 0U);
}

TEST(Options, GenericOptions) {
  const Result<Options> options =
      parse({"v", "/m", "-o",
             "rw,ro,defaults,nofail,_netdev,noatime,nodev,nosuid,noexec,x-systemd.automount,relatime,,"});
  ASSERT_TRUE(options.ok()) << options.status().message();
  EXPECT_THAT(options->kernel_flags, ElementsAre("noatime", "nodev", "nosuid", "noexec"));
}

TEST(Options, BadValuesAreNamed) {
  for (const char* bad : {"threads=0",
                          "threads=65",
                          "threads=x",
                          "threads=4x",
                          "threads=",
                          "attr_timeout=-1",
                          "attr_timeout=",
                          "attr_timeout=1s",
                          "attr_timeout=nan",
                          "entry_timeout=1e300",
                          "read_ahead=lots",
                          "read_ahead=2GiB",
                          "daemon_timeout=soon",
                          "snapshot=",
                          "snapshot=0",
                          "snapshot=-1",
                          "snapshot=last",
                          "socket=",
                          "log_file=",
                          "remount",
                          "frobnicate",
                          "thread=4",
                          "attr_timeout"}) {
    const Result<Options> options = parse({"v", "/m", "-o", bad});
    ASSERT_FALSE(options.ok()) << bad;
    const std::string key = std::string(bad).substr(0, std::string(bad).find('='));
    EXPECT_THAT(options.status().message(), HasSubstr(key));
    EXPECT_EQ(options.status().message().find('\n'), std::string::npos);
  }
}

TEST(Options, WrongArguments) {
  for (const std::vector<std::string>& bad : std::vector<std::vector<std::string>>{{},
                                                                                   {"v"},
                                                                                   {"v", "/m", "extra"},
                                                                                   {"v", "/m", "-x"},
                                                                                   {"v", "/m", "--frob"},
                                                                                   {"v", "/m", "-o"},
                                                                                   {"", "/m"},
                                                                                   {"v", ""},
                                                                                   {"cached:", "/m"},
                                                                                   {"v", "/m", "-n"}}) {
    EXPECT_FALSE(parse(bad).ok());
  }
}

TEST(Options, VolumeAsProcMountsShowsIt) {
  EXPECT_EQ(parse({"cached:vol", "/m"})->volume, "vol");
}

TEST(Options, DashesEndOptions) {
  EXPECT_EQ(parse({"--", "-v", "/m"})->volume, "-v");
}

TEST(Options, HelpAndVersionNeedNothingElse) {
  EXPECT_TRUE(parse({"-h"})->show_help);
  EXPECT_TRUE(parse({"--version"})->show_version);
  EXPECT_THAT(help_text(), HasSubstr("daemon_timeout"));
}

TEST(MountHelper, TakesTheLettersOfMount) {
  const Result<Options> options =
      parse_helper({"vol", "/mnt", "-sfnv", "-o", "rw,unheard_of", "-t", "fuse.cached"});
  ASSERT_TRUE(options.ok()) << options.status().message();
  EXPECT_TRUE(options->pretend);
  EXPECT_FALSE(options->foreground);
}

TEST(MountHelper, SloppyMayComeLast) {
  EXPECT_TRUE(parse_helper({"v", "/m", "-o", "unheard_of", "-s"}).ok());
  EXPECT_FALSE(parse_helper({"v", "/m", "-o", "unheard_of"}).ok());
}

}  // namespace
}  // namespace cached::mount
