// How writes are divided among devices.
#include "cached/ssd_tier/write_split.h"

#include <gtest/gtest.h>

#include <queue>

namespace cached::ssd_tier {
namespace {

constexpr uint64_t kMegabyte = 1 << 20;
constexpr uint64_t kGigabyte = 1 << 30;

// Devices that take `batch_us` for a batch of a megabyte on each of their streams, behind a source that
// always has one more.
class WriteSplitTest : public testing::Test {
 protected:
  struct Disk {
    uint64_t capacity_bytes;
    uint64_t batch_us = 1'000;
    unsigned streams = 2;
    bool has_room = true;
    unsigned busy = 0;
    uint64_t taken_bytes = 0;
  };

  void hand_out(uint64_t bytes) {
    while (bytes > 0) {
      std::vector<WriteSplit::Candidate> candidates;
      for (const Disk& disk : disks_) {
        candidates.push_back({disk.capacity_bytes, disk.has_room, disk.busy < disk.streams});
      }
      if (const std::optional<size_t> chosen = split_->choose(candidates)) {
        Disk& disk = disks_[*chosen];
        ++disk.busy;
        disk.taken_bytes += kMegabyte;
        split_->charge(*chosen, kMegabyte, disk.capacity_bytes);
        ends_.push({now_us_ + disk.batch_us, *chosen});
        bytes -= kMegabyte;
        continue;
      }
      ASSERT_FALSE(ends_.empty()) << "nobody takes a batch";
      now_us_ = ends_.top().first;
      --disks_[ends_.top().second].busy;
      ends_.pop();
    }
  }
  void start(std::vector<Disk> disks) {
    disks_ = std::move(disks);
    split_.emplace(disks_.size());
  }
  double share(size_t disk) const {
    uint64_t sum = 0;
    for (const Disk& each : disks_) sum += each.taken_bytes;
    return static_cast<double>(disks_[disk].taken_bytes) / static_cast<double>(sum);
  }

  using End = std::pair<uint64_t, size_t>;  // of a batch: when, where
  std::vector<Disk> disks_;
  std::optional<WriteSplit> split_;
  std::priority_queue<End, std::vector<End>, std::greater<>> ends_;
  uint64_t now_us_ = 0;
};

TEST_F(WriteSplitTest, FollowsTheCapacitiesUnderASourceThatIsFasterThanTheDevices) {
  start({{kGigabyte}, {2 * kGigabyte}, {3 * kGigabyte}});
  hand_out(3 * kGigabyte);
  EXPECT_NEAR(share(0), 1.0 / 6, 0.005);
  EXPECT_NEAR(share(1), 2.0 / 6, 0.005);
  EXPECT_NEAR(share(2), 3.0 / 6, 0.005);
}

TEST_F(WriteSplitTest, FollowsTheCapacitiesWhateverTheSpeeds) {
  start({{kGigabyte, 100}, {2 * kGigabyte, 10'000}, {3 * kGigabyte, 1'000}});
  hand_out(3 * kGigabyte);
  EXPECT_NEAR(share(0), 1.0 / 6, 0.01);
  EXPECT_NEAR(share(1), 2.0 / 6, 0.01);
  EXPECT_NEAR(share(2), 3.0 / 6, 0.01);
}

TEST_F(WriteSplitTest, KeepsTheSlowestForItsShareAtWork) {
  start({{kGigabyte}, {2 * kGigabyte}, {3 * kGigabyte}});
  hand_out(3 * kGigabyte);
  // Half of all on two streams.
  const uint64_t least_us = disks_[2].taken_bytes / kMegabyte / 2 * disks_[2].batch_us;
  EXPECT_LE(now_us_, least_us + least_us / 20);
}

TEST_F(WriteSplitTest, GoesWhereThereIsRoomFirst) {
  start({{kGigabyte}, {2 * kGigabyte}});
  disks_[0].has_room = false;
  hand_out(100 * kMegabyte);
  EXPECT_EQ(disks_[0].taken_bytes, 0U);
  disks_[1].has_room = false;
  hand_out(300 * kMegabyte);
  EXPECT_NEAR(static_cast<double>(disks_[0].taken_bytes), 100.0 * kMegabyte, 10.0 * kMegabyte);
}

TEST_F(WriteSplitTest, LeavesOutADeviceThatCannotBeWrittenAndMakesUpForNothing) {
  start({{kGigabyte}, {kGigabyte}});
  hand_out(100 * kMegabyte);
  disks_[0].capacity_bytes = 0;
  hand_out(500 * kMegabyte);
  EXPECT_NEAR(static_cast<double>(disks_[0].taken_bytes), 50.0 * kMegabyte, 10.0 * kMegabyte);
  disks_[0].capacity_bytes = kGigabyte;
  hand_out(100 * kMegabyte);
  EXPECT_NEAR(static_cast<double>(disks_[0].taken_bytes), 100.0 * kMegabyte, 20.0 * kMegabyte);
}

TEST_F(WriteSplitTest, NobodyTakesABatchWhereNothingCanBeWritten) {
  WriteSplit split(2);
  EXPECT_EQ(split.choose(std::vector<WriteSplit::Candidate>(2)), std::nullopt);
}

}  // namespace
}  // namespace cached::ssd_tier
