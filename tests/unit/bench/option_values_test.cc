// Sizes, times and lists are read as fio reads them.
#include "bench/option_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cached::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(FioSizeTest, UnitsArePowersOf1024) {
  EXPECT_EQ(*parse_fio_size("4096"), 4096U);
  EXPECT_EQ(*parse_fio_size("4096b"), 4096U);
  EXPECT_EQ(*parse_fio_size("4k"), 4096U);
  EXPECT_EQ(*parse_fio_size("4K"), 4096U);
  EXPECT_EQ(*parse_fio_size("4kb"), 4096U);
  EXPECT_EQ(*parse_fio_size("4ki"), 4096U);
  EXPECT_EQ(*parse_fio_size("1m"), 1U << 20);
  EXPECT_EQ(*parse_fio_size("3g"), 3ULL << 30);
  EXPECT_EQ(*parse_fio_size("2T"), 2ULL << 40);
  EXPECT_EQ(*parse_fio_size("1p"), 1ULL << 50);
}

TEST(FioSizeTest, WholeUnitNamesArePowersOf1000) {
  EXPECT_EQ(*parse_fio_size("4KiB"), 4000U);
  EXPECT_EQ(*parse_fio_size("1mib"), 1000000U);
}

TEST(FioSizeTest, ReadsHexadecimal) {
  EXPECT_EQ(*parse_fio_size("0x1000"), 4096U);
  EXPECT_EQ(*parse_fio_size("0x10k"), 16384U);
}

TEST(FioSizeTest, RefusesWhatIsNoSize) {
  for (const char* text : {"", "k", "4kk", "4x", "-1", "1.5k", " 4k", "4 k", "0x"}) {
    EXPECT_EQ(parse_fio_size(text).error_number(), EINVAL) << text;
    EXPECT_THAT(parse_fio_size(text).status().message(), HasSubstr("'" + std::string(text) + "'"));
  }
  EXPECT_EQ(parse_fio_size("16777216t").error_number(), ERANGE);
}

TEST(FioTimeTest, SecondsUnlessTheUnitSaysOtherwise) {
  EXPECT_EQ(*parse_fio_time("10"), 10'000'000'000U);
  EXPECT_EQ(*parse_fio_time("10s"), 10'000'000'000U);
  EXPECT_EQ(*parse_fio_time("500ms"), 500'000'000U);
  EXPECT_EQ(*parse_fio_time("7us"), 7'000U);
  EXPECT_EQ(*parse_fio_time("2m"), 120'000'000'000U);
  EXPECT_EQ(*parse_fio_time("1h"), 3600'000'000'000U);
}

TEST(FioTimeTest, RefusesWhatIsNoTime) {
  for (const char* text : {"", "s", "1.5", "10x", "-1"}) EXPECT_FALSE(parse_fio_time(text).ok()) << text;
}

TEST(NumberTest, StaysWithinItsLimits) {
  EXPECT_EQ(*parse_number("7", 1, 7), 7U);
  EXPECT_THAT(parse_number("8", 1, 7).status().message(), HasSubstr("from 1 to 7"));
  EXPECT_FALSE(parse_number("0", 1, 7).ok());
  EXPECT_FALSE(parse_number("3k", 1, 7).ok());
}

TEST(FlagTest, StandsAloneOrSaysZeroOrOne) {
  EXPECT_TRUE(*parse_flag(""));
  EXPECT_TRUE(*parse_flag("1"));
  EXPECT_FALSE(*parse_flag("0"));
  EXPECT_FALSE(parse_flag("yes").ok());
}

TEST(SplitTest, ABackslashKeepsASeparator) {
  EXPECT_THAT(split("a:b", ':'), ElementsAre("a", "b"));
  EXPECT_THAT(split("a\\:b:c", ':'), ElementsAre("a:b", "c"));
  EXPECT_THAT(split("", ':'), IsEmpty());
}

TEST(LoadKindTest, KnowsWhatFioKnowsExceptTrim) {
  EXPECT_TRUE(parse_load_kind("randrw")->random);
  EXPECT_TRUE(parse_load_kind("randrw")->writes);
  EXPECT_TRUE(parse_load_kind("randrw")->reads);
  EXPECT_FALSE(parse_load_kind("write")->reads);
  EXPECT_FALSE(parse_load_kind("write")->random);
  EXPECT_THAT(parse_load_kind("trim").status().message(), HasSubstr("read, write, rw"));
}

}  // namespace
}  // namespace cached::bench
