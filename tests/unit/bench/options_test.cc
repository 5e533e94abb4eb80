// The table of options: what it knows, and what a job must not ask for.
#include "bench/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace cached::bench {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// A job with these options, or the first error.
Result<BenchOptions> job_of(const std::vector<std::pair<std::string, std::string>>& options) {
  BenchOptions job;
  for (const auto& [name, value] : options) CACHED_RETURN_IF_ERROR(set_job_option(name, value, &job));
  CACHED_RETURN_IF_ERROR(check_job(job));
  return job;
}

TEST(OptionTableTest, NamesAreThereOnce) {
  std::set<std::string_view> names;
  for (const auto& row : job_options()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    if (!row.second_name.empty()) {
      EXPECT_TRUE(names.insert(row.second_name).second) << row.second_name;
    }
    EXPECT_FALSE(row.help.empty()) << row.name;
  }
  for (const auto& row : program_options()) EXPECT_TRUE(names.insert(row.name).second) << row.name;
}

TEST(OptionTableTest, KnowsFiosNamesAndItsOwn) {
  for (const char* name : {"name",       "rw",
                           "readwrite",  "bs",
                           "size",       "filesize",
                           "nrfiles",    "iodepth",
                           "numjobs",    "runtime",
                           "time_based", "ramp_time",
                           "randseed",   "random_distribution",
                           "direct",     "verify",
                           "rate",       "group_reporting",
                           "ioengine",   "filename",
                           "directory",  "stonewall",
                           "volume",     "socket",
                           "filelist",   "baseline",
                           "workload",   "uncounted",
                           "in_place",   "in-place",
                           "in-order",   "engine"}) {
    EXPECT_NE(find_option(job_options(), name), nullptr) << name;
  }
  EXPECT_EQ(find_option(job_options(), ""), nullptr);
  EXPECT_EQ(find_option(job_options(), "bss"), nullptr);
}

TEST(OptionTableTest, EveryOptionStandsInTheHelp) {
  const std::string help = help_text();
  for (const auto& row : job_options()) EXPECT_THAT(help, HasSubstr("--" + std::string(row.name)));
  for (const auto& row : program_options()) EXPECT_THAT(help, HasSubstr("--" + std::string(row.name)));
}

TEST(OptionTest, ErrorsBeginWithTheName) {
  BenchOptions job;
  EXPECT_THAT(set_job_option("bogus", "1", &job).message(), StartsWith("bogus: no such option"));
  EXPECT_THAT(set_job_option("bs", "4x", &job).message(), StartsWith("bs: '4x'"));
  EXPECT_THAT(set_job_option("bs", std::nullopt, &job).message(), StartsWith("bs: needs a value"));
  EXPECT_THAT(set_job_option("verify", "md5", &job).message(),
              HasSubstr("0, crc32c, crc32c-intel, xxhash, pattern"));
  EXPECT_THAT(set_job_option("ioengine", "libaio", &job).message(), HasSubstr("shm, posix, psync, io_uring"));
}

TEST(OptionTest, FlagsMayStandAlone) {
  BenchOptions job;
  EXPECT_TRUE(set_job_option("direct", std::nullopt, &job).ok());
  EXPECT_TRUE(job.direct);
  EXPECT_TRUE(set_job_option("direct", "0", &job).ok());
  EXPECT_FALSE(job.direct);
}

TEST(OptionTest, RateIsForBothOrForEach) {
  EXPECT_EQ(job_of({{"rate", "1m"}})->rate_bytes[kWrite], 1U << 20);
  EXPECT_EQ(job_of({{"rate", "1m,2m"}})->rate_bytes[kRead], 1U << 20);
  EXPECT_EQ(job_of({{"rate", "1m,2m"}})->rate_bytes[kWrite], 2U << 20);
  EXPECT_EQ(job_of({{"rate", ",2m"}})->rate_bytes[kRead], 0U);
}

TEST(OptionTest, PatternsAreDigitsOrAText) {
  EXPECT_EQ(job_of({{"verify", "pattern"}, {"verify_pattern", "0xab01"}})->verify_pattern, "\xab\x01");
  EXPECT_EQ(job_of({{"verify", "pattern"}, {"verify_pattern", "\"ab\""}})->verify_pattern, "ab");
  for (const char* pattern : {"0xabc", "0x", "abc", "0xzz", "0x1k", "%o"})
    EXPECT_THAT(job_of({{"verify_pattern", pattern}}).status().message(), StartsWith("verify_pattern:"))
        << pattern;
}

TEST(OptionTest, WhatContradictsIsRefusedByName) {
  const std::pair<const char*, std::vector<std::pair<std::string, std::string>>> kCases[] = {
      {"bs:", {{"bs", "0"}}},
      {"size:", {{"bs", "8k"}, {"size", "4k"}}},
      {"time_based:", {{"time_based", "1"}}},
      {"volume:", {{"ioengine", "shm"}, {"filename", "f"}}},
      {"volume:", {{"volume", "v"}}},
      {"rw:", {{"ioengine", "shm"}, {"volume", "v"}, {"filename", "f"}, {"rw", "write"}}},
      {"filename:", {{"ioengine", "shm"}, {"volume", "v"}}},
      {"filename:", {{"ioengine", "device"}}},
      {"rw:", {{"ioengine", "device"}, {"filename", "/dev/sdz"}, {"rw", "randwrite"}}},
      {"baseline:", {{"baseline", "memcpy"}}},
      {"in_place:", {{"in_place", "1"}}},
      {"in_order:", {{"in_order", "1"}}},
      {"filelist:", {{"filelist", "l"}}},
      {"directory:", {{"workload", "smallfiles"}}},
      {"workload:", {{"workload", "smallfiles"}, {"ioengine", "io_uring"}}},
      {"filelist:", {{"workload", "smallfiles"}, {"ioengine", "shm"}, {"volume", "v"}}},
      {"file_service_type:", {{"file_service_type", "random"}}},
      {"verify_pattern:", {{"verify", "pattern"}}},
      {"bs:", {{"verify", "crc32c"}, {"bs", "32"}}}};
  for (const auto& [message, options] : kCases)
    EXPECT_THAT(job_of(options).status().message(), StartsWith(message)) << options.front().first;
}

TEST(OptionTest, ADeviceIsWrittenWhenTheJobSaysSo) {
  EXPECT_TRUE(
      job_of({{"ioengine", "device"}, {"filename", "/dev/sdz"}, {"rw", "write"}, {"allow_writes", "1"}})
          .ok());
}

}  // namespace
}  // namespace cached::bench
