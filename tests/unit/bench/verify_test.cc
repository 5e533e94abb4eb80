// Verifier: what it writes it recognizes, and whatever is changed it names.
#include "bench/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace cached::bench {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr uint64_t kBlock = 4096;
constexpr Io kIo{.file = 0, .direction = kWrite, .whole_file = false, .offset = 7 * kBlock, .length = kBlock};

TEST(Crc32cTest, MatchesThePublishedValue) {
  // RFC 3720, B.4: 32 bytes of zeros. With the complement at both ends, which fio leaves out at the end.
  const std::vector<std::byte> zeros(32);
  EXPECT_EQ(~crc32c(0xFFFFFFFF, zeros.data(), zeros.size()), 0x8A9136AAU);
  const char* const digits = "123456789";
  std::vector<std::byte> bytes(9);
  std::memcpy(bytes.data(), digits, bytes.size());
  EXPECT_EQ(~crc32c(0xFFFFFFFF, bytes.data(), bytes.size()), 0xE3069283U);
}

TEST(FillRandomTest, ASeedGivesTheSameBytesAgain) {
  std::vector<std::byte> first(1001), second(1001), other(1001);
  fill_random(1, first.data(), first.size());
  fill_random(1, second.data(), second.size());
  fill_random(2, other.data(), other.size());
  EXPECT_EQ(first, second);
  EXPECT_NE(first, other);
}

class VerifierTest : public ::testing::TestWithParam<VerifyKind> {
 protected:
  VerifierTest() : verifier_(GetParam(), "\xde\xad\xbe", 1), block_(kBlock) {
    verifier_.fill(kIo, block_.data());
  }
  Status check(const Io& io = kIo) { return verifier_.check(io, block_.data(), "file"); }
  Verifier verifier_;
  std::vector<std::byte> block_;
};

TEST_P(VerifierTest, AcceptsWhatItWrote) {
  EXPECT_TRUE(check().ok()) << check().message();
}

TEST_P(VerifierTest, FindsAFlippedBitAnywhere) {
  for (uint64_t position = 0; position < kBlock; position += position < 64 ? 1 : 61) {
    block_[position] ^= std::byte{0x10};
    EXPECT_EQ(check().error_number(), EILSEQ) << position;
    block_[position] ^= std::byte{0x10};
  }
}

TEST_P(VerifierTest, NamesFileAndOffset) {
  block_[1000] ^= std::byte{1};
  EXPECT_THAT(check().message(), StartsWith("verify: "));
  EXPECT_THAT(check().message(), HasSubstr("at file file offset 28672, length 4096"));
}

INSTANTIATE_TEST_SUITE_P(Kinds, VerifierTest,
                         ::testing::Values(VerifyKind::kCrc32c, VerifyKind::kXxhash, VerifyKind::kPattern));

class HeaderTest : public VerifierTest {};

TEST_P(HeaderTest, ABlockOfAnotherPlaceIsWrong) {
  Io elsewhere = kIo;
  elsewhere.offset += kBlock;
  EXPECT_THAT(check(elsewhere).message(), HasSubstr("bad header offset 28672, wanted 32768"));
}

TEST_P(HeaderTest, ABlockOfAnotherLengthIsWrong) {
  Io shorter = kIo;
  shorter.length = kBlock / 2;
  EXPECT_THAT(check(shorter).message(), HasSubstr("bad header length 4096, wanted 2048"));
}

TEST_P(HeaderTest, ZerosHaveNoMagic) {
  std::fill(block_.begin(), block_.end(), std::byte{0});
  EXPECT_THAT(check().message(), HasSubstr("bad magic header 0, wanted acca"));
}

TEST_P(HeaderTest, TheOtherChecksumIsNotTaken) {
  const VerifyKind other = GetParam() == VerifyKind::kCrc32c ? VerifyKind::kXxhash : VerifyKind::kCrc32c;
  EXPECT_THAT(Verifier(other, "", 1).check(kIo, block_.data(), "file").message(), HasSubstr("verify_type"));
}

INSTANTIATE_TEST_SUITE_P(Kinds, HeaderTest, ::testing::Values(VerifyKind::kCrc32c, VerifyKind::kXxhash));

}  // namespace
}  // namespace cached::bench
