// The storm: every kind of fault at random on two devices, under readers of everything, while devices hang,
// come back, are drained and used again, and daemons follow one another on the same devices. The origin is
// healthy, so nobody may see an error or a wrong byte. The seed replays what comes (faults, reads and
// events); how threads interleave is the machine's.
#include <random>
#include <thread>

#include "tests/unit/readpath/ssd_path_fixture.h"

namespace cached::readpath {
namespace {

using DeviceFault = io::Fault;

class SsdStorm : public SsdPathFixture, public testing::WithParamInterface<uint64_t> {
 protected:
  static constexpr unsigned kReaders = 4;
  static constexpr unsigned kDaemons = 4;  // one after another
  static constexpr uint64_t kObjects = 40;

  void SetUp() override {
    random_.seed(GetParam());
    object_bytes_ = 5 * kMiB + 4'321;  // 200 MiB in all: more than the devices hold, and far more than memory
    settings_.shards = 2;
    settings_.regions = 4;  // 8 MiB
    settings_.queue_limit_bytes = 4 * kMiB;
    settings_.timeout_ns = 60 * kNanosecondsPerMillisecond;
    settings_.read_path.slot_wait_ns = 5 * kNanosecondsPerMillisecond;
    io::FaultDevice::Options options;
    options.slow_ms = 10;
    for (const DeviceFault fault : {DeviceFault::kIoError, DeviceFault::kTimeout, DeviceFault::kShort,
                                    DeviceFault::kMisdirected, DeviceFault::kBitFlip, DeviceFault::kSlow}) {
      options.reads[fault] = 0.003;
      options.writes[fault] = 0.01;
    }
    options.writes[DeviceFault::kTorn] = options.writes[DeviceFault::kTornSilently] = 0.01;
    for (uint64_t i = 0; i < 2; ++i) {
      options.seed = 2 * GetParam() + i;
      add_device(options);
    }
  }

  // Reads at random until told to stop, every third one among a few hot objects.
  void read_all_the_time(uint64_t seed) {
    std::mt19937_64 random(seed);
    while (!stop_) {
      const uint64_t object = random() % 3 == 0 ? random() % 4 : random() % kObjects;
      const uint64_t offset = random() % object_bytes_;
      const uint64_t extent_end =
          std::min(align_down(offset, shm::kExtentBytes) + shm::kExtentBytes, object_bytes_);
      const uint64_t wanted =
          random() % 2 == 0 ? 1 + random() % 30'000 : 1 + random() % shm::kMaximumReadBytes;
      const auto length = static_cast<uint32_t>(std::min(wanted, extent_end - offset));
      if (random() % 8 == 0) prefetch(object, offset, length);
      const Answer answer = read(object, offset, length);
      const bool good = answer.ok() && right(answer);
      unpin(answer);
      if (!good) {
        ADD_FAILURE() << "object " << object << " at " << offset << ", " << length << " bytes: error "
                      << answer.result.outcome.error;
      }
      ++reads_;
    }
  }

  void wait_for_reads(uint64_t more) {
    const uint64_t until = reads_ + more;
    EXPECT_TRUE(eventually([&] {
      for (const auto& device : devices_) device->carry_out();  // what hung until now happens late
      return reads_ >= until;
    }));
  }

  void one_event() {
    const size_t number = random_() % devices_.size();
    io::FaultDevice& device = *devices_[number];
    ssd_tier::DeviceLog& log = *ssd_->devices()[number];
    io::Reactor& reactor = *shards_[random_() % settings_.shards]->reactor;
    switch (random_() % 4) {
      case 0:
        device.script({io::FaultTarget::kRead, DeviceFault::kHang, 1 + random_() % 5});
        ::usleep(100'000);  // longer than the time-out: whoever met it goes to the origin
        break;
      case 1:
        device.script({io::FaultTarget::kWrite, DeviceFault::kHang, 1});
        break;
      default:
        if (log.phase() == ssd_tier::DevicePhase::kReady) {
          EXPECT_TRUE(io::run_on(reactor, [&] { return log.drain(reactor); }).ok());
        } else if (log.phase() >= ssd_tier::DevicePhase::kDraining &&
                   log.phase() <= ssd_tier::DevicePhase::kDrained) {
          EXPECT_TRUE(io::run_on(reactor, [&] { return log.undrain(reactor); }).ok());
        }
    }
  }

  uint64_t ssd_hits() {
    uint64_t hits = 0;
    for (unsigned i = 0; i < settings_.shards; ++i) {
      hits += on_shard(i, [&] { return ssd_->shard(i).stats().hits; });
    }
    return hits;
  }

  // Faults are over: devices that were left alone come back under the readers.
  void fair_weather() {
    for (size_t i = 0; i < devices_.size(); ++i) {
      devices_[i]->recover();
      ssd_tier::DeviceLog& log = *ssd_->devices()[i];
      // Refused for good, if misdirected writes have hit both copies of its superblock.
      if (log.phase() == ssd_tier::DevicePhase::kRefused) continue;
      io::Reactor& reactor = *shards_[0]->reactor;
      if (log.phase() >= ssd_tier::DevicePhase::kDraining) {
        EXPECT_TRUE(io::run_on(reactor, [&] { return log.undrain(reactor); }).ok());
      }
      wait_for_state("healthy", i);
    }
    wait_for_reads(100);
  }

  void one_daemon(unsigned events, bool last) {
    stop_ = false;
    start();
    std::vector<std::thread> readers;
    for (unsigned i = 0; i < kReaders; ++i)
      readers.emplace_back([this, seed = random_()] { read_all_the_time(seed); });
    for (unsigned i = 0; i < events; ++i) {
      wait_for_reads(40);
      one_event();
    }
    wait_for_reads(40);
    if (last) fair_weather();
    stop_ = true;
    for (const auto& device : devices_) device->carry_out();
    for (std::thread& reader : readers) reader.join();
    hits_ += ssd_hits();
    // Hung writes hold their blocks until they have happened.
    EXPECT_TRUE(eventually([&] {
      for (const auto& device : devices_) device->carry_out();
      return memory_stats(0).slots_pinned + memory_stats(1).slots_pinned == 0;
    }));
    stop();
  }

  std::mt19937_64 random_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> reads_{0};
  uint64_t hits_ = 0;  // of blocks on SSDs
};

TEST_P(SsdStorm, NobodySeesAnErrorOrAWrongByte) {
  for (unsigned daemon = 0; daemon < kDaemons; ++daemon) one_daemon(4, daemon + 1 == kDaemons);
  EXPECT_GT(hits_, 0U);
  RecordProperty("reads", std::to_string(reads_));
  RecordProperty("ssd_hits", std::to_string(hits_));
}

INSTANTIATE_TEST_SUITE_P(Seeds, SsdStorm, testing::Range<uint64_t>(1, 7));

}  // namespace
}  // namespace cached::readpath
