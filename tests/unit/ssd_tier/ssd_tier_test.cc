// The SSD tier as a whole on healthy devices: what is written is read back, survives restarts, and gives way.
#include "tests/unit/ssd_tier/ssd_fixture.h"

namespace cached::ssd_tier {
namespace {

class SsdTierTest : public SsdFixture {};

TEST_F(SsdTierTest, ReadsBackWhatWasWritten) {
  start_ready();
  EXPECT_EQ(write(0, 40), 40U);
  for (uint64_t number = 0; number < 40; ++number) EXPECT_EQ(read(number), ReadEnd::kOk);
}

TEST_F(SsdTierTest, ReadsBackBlocksOfAnyLength) {
  start_ready();
  uint64_t number = 0;
  for (const uint32_t length :
       {1U, 511U, 512U, 4095U, 4097U, 16'383U, 16'384U, 16'385U, 100'000U, 131'071U}) {
    ASSERT_EQ(write(number, number + 1, length), 1U) << length;
    EXPECT_EQ(read(number, 0, length), ReadEnd::kOk) << length;
    ++number;
  }
}

TEST_F(SsdTierTest, ReadsChunksAlone) {
  start_ready();
  ASSERT_EQ(write(0, 1, 100'000), 1U);
  const uint64_t before = figures().read_bytes;
  EXPECT_EQ(read(0, 0, 16'384), ReadEnd::kOk);
  EXPECT_EQ(figures().read_bytes - before, 16'384U);
  EXPECT_EQ(read(0, 32'768, 32'768), ReadEnd::kOk);
  EXPECT_EQ(read(0, 98'304, 100'000 - 98'304), ReadEnd::kOk);  // the last one
}

TEST_F(SsdTierTest, WorksOnDevicesOfCoarseBlocks) {
  devices_.clear();
  add_device(kDeviceBytes, 4096);
  start_ready();
  EXPECT_EQ(write(0, 1, 700), 1U);
  EXPECT_EQ(write(1, 2), 1U);
  EXPECT_EQ(read(0, 0, 700), ReadEnd::kOk);
  EXPECT_EQ(read(1), ReadEnd::kOk);
}

TEST_F(SsdTierTest, WhatWasNotWrittenIsNotThere) {
  start_ready();
  EXPECT_EQ(write(0, 10), 10U);
  EXPECT_FALSE(has(10));
  EXPECT_EQ(read(10), ReadEnd::kFailed);
  EXPECT_EQ(read(0, 0, kBlock + 4096), ReadEnd::kFailed);  // longer than the entry
}

TEST_F(SsdTierTest, NeighboursAreReadByOneCommand) {
  start_ready();
  // One batch: blocks of one extent, so of one shard.
  std::vector<std::future<bool>> offers;
  const auto key = [](uint32_t block) { return shm::BlockKey{{1, 2}, block, 1, 0}; };
  const unsigned shard = shm::partition_of_hash(shm::hash_extent(key(0)), kShards);
  AlignedBytes content(4 * kBlock);
  std::promise<unsigned> all;
  unsigned written = 0;
  on_shard(shard, [&] {
    tier_->writer(shard).set_done([&](const Writer::Offer&, bool ok) {
      written += ok ? 1 : 0;
      if (written == 4) all.set_value(written);
    });
    for (uint32_t block = 0; block < 4; ++block) {
      fill(content.data() + block * kBlock, 100 + block, 0, kBlock);
      tier_->writer(shard).offer({key(block), {}, content.data() + block * kBlock, kBlock});
    }
    return 0;
  });
  ASSERT_EQ(all.get_future().get(), 4U);
  AlignedBytes memory(4 * kBlock);
  const uint64_t before = figures().reads;
  const ReadEnd end = io::run_on(*reactors_[shard], [&]() -> io::Task<ReadEnd> {
    std::vector<ReadPiece> pieces;
    for (uint32_t block = 0; block < 4; ++block) {
      pieces.push_back({key(block), 0, kBlock, memory.data() + block * kBlock});
    }
    co_return co_await tier_->shard(shard).read(std::move(pieces), {});
  });
  EXPECT_EQ(end, ReadEnd::kOk);
  EXPECT_EQ(figures().reads - before, 1U);
  for (uint32_t block = 0; block < 4; ++block)
    EXPECT_TRUE(right(memory.data() + block * kBlock, 100 + block, 0, kBlock));
}

TEST_F(SsdTierTest, IsWarmAfterARestart) {
  start_ready();
  ASSERT_EQ(write(0, 200), 200U);
  ASSERT_EQ(write(200, 300, 5'000), 100U);
  restart();
  EXPECT_EQ(count(0, 300), 300U);  // open segments too: they are found by their batches
  for (uint64_t number = 0; number < 200; ++number) EXPECT_EQ(read(number), ReadEnd::kOk);
  for (uint64_t number = 200; number < 300; ++number) EXPECT_EQ(read(number, 0, 5'000), ReadEnd::kOk);
  EXPECT_EQ(figures().recovered_entries, 300U);
  EXPECT_EQ(faults(Fault::kMismatch), 0U);
}

TEST_F(SsdTierTest, StaysRightOverManyRestartsWithWritesBetween) {
  for (uint64_t round = 0; round < 6; ++round) {
    start_ready();
    write(round * 150, (round + 1) * 150);
    for (uint64_t number = 0; number < (round + 1) * 150; ++number) {
      if (has(number)) {
        EXPECT_EQ(read(number), ReadEnd::kOk);
      }
    }
    EXPECT_EQ(faults(Fault::kMismatch), 0U);
    stop_tier();
  }
}

TEST_F(SsdTierTest, EvictsWholeSegmentsWhenItIsFull) {
  start_ready();
  const unsigned total = 900;  // 112 MiB on 64 MiB
  EXPECT_EQ(write(0, total), total);
  const unsigned kept = count(0, total);
  EXPECT_GT(kept, 380U);  // 63 segments of 7 blocks and their headers, some of them open or just emptied
  EXPECT_LT(kept, 512U);
  for (uint64_t number = 0; number < total; ++number) {
    if (has(number)) {
      EXPECT_EQ(read(number), ReadEnd::kOk);
    }
  }
  EXPECT_EQ(faults(Fault::kMismatch), 0U);
}

TEST_F(SsdTierTest, UsesExactlyTheCapacity) {
  start_ready();
  write(0, 900);
  const Layout& layout = tier_->devices()[0]->layout();
  EXPECT_LE(layout.segment_offset(layout.segment_count - 1) + layout.segment_bytes, kDeviceBytes);
  EXPECT_GT(layout.segment_offset(layout.segment_count - 1) + 2 * uint64_t{layout.segment_bytes},
            kDeviceBytes);
}

TEST_F(SsdTierTest, FillsDevicesByTheirSize) {
  add_device(2 * kDeviceBytes);
  start_ready();
  ASSERT_EQ(write(0, 600), 600U);
  const double share = static_cast<double>(figures(1).admitted_bytes) /
                       static_cast<double>(figures(0).admitted_bytes + figures(1).admitted_bytes);
  EXPECT_NEAR(share, 2.0 / 3, 0.08);
}

TEST_F(SsdTierTest, KeepsTheOthersWarmWhenADeviceIsAddedOrRemoved) {
  add_device(kDeviceBytes);
  start_ready();
  ASSERT_EQ(write(0, 300), 300U);
  stop_tier();
  add_device(kDeviceBytes);
  start_ready();
  EXPECT_EQ(count(0, 300), 300U);
  stop_tier();
  devices_.erase(devices_.begin());  // and the numbers of the others change
  start_ready();
  const unsigned left = count(0, 300);
  EXPECT_GT(left, 100U);
  EXPECT_LT(left, 200U);
  for (uint64_t number = 0; number < 300; ++number) {
    if (has(number)) {
      EXPECT_EQ(read(number), ReadEnd::kOk);
    }
  }
}

TEST_F(SsdTierTest, RefusesForeignContent) {
  const std::string swap = "SWAPSPACE2";
  AlignedBytes page(4096);
  std::memcpy(page.data() + 4096 - swap.size(), swap.data(), swap.size());
  ASSERT_TRUE(devices_[0]->write_blocking(page.data(), page.size(), 0).ok());
  start_tier();
  wait_for("refused");
  EXPECT_NE(tier_->devices()[0]->reason().find("swap"), std::string::npos) << tier_->devices()[0]->reason();
  EXPECT_EQ(write(0, 5), 0U);
  AlignedBytes after(4096);
  ASSERT_TRUE(devices_[0]->read_blocking(after.data(), after.size(), 0).ok());
  EXPECT_EQ(std::memcmp(page.data(), after.data(), page.size()), 0);
}

TEST_F(SsdTierTest, DrainEmptiesADeviceAndUndrainUsesItAgain) {
  start_ready();
  ASSERT_EQ(write(0, 100), 100U);
  DeviceLog& device = *tier_->devices()[0];
  EXPECT_TRUE(io::run_on(*reactors_[1], [&] { return device.drain(*reactors_[1]); }).ok());
  wait_for("drained");
  EXPECT_EQ(count(0, 100), 0U);
  EXPECT_EQ(write(100, 105), 0U);
  EXPECT_EQ(io::run_on(*reactors_[0], [&] { return device.drain(*reactors_[0]); }).error_number(), EALREADY);
  EXPECT_TRUE(io::run_on(*reactors_[0], [&] { return device.undrain(*reactors_[0]); }).ok());
  wait_for("healthy");
  EXPECT_EQ(write(100, 110), 10U);
  EXPECT_EQ(io::run_on(*reactors_[0], [&] { return device.undrain(*reactors_[0]); }).error_number(), EINVAL);
}

TEST_F(SsdTierTest, ReadsGoOnWhileSegmentsAreEvicted) {
  start_ready();
  ASSERT_EQ(write(0, 300), 300U);
  std::atomic<bool> stop{false};
  unsigned reads = 0;
  std::thread reader([&] {
    for (uint64_t number = 0; !stop; number = (number + 1) % 300) {
      // Evicted ones are absent; none may be wrong, and read() checks every byte.
      if (read(number) == ReadEnd::kOk) ++reads;
    }
  });
  write(300, 1'500);
  stop = true;
  reader.join();
  EXPECT_GT(reads, 0U);
  EXPECT_EQ(faults(Fault::kMismatch), 0U);
}

}  // namespace
}  // namespace cached::ssd_tier
