// The format's encoders and decoders: layouts, checksums, round trips, damage of every kind.
#include "cached/ssd_tier/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/unit/ssd_tier/segment_fixture.h"

namespace cached::ssd_tier {
namespace {

constexpr uint64_t kSequence = make_sequence(3, 7);

std::span<const std::byte, kTrailerBytes> trailer_in(const std::vector<std::byte>& segment) {
  return std::span<const std::byte>(segment).last<kTrailerBytes>();
}

// A segment with entries of both kinds in blocks of each size.
class FormatTest : public testing::TestWithParam<uint32_t> {
 protected:
  const Layout layout_ = layout_of(GetParam());
  const SegmentName name_ = segment_name(5, kSequence);
  const WrittenSegment written_ =
      write_segment(layout_, name_,
                    {{100, 128 * 1024, 16 * 1024 - 1, 16 * 1024, 1, 100'000}, {4096}, {513, 131'072}}, true);
  std::vector<Record> records_;
};
INSTANTIATE_TEST_SUITE_P(BlockSizes, FormatTest, testing::Values(512, 1024, 4096));

TEST(Layout, HasSegmentsOfAThousandthOfTheCapacity) {
  EXPECT_EQ(layout_of(512, 64 * kGiB).segment_bytes, 64 * kMiB);
  EXPECT_EQ(layout_of(512, 64 * kGiB - 4096).segment_bytes, 32 * kMiB);
  EXPECT_EQ(layout_of(512, 10 * kTiB).segment_bytes, 64 * kMiB);
  EXPECT_EQ(layout_of(512, 300 * kMiB).segment_bytes, kMiB);
  EXPECT_GE(layout_of(512, 257 * kMiB).segment_count, 256U);
}

TEST(Layout, HonoursTheCapacityExactly) {
  for (const uint64_t capacity :
       {16 * kMiB, 16 * kMiB + 512, kGiB - 512, 64 * kGiB, 3 * kTiB + 1536, 128 * kTiB}) {
    const Layout layout = layout_of(512, capacity);
    EXPECT_TRUE(check_layout(layout).ok());
    EXPECT_LE(layout.segment_offset(layout.segment_count), capacity);
    EXPECT_GT(layout.segment_offset(layout.segment_count) + layout.segment_bytes, capacity);
    EXPECT_EQ(layout.segment_of(layout.trailer_offset(layout.segment_count - 1)), layout.segment_count - 1);
  }
}

TEST(Layout, RefusesWhatItCannotDivide) {
  EXPECT_EQ(layout_for(16 * kMiB - 1, 512).error_number(), ENOSPC);
  EXPECT_EQ(layout_for(128 * kTiB + 512, 512).error_number(), EFBIG);
  for (const uint32_t block_bytes : {0U, 256U, 768U, 8192U}) {
    EXPECT_EQ(layout_for(kGiB, block_bytes).error_number(), EINVAL) << block_bytes;
  }
}

TEST(Checksums, CoverKeySequenceAndChunkNumberButNotTheDataSet) {
  const std::vector<std::byte> data = random_bytes(16 * 1024, 1);
  const shm::BlockKey key = key_of(9);
  std::set<uint32_t> seen{chunk_checksum(key, 1, 0, data), chunk_checksum(key, 2, 0, data),
                          chunk_checksum(key, 1, 1, data)};
  shm::BlockKey other = key;
  ++other.object.low;
  seen.insert(chunk_checksum(other, 1, 0, data));
  other = key;
  ++other.object.high;
  seen.insert(chunk_checksum(other, 1, 0, data));
  other = key;
  ++other.block;
  seen.insert(chunk_checksum(other, 1, 0, data));
  other = key;
  ++other.volume;
  seen.insert(chunk_checksum(other, 1, 0, data));
  EXPECT_EQ(seen.size(), 7U);
  other = key;
  ++other.data_set;
  EXPECT_EQ(chunk_checksum(other, 1, 0, data), chunk_checksum(key, 1, 0, data));
}

// The values that FORMAT.md gives, so that both stay true and every machine's XXH3 says the same.
TEST(Checksums, HaveTheDocumentedValues) {
  const shm::BlockKey key{{0x0123456789abcdef, 0xfedcba9876543210}, 7, 2, 9};
  std::vector<std::byte> data(16 * 1024);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i % 251);
  EXPECT_EQ(chunk_checksum(key, make_sequence(3, 7), 1, data), 0x5ef19b01U);
  EXPECT_EQ(chunk_checksum(key, make_sequence(3, 7), 1, std::span(data).first(100)), 0x24c4e694U);
}

TEST(Checksums, VerifyWholeEntriesAndRangesOfChunks) {
  const std::vector<std::byte> data = random_bytes(100'000, 2);
  const Checksums checksums = checksums_of(key_of(1), kSequence, data);
  EXPECT_EQ(std::count(checksums.begin(), checksums.end(), 0U), 1);  // 100,000 bytes are seven chunks
  const std::span<const std::byte> bytes(data);
  EXPECT_TRUE(verify_chunks(key_of(1), kSequence, 0, bytes, checksums));
  EXPECT_TRUE(verify_chunks(key_of(1), kSequence, 2, bytes.subspan(2 * 16384, 2 * 16384), checksums));
  EXPECT_TRUE(verify_chunks(key_of(1), kSequence, 6, bytes.subspan(6 * 16384), checksums));
  EXPECT_FALSE(verify_chunks(key_of(1), kSequence, 6, bytes.subspan(6 * 16384, 1000), checksums));
  EXPECT_FALSE(verify_chunks(key_of(1), kSequence, 1, bytes.first(16384), checksums));
  EXPECT_FALSE(verify_chunks(key_of(2), kSequence, 0, bytes, checksums));
  EXPECT_FALSE(verify_chunks(key_of(1), kSequence + 1, 0, bytes, checksums));
  EXPECT_FALSE(verify_chunks(key_of(1), kSequence, 8, bytes.first(1), checksums));
}

TEST_P(FormatTest, BatchesDecodeToWhatWasAdded) {
  std::vector<Record> all;
  uint32_t offset = 0;
  for (uint32_t number = 0; number < 3; ++number) {
    const Result<BatchInfo> batch =
        decode_batch(layout_, name_.device, 5, offset, std::span(written_.bytes).subspan(offset), records_);
    ASSERT_TRUE(batch.ok()) << batch.status().message();
    EXPECT_EQ(batch->number, number);
    EXPECT_EQ(batch->sequence, kSequence);
    EXPECT_EQ(batch->record_count, records_.size());
    offset = batch->offset_bytes + batch->length_bytes;
    all.insert(all.end(), records_.begin(), records_.end());
  }
  EXPECT_EQ(all, written_.records);
}

TEST_P(FormatTest, TheFooterHoldsAllRecordsOfTheSegment) {
  const Result<TrailerInfo> trailer = decode_trailer(layout_, name_.device, 5, trailer_in(written_.bytes));
  ASSERT_TRUE(trailer.ok()) << trailer.status().message();
  EXPECT_EQ(trailer->sequence, kSequence);
  EXPECT_EQ(trailer->batch_count, 3U);
  const auto table = std::span(written_.bytes).subspan(trailer->table_offset_bytes, trailer->table_bytes);
  ASSERT_TRUE(decode_table(layout_, name_.device, *trailer, table, records_).ok());
  EXPECT_EQ(records_, written_.records);
}

TEST_P(FormatTest, EntriesLieAlignedAndWithoutGaps) {
  for (const Batch& batch : written_.batches) {
    uint32_t next = batch.offset_bytes + static_cast<uint32_t>(batch.header.size());
    EXPECT_EQ(next % layout_.block_bytes, 0U);
    for (const Batch::Piece& piece : batch.pieces) {
      EXPECT_EQ(piece.offset_bytes, next);
      next += piece.extent_bytes;
    }
    EXPECT_EQ(next, batch.offset_bytes + batch.length_bytes);
  }
  for (const Record& record : written_.records) {
    EXPECT_EQ(record.offset_bytes % (record.length_bytes < 16384 ? layout_.block_bytes : 4096), 0U);
  }
}

TEST_P(FormatTest, EveryFlippedBitOfABatchHeaderIsRefused) {
  const uint32_t header_bytes = 64 + written_.batches[0].pieces.size() * 32 + 4 * (1 + 8 + 1 + 1 + 1 + 7);
  std::vector<std::byte> bytes(written_.bytes.begin(), written_.bytes.begin() + 64 * 1024);
  for (size_t bit = 0; bit < 8 * size_t{header_bytes}; ++bit) {
    const auto flip = static_cast<std::byte>(1U << bit % 8);
    bytes[bit / 8] ^= flip;
    EXPECT_FALSE(decode_batch(layout_, name_.device, 5, 0, bytes, records_).ok()) << "bit " << bit;
    EXPECT_TRUE(records_.empty());
    bytes[bit / 8] ^= flip;
  }
  EXPECT_TRUE(decode_batch(layout_, name_.device, 5, 0, bytes, records_).ok());
}

TEST_P(FormatTest, EveryFlippedBitOfATrailerIsRefused) {
  std::vector<std::byte> bytes = written_.bytes;
  for (size_t bit = 0; bit < 8 * size_t{kTrailerBytes}; ++bit) {
    std::byte& byte = bytes[bytes.size() - kTrailerBytes + bit / 8];
    const auto flip = static_cast<std::byte>(1U << bit % 8);
    byte ^= flip;
    EXPECT_FALSE(decode_trailer(layout_, name_.device, 5, trailer_in(bytes)).ok()) << "bit " << bit;
    byte ^= flip;
  }
}

TEST_P(FormatTest, EveryFlippedBitOfATableIsRefused) {
  const TrailerInfo trailer = decode_trailer(layout_, name_.device, 5, trailer_in(written_.bytes)).value();
  const auto table = std::span(written_.bytes).subspan(trailer.table_offset_bytes, trailer.table_bytes);
  std::vector<std::byte> bytes(table.begin(), table.end());
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    const auto flip = static_cast<std::byte>(1U << bit % 8);
    bytes[bit / 8] ^= flip;
    EXPECT_FALSE(decode_table(layout_, name_.device, trailer, bytes, records_).ok()) << "bit " << bit;
    EXPECT_TRUE(records_.empty());
    bytes[bit / 8] ^= flip;
  }
}

TEST_P(FormatTest, ATruncatedHeaderOrTableIsRefusedAtEveryLength) {
  const std::span<const std::byte> bytes(written_.bytes);
  const size_t header_bytes = 64 + written_.batches[0].pieces.size() * 32 + 4 * (1 + 8 + 1 + 1 + 1 + 7);
  for (size_t length = 0; length < header_bytes; ++length) {
    // A copy of just that size, for the sanitizers to guard.
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length));
    EXPECT_FALSE(decode_batch(layout_, name_.device, 5, 0, cut, records_).ok()) << length;
  }
  EXPECT_TRUE(decode_batch(layout_, name_.device, 5, 0, bytes.first(header_bytes), records_).ok());
  const TrailerInfo trailer = decode_trailer(layout_, name_.device, 5, trailer_in(written_.bytes)).value();
  for (uint32_t length = 0; length < trailer.table_bytes; ++length) {
    const auto table = bytes.subspan(trailer.table_offset_bytes, length);
    const std::vector<std::byte> cut(table.begin(), table.end());
    EXPECT_FALSE(decode_table(layout_, name_.device, trailer, cut, records_).ok()) << length;
  }
}

TEST_P(FormatTest, StructuresOfAnotherPlaceAreRefused) {
  const std::span<const std::byte> bytes(written_.bytes);
  EXPECT_EQ(decode_batch(layout_, name_.device, 6, 0, bytes, records_).error_number(), ESTALE);
  EXPECT_EQ(decode_batch(layout_, name_.device, 5, 4096, bytes, records_).error_number(), ESTALE);
  EXPECT_EQ(decode_trailer(layout_, name_.device, 6, trailer_in(written_.bytes)).error_number(), ESTALE);
  Uuid other = name_.device;
  other.bytes[15] ^= 1;
  EXPECT_EQ(decode_batch(layout_, other, 5, 0, bytes, records_).error_number(), EBADMSG);
  EXPECT_EQ(decode_trailer(layout_, other, 5, trailer_in(written_.bytes)).error_number(), EBADMSG);
  other.bytes[0] ^= 1;
  EXPECT_EQ(decode_batch(layout_, other, 5, 0, bytes, records_).error_number(), ENODATA);
  EXPECT_EQ(decode_trailer(layout_, other, 5, trailer_in(written_.bytes)).error_number(), ENODATA);
}

TEST_P(FormatTest, ANewerVersionIsToldFromDamage) {
  std::vector<std::byte> bytes = written_.bytes;
  bytes[offsetof(BatchHeader, version)] = std::byte{2};
  bytes[bytes.size() - kTrailerBytes + offsetof(Trailer, version)] = std::byte{2};
  EXPECT_EQ(decode_batch(layout_, name_.device, 5, 0, bytes, records_).error_number(), EPROTONOSUPPORT);
  EXPECT_EQ(decode_trailer(layout_, name_.device, 5, trailer_in(bytes)).error_number(), EPROTONOSUPPORT);
}

TEST_P(FormatTest, ASegmentTakesEntriesUntilFooterAndEntriesMeet) {
  for (const uint32_t length_bytes : {1U, 5000U, 20'000U, 131'072U}) {
    SegmentBuilder builder(layout_, name_);
    uint32_t batches = 0;
    for (bool more = true; more; ++batches) {
      while (builder.batch_entries() < 50 && (more = builder.add(key_of(1), length_bytes, Checksums{}))) {
      }
      if (builder.batch_entries() > 0) builder.finish_batch();
    }
    const Footer footer = builder.finish();
    EXPECT_GE(footer.offset_bytes, builder.used_bytes());
    EXPECT_EQ(footer.offset_bytes + footer.bytes.size(), layout_.segment_bytes);
    // Less is left than one more entry in a batch of its own takes.
    EXPECT_LT(footer.offset_bytes - builder.used_bytes(), entry_extent_bytes(layout_, length_bytes) +
                                                              2 * 4096U + record_bytes(length_bytes) +
                                                              layout_.block_bytes);
    const Result<TrailerInfo> trailer = decode_trailer(
        layout_, name_.device, 5, std::span<const std::byte>(footer.bytes).last<kTrailerBytes>());
    ASSERT_TRUE(trailer.ok());
    EXPECT_TRUE(decode_table(layout_, name_.device, *trailer,
                             std::span(footer.bytes).first(trailer->table_bytes), records_)
                    .ok());
    EXPECT_EQ(records_.size(), builder.entries());
  }
}

TEST_P(FormatTest, ABatchEndsAtItsLimitOfRecords) {
  const Layout layout = layout_of(GetParam(), 64 * kGiB + kMiB);
  SegmentBuilder builder(layout, name_);
  // Begins where a large entry needs the most padding.
  ASSERT_TRUE(builder.add(key_of(0), 1, Checksums{}));
  builder.finish_batch();
  uint32_t added = 0;
  const uint32_t large_fit = 400;
  while (builder.add(key_of(added), added < large_fit ? 131'072 : 1, Checksums{})) ++added;
  EXPECT_EQ(added, kMaximumBatchRecords);
  const Batch batch = builder.finish_batch();
  EXPECT_LE(batch.header.size(), kMaximumBatchHeaderBytes);
  EXPECT_EQ(batch_header_bytes_wanted(std::span(batch.header).first(64)), batch.header.size());
  EXPECT_TRUE(decode_batch(layout, name_.device, 5, batch.offset_bytes, batch.header, records_).ok());
  EXPECT_EQ(records_.size(), kMaximumBatchRecords);
}

}  // namespace
}  // namespace cached::ssd_tier
