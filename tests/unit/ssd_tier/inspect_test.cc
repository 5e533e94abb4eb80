// What inspection says of blank, foreign and written devices.
#include "cached/ssd_tier/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cached/io/memory_device.h"
#include "cached/ssd_tier/aligned_buffer.h"
#include "tests/unit/ssd_tier/segment_fixture.h"

namespace cached::ssd_tier {
namespace {

using testing::HasSubstr;

class InspectTest : public testing::Test {
 protected:
  void write(uint32_t number, uint32_t counter, bool sealed) {
    const Layout& layout = superblock_.layout;
    const SegmentName name{superblock_.uuid, number, make_sequence(1, counter)};
    const WrittenSegment segment = write_segment(layout, name, {{131'072, 4096}, {100}}, sealed, 10 * number);
    AlignedBuffer buffer = AlignedBuffer::allocate(layout.segment_bytes).value();
    std::copy(segment.bytes.begin(), segment.bytes.end(), buffer.data());
    ASSERT_TRUE(device_->write_blocking(buffer.data(), buffer.size(), layout.segment_offset(number)).ok());
  }

  Inspection inspect(bool keep_records) {
    Result<Inspection> inspection = inspect_device(*device_, keep_records);
    EXPECT_TRUE(inspection.ok()) << inspection.status().message();
    return inspection.ok() ? *std::move(inspection) : Inspection{};
  }

  std::unique_ptr<io::MemoryDevice> device_ = io::MemoryDevice::create("disk", {20 * kMiB, 512}).value();
  Superblock superblock_ = format_device(*device_, true).value();
};

TEST_F(InspectTest, CountsByStateVolumeAndDataSet) {
  write(3, 1, true);
  write(4, 2, false);
  const Inspection inspection = inspect(false);
  ASSERT_EQ(inspection.segments.size(), superblock_.layout.segment_count);
  EXPECT_EQ(inspection.segments[0].state, SegmentState::kBlank);
  EXPECT_EQ(inspection.segments[3].state, SegmentState::kSealed);
  EXPECT_EQ(inspection.segments[3].sequence, make_sequence(1, 1));
  EXPECT_EQ(inspection.segments[3].total.records, 3U);
  EXPECT_EQ(inspection.segments[3].total.data_bytes, 131'072U + 4096 + 100);
  EXPECT_TRUE(inspection.segments[3].records.empty());
  EXPECT_EQ(inspection.segments[4].state, SegmentState::kOpen);
  EXPECT_EQ(inspection.total.records, 6U);
  // Keys 30..32 and 40..42: volumes by number % 3, data sets by number % 4.
  EXPECT_EQ(inspection.by_volume.at(0).records, 2U);
  EXPECT_EQ(inspection.by_volume.at(0).data_bytes, 131'072U + 100);
  EXPECT_EQ(inspection.by_data_set.at(2).data_bytes, 131'072U + 100);
}

TEST_F(InspectTest, JsonHoldsEveryEntryWhereAskedFor) {
  write(3, 1, true);
  const nlohmann::json json = to_json(inspect(true));
  EXPECT_EQ(json["content"], "cache");
  EXPECT_EQ(json["uuid"], to_string(superblock_.uuid));
  EXPECT_EQ(json["layout"]["segment_count"], superblock_.layout.segment_count);
  EXPECT_EQ(json["segments"][3]["state"], "sealed");
  ASSERT_EQ(json["segments"][3]["records"].size(), 3U);
  EXPECT_EQ(json["segments"][3]["records"][0]["length"], 131'072);
  EXPECT_EQ(json["segments"][3]["records"][0]["checksums"].size(), 8U);
  EXPECT_EQ(json["total"]["entries"], 3);
  EXPECT_EQ(json["volumes"]["0"]["bytes"], 131'072);
}

TEST_F(InspectTest, TextNamesSegmentsAndTotals) {
  write(3, 1, true);
  const std::string text = to_text(inspect(true));
  EXPECT_THAT(text, HasSubstr(to_string(superblock_.uuid)));
  EXPECT_THAT(text, HasSubstr("18 blank 1 sealed"));
  EXPECT_THAT(text, HasSubstr("object"));
  EXPECT_THAT(text, HasSubstr("volume   0"));
}

TEST_F(InspectTest, ADamagedSegmentIsShownAsSuch) {
  write(3, 1, true);
  AlignedBuffer page = read_aligned(*device_, 4096, superblock_.layout.trailer_offset(3)).value();
  page.data()[100] ^= std::byte{1};
  ASSERT_TRUE(device_->write_blocking(page.data(), 4096, superblock_.layout.trailer_offset(3)).ok());
  const Inspection inspection = inspect(false);
  EXPECT_EQ(inspection.segments[3].state, SegmentState::kDamaged);
  EXPECT_THAT(inspection.segments[3].problem, HasSubstr("trailer"));
  EXPECT_EQ(inspection.segments[3].total.records, 3U);  // by its batches
}

TEST_F(InspectTest, ADeviceThatIsNotOursIsNamed) {
  device_ = io::MemoryDevice::create("disk", {20 * kMiB, 512}).value();
  EXPECT_EQ(to_text(inspect(false)), "disk: blank\n");
  AlignedBuffer page = AlignedBuffer::allocate(4096).value();
  std::fill(page.bytes().begin(), page.bytes().end(), std::byte{0});
  std::memcpy(page.data(), "XFSB", 4);
  ASSERT_TRUE(device_->write_blocking(page.data(), 4096, 0).ok());
  EXPECT_EQ(to_text(inspect(false)), "disk: foreign: an XFS file system\n");
  EXPECT_EQ(to_json(inspect(false))["content"], "foreign");
}

}  // namespace
}  // namespace cached::ssd_tier
