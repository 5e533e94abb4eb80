// SegmentScan: what is found again of segments that are sealed, open, cut, damaged or half overwritten.
#include "cached/ssd_tier/segment_scan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/ssd_tier/segment_fixture.h"

namespace cached::ssd_tier {
namespace {

constexpr uint64_t kOld = make_sequence(3, 7);
constexpr uint64_t kNew = make_sequence(4, 0);

class SegmentScanTest : public testing::Test {
 protected:
  SegmentContent scan(const std::vector<std::byte>& segment) {
    SegmentScan scan(layout_, old_.device);
    scan.begin(old_.number);
    while (const std::optional<SegmentScan::Read> read = scan.next()) {
      EXPECT_EQ(read->offset_bytes % layout_.block_bytes, 0U);
      EXPECT_EQ(read->length_bytes % layout_.block_bytes, 0U);
      EXPECT_LE(read->offset_bytes + read->length_bytes, layout_.segment_bytes);
      scan.feed(std::span(segment).subspan(read->offset_bytes, read->length_bytes));
    }
    return scan.content();
  }
  static std::vector<Record> records_of(const WrittenSegment& segment, size_t batches) {
    size_t count = 0;
    for (size_t i = 0; i < batches; ++i) count += segment.batches[i].pieces.size();
    return {segment.records.begin(), segment.records.begin() + static_cast<ptrdiff_t>(count)};
  }

  const Layout layout_ = layout_of(512);
  const SegmentName old_ = segment_name(5, kOld);
  const SegmentName new_ = segment_name(5, kNew);
  const std::vector<std::vector<uint32_t>> lengths_{{131'072, 131'072}, {4096, 700, 20'000}, {100'000}};
};

TEST_F(SegmentScanTest, FindsNothingInABlankSegment) {
  const SegmentContent content = scan(std::vector<std::byte>(layout_.segment_bytes));
  EXPECT_EQ(content.state, SegmentState::kBlank);
  EXPECT_TRUE(content.records.empty());
  EXPECT_EQ(content.problem, "");
}

TEST_F(SegmentScanTest, FindsASealedSegmentByItsFooter) {
  WrittenSegment written = write_segment(layout_, old_, lengths_, true);
  // Its batches but the first are not looked at.
  std::fill_n(written.bytes.begin() + written.batches[1].offset_bytes, 64, std::byte{0});
  const SegmentContent content = scan(written.bytes);
  EXPECT_EQ(content.state, SegmentState::kSealed);
  EXPECT_EQ(content.sequence, kOld);
  EXPECT_EQ(content.batches, 3U);
  EXPECT_EQ(content.records, written.records);
}

TEST_F(SegmentScanTest, ReadsTablesAndHeadersThatAreLongerThanItsFirstReads) {
  const WrittenSegment written =
      write_segment(layout_, old_, std::vector(3, std::vector<uint32_t>(600, 300)), true);
  const SegmentContent content = scan(written.bytes);
  EXPECT_EQ(content.state, SegmentState::kSealed);
  EXPECT_GT(36 * written.records.size(), kTailReadBytes - kTrailerBytes);
  EXPECT_EQ(content.records, written.records);
}

TEST_F(SegmentScanTest, FindsAnOpenSegmentByItsBatches) {
  const WrittenSegment written = write_segment(layout_, old_, lengths_, false);
  const SegmentContent content = scan(written.bytes);
  EXPECT_EQ(content.state, SegmentState::kOpen);
  EXPECT_EQ(content.records, written.records);
  EXPECT_EQ(content.used_bytes, written.batches[2].offset_bytes + written.batches[2].length_bytes);
}

// Power loss: whatever prefix of the sectors reached the device, the batches whose headers did are found.
TEST_F(SegmentScanTest, FindsTheWholeBatchesOfASegmentThatIsCutAtAnySector) {
  const WrittenSegment written = write_segment(layout_, old_, lengths_, true);
  // What follows the first sector of the trailer is zero anyway.
  for (uint32_t cut = 0; cut <= layout_.segment_bytes - kTrailerBytes; cut += 512) {
    const bool in_data =
        std::none_of(written.batches.begin(), written.batches.end(), [&](const Batch& batch) {
          return cut >= batch.offset_bytes && cut <= batch.offset_bytes + batch.header.size();
        });
    const bool in_footer = cut > written.batches.back().offset_bytes + written.batches.back().length_bytes;
    if (in_data && !in_footer && cut % 16'384 != 0) continue;  // such cuts are alike
    if (in_footer && cut < layout_.segment_bytes - 8192 && cut % 65'536 != 0) continue;
    std::vector<std::byte> bytes = written.bytes;
    std::fill(bytes.begin() + cut, bytes.end(), std::byte{0});
    size_t whole = 0;
    while (whole < 3) {
      const Batch& batch = written.batches[whole];
      const size_t records_bytes = 64 + (whole == 0 ? 2 * 64 : whole == 1 ? 36 + 36 + 40 : 60);
      if (batch.offset_bytes + records_bytes > cut) break;
      ++whole;
    }
    const SegmentContent content = scan(bytes);
    EXPECT_NE(content.state, SegmentState::kSealed) << cut;
    EXPECT_EQ(content.records, records_of(written, whole)) << cut;
  }
}

TEST_F(SegmentScanTest, DoesNotBelieveTheFooterOfAnOlderFilling) {
  const WrittenSegment older = write_segment(layout_, old_, lengths_, true, 100);
  const WrittenSegment newer = write_segment(layout_, new_, {{131'072}}, false);
  std::vector<std::byte> bytes = older.bytes;
  const uint32_t length = newer.batches[0].length_bytes;
  std::copy(newer.bytes.begin(), newer.bytes.begin() + length, bytes.begin());
  const SegmentContent content = scan(bytes);
  EXPECT_EQ(content.state, SegmentState::kOpen);
  EXPECT_EQ(content.sequence, kNew);
  EXPECT_EQ(content.records, newer.records);
}

TEST_F(SegmentScanTest, DoesNotWalkOnIntoBatchesOfAnOlderFilling) {
  // Both fillings have batches of the same sizes, so that an old header lies where a new one would.
  const WrittenSegment older = write_segment(layout_, old_, lengths_, false, 100);
  const WrittenSegment newer = write_segment(layout_, new_, lengths_, false);
  std::vector<std::byte> bytes = older.bytes;
  std::copy(newer.bytes.begin(), newer.bytes.begin() + newer.batches[1].offset_bytes, bytes.begin());
  EXPECT_EQ(scan(bytes).records, records_of(newer, 1));
}

TEST_F(SegmentScanTest, WalksTheBatchesOfASegmentWhoseFooterIsDamaged) {
  WrittenSegment written = write_segment(layout_, old_, lengths_, true);
  const std::vector<std::byte> whole = written.bytes;
  const TrailerInfo trailer =
      decode_trailer(layout_, old_.device, 5, std::span<const std::byte>(whole).last<kTrailerBytes>())
          .value();
  for (const size_t at :
       {size_t{trailer.table_offset_bytes}, whole.size() - kTrailerBytes + 20, whole.size() - 1}) {
    written.bytes = whole;
    written.bytes[at] ^= std::byte{1};
    const SegmentContent content = scan(written.bytes);
    EXPECT_EQ(content.state, SegmentState::kDamaged);
    EXPECT_NE(content.problem, "");
    EXPECT_EQ(content.records, written.records);
  }
}

TEST_F(SegmentScanTest, ADamagedFirstBatchLeavesNothing) {
  WrittenSegment written = write_segment(layout_, old_, lengths_, true);
  written.bytes[100] ^= std::byte{1};
  const SegmentContent content = scan(written.bytes);
  EXPECT_EQ(content.state, SegmentState::kDamaged);
  EXPECT_TRUE(content.records.empty());
}

TEST_F(SegmentScanTest, ASegmentOfADeviceThatWasFormattedAnewIsBlank) {
  SegmentName former = old_;
  former.device.bytes[0] ^= 0xff;
  const SegmentContent content = scan(write_segment(layout_, former, lengths_, true).bytes);
  EXPECT_EQ(content.state, SegmentState::kBlank);
  EXPECT_TRUE(content.records.empty());
}

TEST_F(SegmentScanTest, GoesOnWithoutWhatCannotBeRead) {
  const WrittenSegment written = write_segment(layout_, old_, lengths_, true);
  SegmentScan scan(layout_, old_.device);
  scan.begin(5);
  scan.fail(Status(EIO, "no tail"));
  while (const std::optional<SegmentScan::Read> read = scan.next()) {
    scan.feed(std::span(written.bytes).subspan(read->offset_bytes, read->length_bytes));
  }
  EXPECT_EQ(scan.content().state, SegmentState::kDamaged);
  EXPECT_EQ(scan.content().records, written.records);
  scan.begin(5);
  scan.fail(Status(EIO, "no tail"));
  scan.fail(Status(EIO, "no head"));
  EXPECT_FALSE(scan.next().has_value());
  EXPECT_EQ(scan.content().problem, "no tail; no head");
  EXPECT_TRUE(scan.content().records.empty());
}

}  // namespace
}  // namespace cached::ssd_tier
