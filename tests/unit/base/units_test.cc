// Tests of sizes: parsing, printing, alignment.
#include "base/units.h"

#include <gtest/gtest.h>

namespace cached {
namespace {

struct ParseCase {
  const char* text;
  uint64_t size_bytes;
};
class ParseSize : public testing::TestWithParam<ParseCase> {};

TEST_P(ParseSize, Accepts) {
  const Result<uint64_t> size_bytes = parse_size(GetParam().text);
  ASSERT_TRUE(size_bytes.ok()) << size_bytes.status().message();
  EXPECT_EQ(*size_bytes, GetParam().size_bytes);
}

INSTANTIATE_TEST_SUITE_P(Table, ParseSize,
                         testing::Values(ParseCase{"0", 0}, ParseCase{"1073741824", kGiB},
                                         ParseCase{"17B", 17}, ParseCase{"128KiB", 128 * kKiB},
                                         ParseCase{"128k", 128 * kKiB}, ParseCase{"64MiB", 64 * kMiB},
                                         ParseCase{"64M", 64 * kMiB}, ParseCase{"512GiB", 512 * kGiB},
                                         ParseCase{"1g", kGiB}, ParseCase{"2TiB", 2 * kTiB},
                                         ParseCase{"2t", 2 * kTiB}, ParseCase{"1KB", 1000},
                                         ParseCase{"1mb", 1'000'000}, ParseCase{"1GB", 1'000'000'000},
                                         ParseCase{"3TB", 3'000'000'000'000}, ParseCase{"64mIb", 64 * kMiB},
                                         ParseCase{"64 GiB", 64 * kGiB}, ParseCase{"007KiB", 7 * kKiB},
                                         ParseCase{"18446744073709551615", UINT64_MAX},
                                         ParseCase{"16777215TiB", 16'777'215 * kTiB}));

class RejectedSize : public testing::TestWithParam<const char*> {};

TEST_P(RejectedSize, IsAnErrorThatQuotesTheText) {
  const Result<uint64_t> size_bytes = parse_size(GetParam());
  ASSERT_FALSE(size_bytes.ok());
  EXPECT_EQ(size_bytes.error_number(), EINVAL);
  const std::string quoted = "\"" + std::string(GetParam()) + "\"";
  EXPECT_EQ(size_bytes.status().message().find(quoted), 0U) << size_bytes.status().message();
}

INSTANTIATE_TEST_SUITE_P(Table, RejectedSize,
                         testing::Values("", "GiB", "-1", "-1GiB", "+1", "1.5GiB", "1,5GiB", "0x10", " 1",
                                         "1PiB", "1GiBs", "1 G B"));

TEST(ParseSizeOverflow, IsAnErrorThatSaysSo) {
  for (const std::string& text : {std::string("16777216TiB"), std::string("18446744073709551616")}) {
    const Status status = parse_size(text).status();
    EXPECT_EQ(status.error_number(), ERANGE);
    EXPECT_EQ(status.message(), "\"" + text + "\" is larger than 2^64 bytes");
  }
}

TEST(FormatSize, WritesThreeDigitsThatMatter) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(17), "17 B");
  EXPECT_EQ(format_size(999), "999 B");
  EXPECT_EQ(format_size(kKiB), "1.00 KiB");
  EXPECT_EQ(format_size(640 * kKiB), "640 KiB");
  EXPECT_EQ(format_size(3 * kGiB / 2), "1.50 GiB");
  EXPECT_EQ(format_size(25 * kGiB / 2), "12.5 GiB");
  EXPECT_EQ(format_size(5000 * kTiB), "5000 TiB");
}

TEST(FormatSize, TakesTheNextUnitRatherThanFourDigits) {
  EXPECT_EQ(format_size(1000), "0.98 KiB");
  EXPECT_EQ(format_size(1023 * kKiB), "1.00 MiB");
}

TEST(Align, RoundsToMultiplesOfAPowerOfTwo) {
  EXPECT_EQ(align_up(0, 4096), 0U);
  EXPECT_EQ(align_up(1, 4096), 4096U);
  EXPECT_EQ(align_up(4096, 4096), 4096U);
  EXPECT_EQ(align_down(4095, 4096), 0U);
  EXPECT_EQ(align_down(8191, 4096), 4096U);
}

}  // namespace
}  // namespace cached
