// The SSD tier on devices that fail: nobody gets wrong bytes, and what fails is found out.
#include <random>

#include "tests/unit/ssd_tier/ssd_fixture.h"

namespace cached::ssd_tier {
namespace {

using io::FaultTarget;
using DeviceFault = io::Fault;

class SsdFaultTest : public SsdFixture {
 protected:
  void next_reads(DeviceFault fault, uint64_t count) {
    devices_[0]->script({FaultTarget::kRead, fault, count});
  }
  void next_writes(DeviceFault fault, uint64_t count) {
    devices_[0]->script({FaultTarget::kWrite, fault, count});
  }
};

TEST_F(SsdFaultTest, OneFailedReadIsTriedAgain) {
  start_ready();
  ASSERT_EQ(write(0, 1), 1U);
  for (const DeviceFault fault : {DeviceFault::kIoError, DeviceFault::kShort, DeviceFault::kBitFlip,
                                  DeviceFault::kMisdirected, DeviceFault::kTimeout}) {
    next_reads(fault, 1);
    EXPECT_EQ(read(0), ReadEnd::kOk) << static_cast<int>(fault);
  }
  EXPECT_EQ(faults(Fault::kReadError), 2U);
  EXPECT_EQ(faults(Fault::kShort), 1U);
  EXPECT_EQ(faults(Fault::kMismatch), 2U);
}

TEST_F(SsdFaultTest, TwoFailuresDropTheEntry) {
  start_ready();
  ASSERT_EQ(write(0, 2), 2U);
  next_reads(DeviceFault::kBitFlip, 2);
  EXPECT_EQ(read(0), ReadEnd::kFailed);
  EXPECT_FALSE(has(0));
  EXPECT_EQ(read(1), ReadEnd::kOk);
}

TEST_F(SsdFaultTest, AWriteThatFailsLeavesNothingInTheIndex) {
  start_ready();
  for (const DeviceFault fault : {DeviceFault::kIoError, DeviceFault::kShort, DeviceFault::kTorn}) {
    next_writes(fault, 1);
    EXPECT_EQ(write(0, 1), 0U) << static_cast<int>(fault);
    EXPECT_FALSE(has(0));
  }
  EXPECT_EQ(write(0, 1), 1U);
  EXPECT_EQ(read(0), ReadEnd::kOk);
}

TEST_F(SsdFaultTest, AWriteThatLiesIsFoundByItsReader) {
  start_ready();
  for (const DeviceFault fault :
       {DeviceFault::kTornSilently, DeviceFault::kBitFlip, DeviceFault::kMisdirected}) {
    next_writes(fault, 1);
    ASSERT_EQ(write(0, 1), 1U);
    // A flipped bit may lie in the header, which no reader needs.
    const ReadEnd end = read(0);
    EXPECT_TRUE(end == ReadEnd::kFailed || fault == DeviceFault::kBitFlip) << static_cast<int>(fault);
  }
}

TEST_F(SsdFaultTest, AHangingDeviceCostsTheTimeoutOnceAndIsLeftAlone) {
  timeout_ns_ = 200 * kNanosecondsPerMillisecond;
  start_ready();
  ASSERT_EQ(write(0, 10), 10U);
  devices_[0]->hang_all();
  const uint64_t began_ns = system_clock().monotonic_ns();
  EXPECT_EQ(read(0), ReadEnd::kHung);
  const uint64_t took_ns = system_clock().monotonic_ns() - began_ns;
  EXPECT_GE(took_ns, timeout_ns_);
  std::future<void> late = std::move(last_late_end_);
  wait_for("suspect");
  EXPECT_EQ(read(1), ReadEnd::kFailed);  // at once: nobody asks it any more
  EXPECT_EQ(faults(Fault::kTimeout), 1U);
  // The memory is taken until the kernel, here the device, is through.
  EXPECT_EQ(late.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  devices_[0]->recover();
  EXPECT_EQ(late.wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

TEST_F(SsdFaultTest, ASuspectDeviceComesBackWithWhatItHeld) {
  timeout_ns_ = 200 * kNanosecondsPerMillisecond;
  start_ready();
  ASSERT_EQ(write(0, 10), 10U);
  devices_[0]->hang_all();
  EXPECT_EQ(read(0), ReadEnd::kHung);
  wait_for("suspect");
  devices_[0]->recover();
  wait_for("healthy");
  for (uint64_t number = 0; number < 10; ++number) EXPECT_EQ(read(number), ReadEnd::kOk);
}

TEST_F(SsdFaultTest, ADeviceWhoseWritesHangBecomesSuspectAndGivesUpWhatWaits) {
  timeout_ns_ = 50 * kNanosecondsPerMillisecond;
  start_ready();
  ASSERT_EQ(write(0, 4), 4U);
  next_writes(DeviceFault::kHang, 1'000);
  constexpr unsigned kOffers = 200;
  std::vector<std::future<bool>> offers;
  for (uint64_t number = 100; number < 100 + kOffers; ++number) offers.push_back(offer(number));
  wait_for("suspect");
  const uint64_t hanging = devices_[0]->hanging();
  EXPECT_GT(hanging, 0U);
  EXPECT_TRUE(eventually([&] { return faults(Fault::kTimeout) == hanging; }));
  const auto ended = [&] {
    return std::ranges::count_if(offers, [](std::future<bool>& offer) {
      return offer.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    });
  };
  // All but those that the device still reads: at most a batch of a megabyte a command.
  const uint64_t held = hanging * Writer::kBatchBytes / kBlock;
  EXPECT_TRUE(eventually([&] { return ended() >= static_cast<int64_t>(kOffers - held); })) << ended();
  EXPECT_LT(ended(), kOffers);
  EXPECT_EQ(write(500, 501), 0U);
  devices_[0]->recover();
  wait_for("healthy");
  for (std::future<bool>& offer : offers) offer.wait();
  EXPECT_EQ(write(500, 510), 10U);
  for (uint64_t number = 500; number < 510; ++number) EXPECT_EQ(read(number), ReadEnd::kOk);
  for (uint64_t number = 0; number < 4; ++number) EXPECT_EQ(read(number), ReadEnd::kOk);
}

TEST_F(SsdFaultTest, OtherDevicesTakeWhatAHangingOneDoesNot) {
  timeout_ns_ = 200 * kNanosecondsPerMillisecond;
  add_device(2 * kDeviceBytes);
  start_ready();
  next_writes(DeviceFault::kHang, 1'000);
  std::vector<std::future<bool>> offers;
  for (uint64_t number = 0; number < 400; ++number) offers.push_back(offer(number));
  wait_for("suspect", 0);
  EXPECT_TRUE(eventually([&] {
    const auto done = std::ranges::count_if(offers, [](std::future<bool>& offer) {
      return offer.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    });
    return done >= 400 - static_cast<int64_t>(devices_[0]->hanging() * Writer::kBatchBytes / kBlock);
  }));
  EXPECT_EQ(tier_->devices()[1]->health(), HealthState::kHealthy);
  EXPECT_EQ(write(1'000, 1'050), 50U);
  devices_[0]->recover();
  unsigned written = 0;
  for (std::future<bool>& offer : offers) written += offer.get() ? 1 : 0;
  EXPECT_GT(written, 350U);
}

TEST_F(SsdFaultTest, ABlankDeviceThatIsReadWronglyOnceIsLookedAtAgain) {
  next_reads(DeviceFault::kBitFlip, 1);
  start_tier();
  wait_for("healthy");
}

TEST_F(SsdFaultTest, ADeviceOfOursWhoseSuperblockCannotBeReadOnceKeepsWhatItHolds) {
  for (const DeviceFault fault : {DeviceFault::kIoError, DeviceFault::kShort, DeviceFault::kMisdirected}) {
    start_ready();
    ASSERT_EQ(write(0, 10), 10U);
    stop_tier();
    next_reads(fault, 1);
    start_ready();
    EXPECT_EQ(count(0, 10), 10U) << static_cast<int>(fault);
    stop_tier();
  }
}

TEST_F(SsdFaultTest, APartOfASegmentThatCannotBeReadOnceAtTheStartIsReadAgain) {
  start_ready();
  ASSERT_EQ(write(0, 4), 4U);  // in open segments: found by their batches' headers alone
  stop_tier();
  devices_[0]->script(
      {FaultTarget::kRead, DeviceFault::kIoError, 1, kSuperblockAreaBytes, kSuperblockAreaBytes + 1});
  devices_[0]->script({FaultTarget::kRead, DeviceFault::kIoError, 1, kSuperblockAreaBytes + kMiB,
                       kSuperblockAreaBytes + kMiB + 1});
  start_ready();
  EXPECT_EQ(count(0, 4), 4U);
}

TEST_F(SsdFaultTest, ADeviceThatFailsAllReadsBecomesSuspect) {
  start_ready();
  ASSERT_EQ(write(0, 30), 30U);
  devices_[0]->fail_reads();
  for (uint64_t number = 0; number < 30; ++number) EXPECT_EQ(read(number), ReadEnd::kFailed);
  wait_for("suspect");
  EXPECT_LE(faults(Fault::kReadError), 2 * (DeviceHealth::kFaultsTolerated + 2));
  EXPECT_EQ(write(100, 101), 0U);
}

TEST_F(SsdFaultTest, OneDeadDeviceLeavesTheOtherInUse) {
  add_device(kDeviceBytes);
  start_ready();
  ASSERT_EQ(write(0, 200), 200U);
  devices_[0]->fail_reads();
  devices_[0]->fail_writes();
  unsigned good = 0;
  for (uint64_t number = 0; number < 200; ++number) good += read(number) == ReadEnd::kOk ? 1 : 0;
  EXPECT_GT(good, 70U);
  EXPECT_LT(good, 130U);
  wait_for("suspect", 0);
  EXPECT_EQ(write(200, 250), 50U);
  for (uint64_t number = 200; number < 250; ++number) EXPECT_EQ(read(number), ReadEnd::kOk);
}

TEST_F(SsdFaultTest, ADeviceThatIsBusyAtFirstIsWaitedFor) {
  devices_[0]->fail_reads();
  start_tier();
  wait_for("waiting");
  EXPECT_EQ(write(0, 1), 0U);
  devices_[0]->recover();
  wait_for("healthy");
  EXPECT_EQ(write(0, 1), 1U);
}

// A power cut may leave any prefix of the last batch, sector by sector.
TEST_F(SsdFaultTest, ATornLastBatchCostsItsBlocksAlone) {
  start_ready();
  ASSERT_EQ(write(0, 6), 6U);
  stop_tier();
  const uint64_t data_offset = kSuperblockAreaBytes;
  AlignedBytes segment(kMiB);
  ASSERT_TRUE(devices_[0]->read_blocking(segment.data(), segment.size(), data_offset).ok());
  for (uint64_t cut = 0; cut < kMiB; cut += 16 * 512) {
    AlignedBytes torn(segment.size());
    std::memcpy(torn.data(), segment.data(), cut);
    ASSERT_TRUE(devices_[0]->write_blocking(torn.data(), torn.size(), data_offset).ok());
    start_ready();
    for (uint64_t number = 0; number < 6; ++number) {
      const ReadEnd end = read(number);  // right bytes or none: read() checks
      EXPECT_NE(end, ReadEnd::kHung);
    }
    EXPECT_EQ(write(1'000, 1'001), 1U);
    EXPECT_EQ(read(1'000), ReadEnd::kOk);
    stop_tier();
  }
}

// Every kind of fault at random, replayed by its seed: whatever is answered is right.
class SsdFaultStorm : public SsdFixture, public testing::WithParamInterface<uint64_t> {};

TEST_P(SsdFaultStorm, NobodyGetsWrongBytes) {
  timeout_ns_ = 100 * kNanosecondsPerMillisecond;
  devices_.clear();
  io::FaultDevice::Options options;
  options.seed = GetParam();
  options.slow_ms = 5;
  for (const DeviceFault fault : {DeviceFault::kIoError, DeviceFault::kShort, DeviceFault::kMisdirected,
                                  DeviceFault::kBitFlip, DeviceFault::kSlow}) {
    options.reads[fault] = 0.01;
    options.writes[fault] = 0.01;
  }
  options.writes[DeviceFault::kTorn] = options.writes[DeviceFault::kTornSilently] = 0.02;
  for (int i = 0; i < 2; ++i) {
    auto memory = io::MemoryDevice::create("storm" + std::to_string(i), {kDeviceBytes, 512});
    ASSERT_TRUE(memory.ok());
    // Ours before the faults begin, as a device in use is.
    ASSERT_TRUE(format_device(**memory, false).ok());
    devices_.push_back(std::make_unique<io::FaultDevice>(std::move(*memory), options));
  }
  std::mt19937_64 random(GetParam());
  unsigned good = 0;
  for (int round = 0; round < 3; ++round) {
    start_tier();
    for (int step = 0; step < 40; ++step) {
      const uint64_t first = random() % 1'000;
      write(first, first + 20, 1 + static_cast<uint32_t>(random() % kBlock));
      for (int i = 0; i < 20; ++i) {
        const uint64_t number = random() % 1'000;
        const unsigned shard = owner_of(number);
        const auto found = on_shard(shard, [&] { return tier_->shard(shard).find(key_of(number)); });
        if (found) good += read(number, 0, found->location.length_bytes) == ReadEnd::kOk ? 1 : 0;
      }
    }
    stop_tier();
  }
  EXPECT_GT(good, 0U);
}

INSTANTIATE_TEST_SUITE_P(Seeds, SsdFaultStorm, testing::Range<uint64_t>(1, 7));

}  // namespace
}  // namespace cached::ssd_tier
