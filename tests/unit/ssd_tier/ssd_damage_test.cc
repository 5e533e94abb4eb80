// Recovery of damaged devices: cuts, flipped bits and leftovers of older fillings, on the bytes of a device
// that the tier has written. After each the tier starts, all that is answered is right, and nothing is lost
// but what is damaged, at most its segment. Many segments suffer one variant each in one start; every eighth
// is left whole.
#include "cached/ssd_tier/inspect.h"
#include "tests/unit/ssd_tier/ssd_fixture.h"

namespace cached::ssd_tier {
namespace {

class SsdDamageTest : public SsdFixture {
 protected:
  using Bytes = std::vector<std::byte>;
  struct Sealed {
    uint32_t number = 0;
    uint32_t header_bytes = 0;  // of the first batch, with records, without padding
    uint32_t table_offset = 0;
    uint32_t table_bytes = 0;
    std::vector<Record> records;
    std::vector<uint64_t> blocks;  // theirs
  };
  // Changes the bytes of a segment.
  using Damage = std::function<void(const Sealed& segment, std::span<std::byte> bytes,
                                    std::span<const std::byte> older)>;

  void SetUp() override {
    SsdFixture::SetUp();
    start_ready();
    ASSERT_EQ(write(10'000, 10'430), 430U);
    stop_tier();
    older_ = image();
    start_ready();
    ASSERT_EQ(write(0, 1'000), 1'000U);
    stop_tier();
    image_ = image();
    inspect();
    ASSERT_GT(sealed_.size(), 30U);
  }

  Bytes image() {
    AlignedBytes bytes(kDeviceBytes);
    EXPECT_TRUE(devices_[0]->read_blocking(bytes.data(), bytes.size(), 0).ok());
    return Bytes(bytes.data(), bytes.data() + bytes.size());
  }
  void put(uint64_t offset, std::span<const std::byte> content) {
    AlignedBytes bytes(content.size());
    std::copy(content.begin(), content.end(), bytes.data());
    ASSERT_TRUE(devices_[0]->write_blocking(bytes.data(), bytes.size(), offset).ok());
  }
  // The sealed segments that had another sealed filling before.
  void inspect() {
    const Result<Inspection> inspection = inspect_device(*devices_[0], true);
    ASSERT_TRUE(inspection.ok());
    layout_ = inspection->survey.superblock.layout;
    for (const SegmentSummary& summary : inspection->segments) {
      const auto load = [&](const Bytes& from, uint64_t offset) {
        uint32_t value = 0;
        std::memcpy(&value, &from[offset], sizeof value);
        return value;
      };
      const uint64_t begin = layout_.segment_offset(summary.number);
      const uint64_t trailer = layout_.trailer_offset(summary.number);
      const bool replaced = std::memcmp(&older_[trailer], &image_[trailer], kTrailerBytes) != 0;
      if (summary.state != SegmentState::kSealed || !replaced) continue;
      Sealed sealed;
      sealed.number = summary.number;
      sealed.header_bytes = sizeof(BatchHeader) + load(image_, begin + offsetof(BatchHeader, records_bytes));
      sealed.table_offset = load(image_, trailer + offsetof(Trailer, table_offset_units)) * kUnitBytes;
      sealed.table_bytes = load(image_, trailer + offsetof(Trailer, table_bytes));
      sealed.records = summary.records;
      for (const Record& record : summary.records) sealed.blocks.push_back(record.key.object.low - 1);
      sealed_.push_back(std::move(sealed));
    }
  }

  std::span<const std::byte> bytes_of(const Bytes& image, const Sealed& segment) const {
    return std::span(image).subspan(layout_.segment_offset(segment.number), layout_.segment_bytes);
  }
  unsigned blocks_left(const Sealed& segment) {
    unsigned left = 0;
    for (const uint64_t block : segment.blocks) left += has(block) ? 1 : 0;
    return left;
  }
  void expect_right(const Sealed& segment) {
    for (const uint64_t block : segment.blocks) {
      if (has(block)) {
        EXPECT_EQ(read(block), ReadEnd::kOk) << "block " << block << " in segment " << segment.number;
      }
    }
  }

  // One start for a segment each of `damages` from `first` on, as many as there are segments for it. `whole`:
  // all blocks must be there all the same. Returns how many variants had their turn.
  size_t start_with(const std::vector<Damage>& damages, size_t first, bool whole) {
    std::vector<const Sealed*> damaged;
    size_t next = first;
    for (size_t i = 0; i < sealed_.size() && next < damages.size(); ++i) {
      if (i % 8 == 0) continue;
      const std::span<const std::byte> content = bytes_of(image_, sealed_[i]);
      Bytes changed(content.begin(), content.end());
      damages[next++](sealed_[i], changed, bytes_of(older_, sealed_[i]));
      put(layout_.segment_offset(sealed_[i].number), changed);
      damaged.push_back(&sealed_[i]);
    }
    start_ready();
    for (const Sealed& segment : sealed_) {
      const bool hit = std::ranges::find(damaged, &segment) != damaged.end();
      if (!hit || whole) {
        EXPECT_EQ(blocks_left(segment), segment.blocks.size()) << "variants from " << first;
      }
      if (hit || &segment == &sealed_.front()) expect_right(segment);
    }
    EXPECT_EQ(faults(Fault::kMismatch), 0U);
    stop_tier();
    for (const Sealed* const segment : damaged) {
      put(layout_.segment_offset(segment->number), bytes_of(image_, *segment));
    }
    return next - first;
  }
  void try_all(const std::vector<Damage>& damages, bool whole) {
    for (size_t done = 0; done < damages.size() && !HasFailure();) done += start_with(damages, done, whole);
  }

  static void flip(std::span<std::byte> bytes, uint64_t offset) {
    bytes[offset] ^= std::byte{1} << (offset % 8);
  }
  void flip_on_device(uint64_t offset) {
    const uint64_t page = align_down(offset, 4096);
    AlignedBytes bytes(4096);
    ASSERT_TRUE(devices_[0]->read_blocking(bytes.data(), bytes.size(), page).ok());
    flip(std::span(bytes.data(), bytes.size()), offset - page);
    put(page, std::span(bytes.data(), bytes.size()));
  }

  Layout layout_;
  Bytes older_;  // the device before it was written over
  Bytes image_;  // the device
  std::vector<Sealed> sealed_;
};

TEST_F(SsdDamageTest, AFlippedBitInAFooterLosesNothing) {
  std::vector<Damage> damages;
  for (uint32_t i = 0; i < sealed_.front().table_bytes; ++i) {
    damages.push_back([i](const Sealed& segment, auto bytes, auto) {
      flip(bytes, segment.table_offset + i % segment.table_bytes);
    });
  }
  // Of what is reserved a sample: the next test has every byte.
  for (uint32_t i = 0; i < kTrailerBytes; i += i < offsetof(Trailer, reserved) ? 1 : 64) {
    damages.push_back(
        [i](const Sealed&, auto bytes, auto) { flip(bytes, bytes.size() - kTrailerBytes + i); });
  }
  try_all(damages, true);
}

TEST_F(SsdDamageTest, AFlippedBitInAnyByteOfATrailerHidesNothingFromTheScan) {
  const Sealed& segment = sealed_.front();
  const Result<Superblock> superblock = begin_start(*devices_[0]);
  ASSERT_TRUE(superblock.ok());
  SegmentScan scan(layout_, superblock->uuid);
  const uint64_t trailer = layout_.trailer_offset(segment.number);
  for (uint32_t i = 0; i < kTrailerBytes; ++i) {
    flip_on_device(trailer + i);
    ASSERT_EQ(read_segment(*devices_[0], scan, layout_, segment.number).records, segment.records) << i;
    flip_on_device(trailer + i);
  }
}

TEST_F(SsdDamageTest, AFlippedBitInABatchHeaderLosesAtMostItsSegment) {
  std::vector<Damage> damages;
  for (uint32_t i = 0; i < sealed_.front().header_bytes; ++i) {
    damages.push_back(
        [i](const Sealed& segment, auto bytes, auto) { flip(bytes, i % segment.header_bytes); });
  }
  try_all(damages, false);
}

// Cut at a sector of table or trailer: zeros from there on, or what the older filling had there, which with
// the cut at the trailer's begin is a stale trailer behind a new table.
TEST_F(SsdDamageTest, ACutAnywhereInAFooterLosesNothing) {
  std::vector<Damage> damages;
  const uint32_t sectors = (layout_.segment_bytes - sealed_.front().table_offset) / kUnitBytes;
  for (uint32_t back = 1; back <= sectors; ++back) {
    damages.push_back([back](const Sealed&, auto bytes, auto) {
      std::ranges::fill(bytes.last(back * kUnitBytes), std::byte{0});
    });
    damages.push_back([back](const Sealed&, auto bytes, auto older) {
      std::ranges::copy(older.last(back * kUnitBytes), bytes.last(back * kUnitBytes).begin());
    });
  }
  try_all(damages, true);
}

TEST_F(SsdDamageTest, AnOlderFillingBehindTheFirstBatchIsNotTakenForTheNewOne) {
  try_all({[](const Sealed&, auto bytes, auto older) { std::ranges::copy(older, bytes.begin()); },
           // The new footer is there, the first batch is of the older filling.
           [](const Sealed& segment, auto bytes, auto older) {
             std::ranges::copy(older.first(segment.table_offset), bytes.begin());
           }},
          false);
}

TEST_F(SsdDamageTest, ACutInTheDataLosesTheBlocksThatWereCutOnly) {
  const Sealed& segment = sealed_[1];
  const std::span<const std::byte> content = bytes_of(image_, segment);
  Bytes changed(content.begin(), content.end());
  // In the middle of the last block but one; the footer is gone as well.
  std::fill(changed.begin() + segment.records.back().offset_bytes - kBlock / 2, changed.end(), std::byte{0});
  put(layout_.segment_offset(segment.number), changed);
  start_ready();
  unsigned good = 0;
  for (const uint64_t block : segment.blocks) good += read(block) == ReadEnd::kOk ? 1 : 0;
  EXPECT_EQ(good, segment.blocks.size() - 2);
  EXPECT_EQ(blocks_left(segment), segment.blocks.size() - 2);
  expect_right(sealed_[0]);
}

TEST_F(SsdDamageTest, OneWholeCopyOfTheSuperblockIsEnough) {
  std::vector<uint64_t> fields;
  for (uint64_t at = 0; at < offsetof(SuperblockOnDevice, reserved_1); ++at) fields.push_back(at);
  for (uint64_t at = offsetof(SuperblockOnDevice, checksum); at < kSuperblockBytes; ++at)
    fields.push_back(at);
  for (const uint64_t at : fields) {
    flip_on_device(kSuperblockOffsets[at % 2] + at);  // the start before has written both
    start_ready();
    ASSERT_EQ(blocks_left(sealed_[at % sealed_.size()]), sealed_[at % sealed_.size()].blocks.size()) << at;
    stop_tier();
  }
  start_ready();
  for (const Sealed& segment : sealed_) expect_right(segment);
}

TEST_F(SsdDamageTest, ADeviceWithBothCopiesDamagedIsRefusedAndLeftAsItIs) {
  for (const uint64_t offset : kSuperblockOffsets)
    flip_on_device(offset + offsetof(SuperblockOnDevice, uuid));
  const Bytes before = image();
  start_tier();
  wait_for("refused");
  EXPECT_EQ(write(20'000, 20'005), 0U);
  EXPECT_EQ(count(0, 100), 0U);
  stop_tier();
  EXPECT_EQ(image(), before);
}

}  // namespace
}  // namespace cached::ssd_tier
