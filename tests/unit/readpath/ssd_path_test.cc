// The read path with an SSD tier between memory and origin: what is read from where, how often, and what a
// device that fails or hangs costs.
#include "tests/unit/readpath/ssd_path_fixture.h"

namespace cached::readpath {
namespace {

using io::FaultTarget;
using DeviceFault = io::Fault;

class SsdPathTest : public SsdPathFixture {
 protected:
  void SetUp() override { add_device(); }

  // Waits until so many commands hang in the device.
  void wait_for_hanging(uint64_t count) {
    EXPECT_TRUE(eventually([&] { return devices_[0]->hanging() == count; })) << devices_[0]->hanging();
  }
  uint64_t timeouts() const {
    return figures().faults[static_cast<unsigned>(ssd_tier::Fault::kTimeout)].load();
  }
  void drain() {
    EXPECT_TRUE(io::run_on(*shards_[0]->reactor, [&] {
                  return ssd_->devices()[0]->drain(*shards_[0]->reactor);
                }).ok());
    wait_for_state("drained");
  }
  void undrain() {
    EXPECT_TRUE(io::run_on(*shards_[0]->reactor, [&] {
                  return ssd_->devices()[0]->undrain(*shards_[0]->reactor);
                }).ok());
  }
};

TEST_F(SsdPathTest, ABlockOnTheSsdComesBackWithoutTheOriginBeingOpened) {
  start_ready();
  put_on_ssd(1, 0, kBlock);
  const uint64_t opens = source().opens;
  expect_read(1, 100, 5'000);
  expect_read(1, 0, kBlock);
  EXPECT_EQ(on_shard(0, [&] { return source().opens; }), opens);
}

TEST_F(SsdPathTest, WhatAFormerDaemonWroteIsReadByTheNext) {
  start_ready();
  put_on_ssd(1, 0, 4 * kMiB);
  restart();
  EXPECT_TRUE(eventually([&] { return on_ssd(1, 4 * kMiB - kBlock); }));
  for (uint64_t at = 0; at < 4 * kMiB; at += kMiB) expect_read(1, at, kMiB);
  EXPECT_EQ(origin_reads(), 0U);
}

TEST_F(SsdPathTest, ASmallReadBringsChunksAndALargeOneWholeBlocks) {
  start_ready();
  put_on_ssd(1, 0, kBlock);
  const uint64_t before = figures().read_bytes;
  expect_read(1, 20'000, 4'096);
  EXPECT_EQ(figures().read_bytes - before, shm::kChunkBytes);
  expect_read(1, 3 * shm::kChunkBytes - 1, 2);  // of two chunks a byte each
  EXPECT_EQ(figures().read_bytes - before, 3 * shm::kChunkBytes);
  expect_read(1, 10, kBlock / 2 + 1);
  EXPECT_EQ(figures().read_bytes - before, 3 * shm::kChunkBytes + kBlock);
}

TEST_F(SsdPathTest, ReadAheadBringsWholeBlocks) {
  start_ready();
  put_on_ssd(1, 0, 2 * kBlock);
  const uint64_t before = figures().read_bytes;
  prefetch(1, kBlock - 10, 20);
  expect_read(1, 0, 2 * kBlock);
  EXPECT_EQ(figures().read_bytes - before, 2 * kBlock);
}

TEST_F(SsdPathTest, TheLastBlockOfAnObjectComesBackAsLongAsItIs) {
  object_bytes_ = 3 * kBlock + 777;
  start_ready();
  put_on_ssd(1, 3 * kBlock, 777);
  expect_read(1, 3 * kBlock + 700, 77);
  expect_read(1, 3 * kBlock, 777);
  EXPECT_EQ(origin_reads(), 1U);
  EXPECT_EQ(read(1, 3 * kBlock, 778).result.outcome.error, EINVAL);
}

TEST_F(SsdPathTest, ManyReadersOfABlockOnTheSsdCauseOneCommand) {
  start_ready();
  put_on_ssd(1, 0, kBlock);
  const uint64_t before = figures().reads;
  devices_[0]->script({FaultTarget::kRead, DeviceFault::kHang, 1});
  std::vector<std::future<Answer>> readers;
  for (int i = 0; i < 20; ++i) readers.push_back(start_read(1, 0, kBlock));
  wait_for_hanging(1);
  devices_[0]->carry_out();
  for (auto& reader : readers) expect_answer(reader.get());
  EXPECT_EQ(figures().reads - before, 1U);
  EXPECT_EQ(origin_reads(), 1U);
}

TEST_F(SsdPathTest, AReaderOfAnotherChunkOfABlockInFlightGetsACommandOfItsOwn) {
  start_ready();
  put_on_ssd(1, 0, kBlock);
  const uint64_t before = figures().reads;
  devices_[0]->hang_all();
  auto first = start_read(1, 100, 100);
  auto other = start_read(1, 5 * shm::kChunkBytes, 100);
  auto same = start_read(1, 9'000, 100);
  wait_for_hanging(2);
  devices_[0]->recover();
  expect_answer(first.get());
  expect_answer(other.get());
  expect_answer(same.get());
  EXPECT_EQ(figures().reads - before, 2U);
}

TEST_F(SsdPathTest, NeighboursAreReadInOneCommand) {
  start_ready();
  put_on_ssd(1, 0, 7 * kBlock);  // with their header, what one segment of a megabyte holds
  const uint64_t before = figures().reads;
  expect_read(1, 0, 7 * kBlock);
  EXPECT_EQ(figures().reads - before, 1U);
}

TEST_F(SsdPathTest, AFailedReadGoesToTheOriginOnceAndAllWhoJoinedGetTheirBytes) {
  start_ready();
  put_on_ssd(1, 0, kBlock);
  const size_t before = origin_reads();
  devices_[0]->hang_all();
  std::vector<std::future<Answer>> readers;
  for (int i = 0; i < 10; ++i) readers.push_back(start_read(1, i * 13'000, 13'000 - i));
  for (int i = 0; i < 10; ++i) readers.push_back(start_read(1, 0, kBlock));
  on_shard(0, [] { return 0; });
  const uint64_t commands = devices_[0]->hanging();
  devices_[0]->release();  // an error for all of them, and another for the second try
  wait_for_hanging(commands);
  devices_[0]->release();
  for (auto& reader : readers) expect_answer(reader.get());
  EXPECT_EQ(origin_reads() - before, 1U);
  EXPECT_EQ(path_stats().ssd_retries, commands);
  devices_[0]->recover();
}

TEST_F(SsdPathTest, WrongBytesFromTheDeviceAreNeverSeen) {
  start_ready();
  put_on_ssd(1, 0, 2 * kMiB);
  const size_t before = origin_reads();
  for (const DeviceFault fault : {DeviceFault::kBitFlip, DeviceFault::kMisdirected, DeviceFault::kShort}) {
    devices_[0]->script({FaultTarget::kRead, fault, 2});
    expect_read(1, (origin_reads() - before) * kBlock, kBlock);
  }
  EXPECT_EQ(origin_reads() - before, 3U);
}

// One on the device's home shard, one on another.
class SsdPathHangTest : public SsdPathTest, public testing::WithParamInterface<unsigned> {};

TEST_P(SsdPathHangTest, AHangingDeviceCostsItsTimeoutOnceAndItsSlotsUntilItIsThrough) {
  const unsigned shard = GetParam();
  settings_.shards = 2;
  settings_.timeout_ns = 200 * kNanosecondsPerMillisecond;
  start_ready();
  uint64_t object = 1;
  while (owner_of(object, 0) != shard) ++object;
  put_on_ssd(object, 0, 2 * kBlock);
  const size_t before = origin_reads(shard);
  devices_[0]->hang_all();
  const uint64_t began_ns = system_clock().monotonic_ns();
  expect_read(object, 0, kBlock);
  EXPECT_GE(system_clock().monotonic_ns() - began_ns, settings_.timeout_ns);
  EXPECT_EQ(path_stats(shard).ssd_retries, 1U);
  EXPECT_EQ(timeouts(), 1U);
  expect_read(object, kBlock, kBlock);  // nobody asks the device
  EXPECT_EQ(path_stats(shard).ssd_retries, 1U);
  EXPECT_EQ(origin_reads(shard) - before, 2U);
  forget_memory();
  EXPECT_EQ(memory_stats(shard).bytes_reserved, kBlock);  // the hanging command's
  devices_[0]->recover();
  EXPECT_TRUE(eventually([&] { return memory_stats(shard).bytes_reserved == 0; }));
  wait_for_state("healthy");
  expect_read(object, 0, 2 * kBlock);
  EXPECT_EQ(origin_reads(shard) - before, 2U);
}

INSTANTIATE_TEST_SUITE_P(Shards, SsdPathHangTest, testing::Values(0U, 1U));

TEST_F(SsdPathTest, WithAllDevicesGoneMemoryAndOriginGoOn) {
  add_device();
  start_ready();
  put_on_ssd(1, 0, 4 * kMiB);
  for (const auto& device : devices_) {
    device->fail_reads();
    device->fail_writes();
  }
  for (uint64_t at = 0; at < 4 * kMiB; at += kBlock) expect_read(1, at, kBlock);
  for (size_t i = 0; i < devices_.size(); ++i) wait_for_state("suspect", i);
  forget_memory();
  const size_t before = origin_reads();
  for (int pass = 0; pass < 2; ++pass) {
    for (uint64_t at = 0; at < kMiB; at += kBlock) expect_read(1, at, kBlock);
  }
  EXPECT_EQ(origin_reads() - before, kMiB / kBlock);  // the second pass met memory
  for (const auto& device : devices_) device->recover();
}

TEST_F(SsdPathTest, SsdHitsGoOnWhileTheOriginIsDown) {
  start_ready();
  put_on_ssd(1, 0, kMiB);
  on_shard(0, [&] {
    source().open_outcome = {.error = EIO};
    source().next_outcome = {.error = EIO};
    return 0;
  });
  for (uint64_t at = 0; at < kMiB; at += 50'000) {
    expect_read(1, at, static_cast<uint32_t>(std::min<uint64_t>(50'000, kMiB - at)));
  }
  EXPECT_EQ(read(1, 2 * kMiB, 100).result.outcome.error, EIO);
  EXPECT_EQ(read(1, kMiB - 100, 200).result.outcome.error, EIO);  // half of it is nowhere
}

TEST_F(SsdPathTest, WhatIsOnTheSsdGoesThroughTheBufferWhenAllSlotsArePinned) {
  settings_.regions = 4;
  settings_.read_path.slot_wait_ns = kNanosecondsPerMillisecond;
  start_ready();
  put_on_ssd(2, 0, kMiB);
  std::vector<Answer> pinned;
  for (uint64_t at = 0; at < 4 * memory_tier::kRegionBytes; at += kMiB) pinned.push_back(read(1, at, kMiB));
  const Answer small = read(2, 12'345, 6'789);
  EXPECT_TRUE(small.result.in_buffer);
  expect_answer(small);
  const Answer large = read(2, 1, kMiB - 1);
  EXPECT_TRUE(large.result.in_buffer);
  expect_answer(large);
  for (const Answer& held : pinned) expect_answer(held);
}

TEST_F(SsdPathTest, OffersRefusedForAFullQueueGetAnotherChance) {
  settings_.queue_limit_bytes = kMiB;
  start_ready();
  devices_[0]->script({FaultTarget::kWrite, DeviceFault::kHang, 1});
  for (uint64_t at = 0; at < 8 * kMiB; at += kMiB) expect_read(1, at, kMiB);
  EXPECT_GE(on_shard(0, [&] { return ssd_->writer(0).stats().refused; }), 56U);
  wait_for_hanging(1);
  devices_[0]->carry_out();
  wait_until_written(1, 0, 8 * kMiB);
}

TEST_F(SsdPathTest, BlocksFromTheSsdDoNotPushOutThoseThatHaveNoCopy) {
  settings_.regions = 4;  // 64 blocks
  start_ready();
  for (uint64_t at = 0; at < 24 * kMiB; at += kMiB) put_on_ssd(1, at, kMiB);
  settings_.queue_limit_bytes = 0;  // nothing is written from here on
  restart();
  for (uint64_t at = 0; at < 4 * kMiB; at += kMiB) expect_read(2, at, kMiB);
  for (uint64_t at = 0; at < 24 * kMiB; at += kMiB) expect_read(1, at, kMiB);
  EXPECT_EQ(origin_reads(), 4U);
  EXPECT_EQ(blocks_in_memory(2, 32), 32U);
}

TEST_F(SsdPathTest, ABlockThatWasWrittenLateIsEvictedBeforeOlderOnesThatHaveNoCopy) {
  settings_.regions = 4;  // 64 blocks
  settings_.queue_limit_bytes = 2 * kMiB;
  start_ready();
  drain();
  for (uint64_t at = 0; at < 3 * kMiB; at += kMiB) expect_read(1, at, kMiB);  // 24 blocks without a copy
  undrain();
  devices_[0]->script({FaultTarget::kWrite, DeviceFault::kHang, ssd_tier::Writer::kStreams});
  for (uint64_t at = 0; at < 4 * kMiB; at += kMiB) expect_read(2, at, kMiB);  // 16 are refused at first
  wait_for_hanging(ssd_tier::Writer::kStreams);
  devices_[0]->carry_out();
  wait_until_written(2, 0, 4 * kMiB);
  expect_no_pins(0);
  drain();
  for (uint64_t at = 0; at < 20 * uint64_t{kBlock}; at += kBlock) expect_read(3, at, kBlock);
  EXPECT_EQ(blocks_in_memory(1, 24), 24U);
  EXPECT_EQ(blocks_in_memory(3, 20), 20U);
}

}  // namespace
}  // namespace cached::readpath
