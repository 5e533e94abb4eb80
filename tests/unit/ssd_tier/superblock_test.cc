// The superblock: what is recognised, refused, written, and survives damage.
#include "cached/ssd_tier/superblock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <cstring>
#include <string_view>

#include "cached/io/memory_device.h"
#include "cached/ssd_tier/aligned_buffer.h"

namespace cached::ssd_tier {
namespace {

using std::string_view_literals::operator""sv;
using testing::HasSubstr;

constexpr uint64_t kCapacity = 20 * kMiB;

class SuperblockTest : public testing::Test {
 protected:
  static std::unique_ptr<io::MemoryDevice> make_device(uint64_t capacity_bytes = kCapacity,
                                                       uint32_t block_bytes = 512) {
    return io::MemoryDevice::create("disk", {capacity_bytes, block_bytes}).value();
  }
  void put(uint64_t offset, std::string_view bytes) {
    AlignedBuffer page = read_aligned(*device_, 8192, align_down(offset, 4096)).value();
    std::memcpy(page.data() + offset % 4096, bytes.data(), bytes.size());
    ASSERT_TRUE(device_->write_blocking(page.data(), 8192, align_down(offset, 4096)).ok());
  }
  void flip(uint64_t offset) {
    AlignedBuffer page = read_aligned(*device_, 4096, align_down(offset, 4096)).value();
    page.data()[offset % 4096] ^= std::byte{4};
    ASSERT_TRUE(device_->write_blocking(page.data(), 4096, align_down(offset, 4096)).ok());
  }
  DeviceSurvey survey() { return read_superblock(*device_).value(); }

  std::unique_ptr<io::MemoryDevice> device_ = make_device();
};

TEST_F(SuperblockTest, DecodesToWhatWasEncoded) {
  const Superblock superblock{Uuid{{1, 2, 3}}, layout_for(kTiB + 512, 512).value(), 17, 1'700'000'000};
  const SuperblockOnDevice encoded = encode_superblock(superblock);
  const Result<Superblock> decoded =
      decode_superblock(std::as_bytes(std::span<const SuperblockOnDevice, 1>(&encoded, 1)));
  ASSERT_TRUE(decoded.ok()) << decoded.status().message();
  EXPECT_EQ(*decoded, superblock);
}

TEST_F(SuperblockTest, EveryFlippedBitIsRefused) {
  const Superblock superblock{Uuid{{1, 2, 3}}, layout_for(kTiB, 512).value(), 17, 1'700'000'000};
  SuperblockOnDevice encoded = encode_superblock(superblock);
  const auto bytes = std::as_writable_bytes(std::span<SuperblockOnDevice, 1>(&encoded, 1));
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    bytes[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    EXPECT_FALSE(decode_superblock(bytes).ok()) << bit;
    bytes[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
  }
}

TEST_F(SuperblockTest, LayoutsThatCannotBeAreRefusedUnderAValidChecksum) {
  const auto refused = [](auto change) {
    Superblock superblock{Uuid{}, layout_for(kTiB, 512).value(), 0, 0};
    change(superblock.layout);
    const SuperblockOnDevice encoded = encode_superblock(superblock);
    return decode_superblock(std::as_bytes(std::span<const SuperblockOnDevice, 1>(&encoded, 1)))
               .error_number() == EBADMSG;
  };
  EXPECT_FALSE(refused([](Layout&) {}));
  EXPECT_TRUE(refused([](Layout& layout) { layout.block_bytes = 0; }));
  EXPECT_TRUE(refused([](Layout& layout) { layout.segment_bytes = 3 * kMiB; }));
  EXPECT_TRUE(refused([](Layout& layout) { ++layout.segment_count; }));
  EXPECT_TRUE(refused([](Layout& layout) { layout.segment_count = 0; }));
  EXPECT_TRUE(refused([](Layout& layout) { layout.data_offset = 4096; }));
  EXPECT_TRUE(refused([](Layout& layout) { layout.data_offset = ~uint64_t{0}; }));
  EXPECT_TRUE(refused([](Layout& layout) { layout.capacity_bytes = ~uint64_t{0}; }));
}

TEST_F(SuperblockTest, ABlankDeviceIsFormattedAndThenOurs) {
  EXPECT_EQ(survey().content, DeviceContent::kBlank);
  const Result<Superblock> made = format_device(*device_, false);
  ASSERT_TRUE(made.ok()) << made.status().message();
  EXPECT_EQ(survey().content, DeviceContent::kOurs);
  EXPECT_EQ(survey().superblock, *made);
  EXPECT_FALSE(survey().copy_damaged);
}

TEST_F(SuperblockTest, EachStartIsCountedDurably) {
  ASSERT_TRUE(format_device(*device_, false).ok());
  for (uint32_t start = 1; start <= 3; ++start) {
    const Result<Superblock> begun = begin_start(*device_);
    ASSERT_TRUE(begun.ok());
    EXPECT_EQ(begun->start_count, start);
    EXPECT_EQ(survey().superblock.start_count, start);
  }
}

TEST_F(SuperblockTest, EitherCopyIsEnoughAndTheOtherIsWrittenAgain) {
  ASSERT_TRUE(format_device(*device_, false).ok());
  ASSERT_TRUE(begin_start(*device_).ok());
  for (const uint64_t offset : kSuperblockOffsets) {
    flip(offset + 70);
    EXPECT_EQ(survey().content, DeviceContent::kOurs);
    EXPECT_TRUE(survey().copy_damaged);
    const uint32_t before = survey().superblock.start_count;
    ASSERT_TRUE(begin_start(*device_).ok());
    EXPECT_FALSE(survey().copy_damaged);
    EXPECT_EQ(survey().superblock.start_count, before + 1);
  }
}

TEST_F(SuperblockTest, TheHigherStartCountCounts) {
  ASSERT_TRUE(format_device(*device_, false).ok());
  const AlignedBuffer old_copy = read_aligned(*device_, 4096, 0).value();
  ASSERT_TRUE(begin_start(*device_).ok());
  for (size_t copy = 0; copy < 2; ++copy) {
    // As after a loss of power between the writes of the two copies.
    ASSERT_TRUE(device_->write_blocking(old_copy.bytes().data(), 4096, kSuperblockOffsets[copy]).ok());
    const DeviceSurvey found = survey();
    EXPECT_EQ(found.older_copy, copy);
    ASSERT_TRUE(begin_start(*device_).ok());
    EXPECT_EQ(survey().superblock.start_count, found.superblock.start_count + 1);
  }
}

TEST_F(SuperblockTest, BothCopiesDamagedIsUnusableAndNotBlank) {
  ASSERT_TRUE(format_device(*device_, false).ok());
  flip(100);
  flip(kSuperblockOffsets[1] + 100);
  EXPECT_EQ(survey().content, DeviceContent::kUnusable);
  EXPECT_EQ(begin_start(*device_).error_number(), EBADMSG);
  EXPECT_EQ(format_device(*device_, false).error_number(), EEXIST);
  EXPECT_TRUE(format_device(*device_, true).ok());
}

TEST_F(SuperblockTest, ADeviceOfOursIsFormattedAnewOnlyByForce) {
  const Superblock first = format_device(*device_, false).value();
  const Result<Superblock> again = format_device(*device_, false);
  EXPECT_EQ(again.error_number(), EEXIST);
  EXPECT_THAT(again.status().message(), HasSubstr(to_string(first.uuid)));
  EXPECT_NE(format_device(*device_, true).value().uuid, first.uuid);
}

TEST_F(SuperblockTest, ANewerVersionIsLeftAlone) {
  SuperblockOnDevice encoded = encode_superblock(format_device(*device_, false).value());
  encoded.version = 2;
  encoded.checksum = XXH3_64bits(&encoded, offsetof(SuperblockOnDevice, checksum));
  put(0, {reinterpret_cast<const char*>(&encoded), sizeof encoded});
  EXPECT_EQ(survey().content, DeviceContent::kNewer);
  EXPECT_EQ(begin_start(*device_).error_number(), EPROTONOSUPPORT);
  EXPECT_EQ(format_device(*device_, false).error_number(), EEXIST);
}

TEST_F(SuperblockTest, ADeviceThatShrankOrBecameCoarserIsUnusable) {
  ASSERT_TRUE(format_device(*device_, false).ok());
  const AlignedBuffer head = read_aligned(*device_, kMiB, 0).value();
  device_ = make_device(kCapacity - 512);
  ASSERT_TRUE(device_->write_blocking(head.bytes().data(), kMiB, 0).ok());
  EXPECT_EQ(survey().content, DeviceContent::kUnusable);
  EXPECT_THAT(survey().what, HasSubstr(std::to_string(kCapacity)));
  device_ = make_device(kCapacity, 4096);
  ASSERT_TRUE(device_->write_blocking(head.bytes().data(), kMiB, 0).ok());
  EXPECT_EQ(survey().content, DeviceContent::kUnusable);
  device_ = make_device(2 * kCapacity);
  ASSERT_TRUE(device_->write_blocking(head.bytes().data(), kMiB, 0).ok());
  EXPECT_EQ(survey().content, DeviceContent::kOurs);
}

TEST_F(SuperblockTest, ATooSmallDeviceIsRefused) {
  device_ = make_device(16 * kMiB - 512);
  EXPECT_EQ(read_superblock(*device_).error_number(), ENOSPC);
  EXPECT_EQ(format_device(*device_, true).error_number(), ENOSPC);
}

TEST_F(SuperblockTest, OneByteOfUnknownContentIsForeign) {
  for (const uint64_t offset : {uint64_t{0}, kMiB - 1, kCapacity - 1}) {
    device_ = make_device();
    flip(offset);
    EXPECT_EQ(survey().content, DeviceContent::kForeign) << offset;
    EXPECT_EQ(format_device(*device_, false).error_number(), EEXIST);
    EXPECT_EQ(begin_start(*device_).error_number(), EEXIST);
  }
}

struct Foreign {
  int64_t offset;  // from the end if negative
  std::string_view bytes;
  const char* name;
};

class ForeignContent : public SuperblockTest, public testing::WithParamInterface<Foreign> {};
INSTANTIATE_TEST_SUITE_P(
    Kinds, ForeignContent,
    testing::Values(Foreign{1024 + 56, "\x53\xef"sv, "ext4"}, Foreign{0, "XFSB"sv, "XFS"},
                    Foreign{65536 + 64, "_BHRfS_M"sv, "btrfs"}, Foreign{512, "LABELONE"sv, "LVM"},
                    Foreign{4096, "\xfc\x4e\x2b\xa9"sv, "mdraid"},
                    Foreign{-8192, "\xfc\x4e\x2b\xa9"sv, "mdraid"},
                    Foreign{-65536, "\xfc\x4e\x2b\xa9"sv, "mdraid"}, Foreign{512, "EFI PART"sv, "GPT"},
                    Foreign{-512, "EFI PART"sv, "GPT"}, Foreign{510, "\x55\xaa"sv, "MBR"},
                    Foreign{4086, "SWAPSPACE2"sv, "swap"}, Foreign{0, "LUKS\xba\xbe"sv, "LUKS"},
                    Foreign{128 * 1024, "\x0c\xb1\xba\0\0\0\0\0"sv, "ZFS"},
                    Foreign{-128 * 1024 + 4096, "\x0c\xb1\xba\0\0\0\0\0"sv, "ZFS"}));

TEST_P(ForeignContent, IsNamedRefusedAndOverwrittenByForceOnly) {
  const Foreign& foreign = GetParam();
  const auto offset = static_cast<uint64_t>(
      foreign.offset >= 0 ? foreign.offset : foreign.offset + static_cast<int64_t>(kCapacity));
  AlignedBuffer area = read_aligned(*device_, 4096, align_down(offset, 4096)).value();
  const size_t length = std::min<size_t>(foreign.bytes.size(), 4096 - offset % 4096);
  std::memcpy(area.data() + offset % 4096, foreign.bytes.data(), length);
  ASSERT_TRUE(device_->write_blocking(area.data(), 4096, align_down(offset, 4096)).ok());
  EXPECT_EQ(survey().content, DeviceContent::kForeign);
  EXPECT_THAT(survey().what, HasSubstr(foreign.name));
  EXPECT_THAT(format_device(*device_, false).status().message(), HasSubstr(foreign.name));
  ASSERT_TRUE(format_device(*device_, true).ok());
  EXPECT_EQ(survey().content, DeviceContent::kOurs);
}

TEST_F(SuperblockTest, ACopyThatSurvivedAnotherFileSystemIsNotBelieved) {
  ASSERT_TRUE(format_device(*device_, false).ok());
  put(0, "XFSB");
  EXPECT_EQ(survey().content, DeviceContent::kForeign);
}

}  // namespace
}  // namespace cached::ssd_tier
