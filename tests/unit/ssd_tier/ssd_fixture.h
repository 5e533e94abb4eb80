// A node's SSD tier over devices that outlive it: shards that run, devices in memory with faults in front of
// them, and a way to write and read blocks whose bytes are a function of their key.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/log.h"
#include "base/units.h"
#include "cached/io/fault_device.h"
#include "cached/io/memory_device.h"
#include "cached/ssd_tier/aligned_buffer.h"
#include "cached/ssd_tier/ssd_tier.h"
#include "shm/hash.h"
#include "shm/seq_table.h"
#include "tests/unit/io/reactor_fixture.h"

namespace cached::ssd_tier {

// Memory for direct I/O, zero at first.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t size)
      : buffer_(std::move(AlignedBuffer::copy_of(std::vector<std::byte>(size))).value()) {}
  std::byte* data() { return buffer_.data(); }
  size_t size() const { return buffer_.size(); }

 private:
  AlignedBuffer buffer_;
};

// A device that somebody else owns: what one "daemon" wrote is there for the next.
class BorrowedDevice : public io::Device {
 public:
  explicit BorrowedDevice(io::Device& device) : device_(device) {}
  const std::string& path() const override { return device_.path(); }
  io::DeviceGeometry geometry() const override { return device_.geometry(); }
  io::Task<int> readv(io::Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset) override {
    return device_.readv(reactor, iovecs, offset);
  }
  io::Task<int> writev(io::Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset) override {
    return device_.writev(reactor, iovecs, offset);
  }
  io::Task<int> sync(io::Reactor& reactor) override { return device_.sync(reactor); }
  Result<size_t> read_blocking(void* buffer, size_t length, uint64_t offset) override {
    return device_.read_blocking(buffer, length, offset);
  }
  Status write_blocking(const void* buffer, size_t length, uint64_t offset) override {
    return device_.write_blocking(buffer, length, offset);
  }
  Status sync_blocking() override { return device_.sync_blocking(); }
  void attach(io::Reactor& reactor) override { device_.attach(reactor); }
  void detach(io::Reactor& reactor) override { device_.detach(reactor); }

 private:
  io::Device& device_;
};

inline shm::BlockKey key_of(uint64_t number) {
  return {{0x5353, number + 1}, static_cast<uint32_t>(number % 7), 1, 0};
}

// Bytes [8 * index, 8 * index + 8) of a block.
inline uint64_t word_of(uint64_t number, uint64_t index) {
  return (number * 0x9E3779B97F4A7C15ULL + index) * 0xBF58476D1CE4E5B9ULL;
}

// `offset` in the block is a multiple of 8.
inline void fill(std::byte* bytes, uint64_t number, uint64_t offset, uint64_t length) {
  for (uint64_t at = 0; at < length; at += sizeof(uint64_t)) {
    const uint64_t word = word_of(number, (offset + at) / sizeof word);
    std::memcpy(bytes + at, &word, std::min(sizeof word, length - at));
  }
}

inline bool right(const std::byte* bytes, uint64_t number, uint64_t offset, uint64_t length) {
  for (uint64_t at = 0; at < length; at += sizeof(uint64_t)) {
    const uint64_t word = word_of(number, (offset + at) / sizeof word);
    if (std::memcmp(bytes + at, &word, std::min(sizeof word, length - at)) != 0) return false;
  }
  return true;
}

class SsdFixture : public testing::Test {
 protected:
  // Before any thread logs: the logger is made without locks.
  static void SetUpTestSuite() {
    ASSERT_TRUE(init_log({.program = "ssd_tier_test", .level = "error", .file = ""}).ok());
  }

  static constexpr unsigned kShards = 2;
  static constexpr uint64_t kDeviceBytes = 64 * kMiB;  // 63 segments of a megabyte
  static constexpr uint32_t kBlock = shm::kBlockBytes;

  void SetUp() override { add_device(kDeviceBytes); }
  void TearDown() override { stop_tier(); }

  // Another device, before start_tier().
  void add_device(uint64_t bytes, uint32_t block_bytes = 512) {
    auto memory = io::MemoryDevice::create("ssd" + std::to_string(devices_.size()), {bytes, block_bytes});
    ASSERT_TRUE(memory.ok()) << memory.status().message();
    devices_.push_back(
        std::make_unique<io::FaultDevice>(std::move(memory).value(), io::FaultDevice::Options{}));
  }

  // What a daemon is told of the devices.
  virtual std::vector<SsdTier::DeviceOptions> device_options() {
    std::vector<SsdTier::DeviceOptions> options;
    for (const auto& device : devices_) {
      io::FaultDevice* const target = device.get();
      options.push_back({target->path(), [target]() -> Result<std::unique_ptr<io::Device>> {
                           return std::unique_ptr<io::Device>(std::make_unique<BorrowedDevice>(*target));
                         }});
    }
    return options;
  }

  // Starts a daemon's SSD tier on the devices, without waiting for recovery.
  void start_tier() {
    for (unsigned i = 0; i < kShards; ++i) {
      reactors_.push_back(io::make_reactor({.name = "shard-" + std::to_string(i)}));
    }
    SsdTier::Options options;
    options.index_limit_bytes = 64 * kMiB;
    options.device_timeout_ns = timeout_ns_;
    options.memory_bytes = 16 * kMiB;
    options.devices = device_options();
    std::vector<io::Reactor*> pointers;
    for (const auto& reactor : reactors_) pointers.push_back(reactor.get());
    tier_ = std::make_unique<SsdTier>(options, pointers);
    for (unsigned i = 0; i < kShards; ++i) {
      tier_->writer(i).set_done(finish_offer);
    }
    for (const auto& reactor : reactors_) reactor->start();
    tier_->start();
  }
  void start_ready() {
    start_tier();
    for (size_t i = 0; i < devices_.size(); ++i) wait_for("healthy", i);
  }
  // As a daemon ends, or dies: what was not written is lost.
  void stop_tier() {
    if (!tier_) return;
    tier_->stop();
    for (const auto& device : devices_) device->release();
    for (const auto& reactor : reactors_) reactor->stop();
    tier_.reset();
    reactors_.clear();
  }
  void restart() {
    stop_tier();
    start_ready();
  }

  static bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 3000; ++i) {
      if (condition()) return true;
      ::usleep(10'000);
    }
    return false;
  }
  void wait_for(const std::string& state, size_t device = 0) {
    EXPECT_TRUE(eventually([&] { return tier_->devices()[device]->state_name() == state; }))
        << "is " << tier_->devices()[device]->state_name() << ": " << tier_->devices()[device]->reason();
  }

  unsigned owner_of(uint64_t number) const {
    return shm::partition_of_hash(shm::hash_extent(key_of(number)), kShards);
  }
  template <typename Work>
  auto on_shard(unsigned shard, Work work) {
    std::promise<decltype(work())> answer;
    reactors_[shard]->post([&] { answer.set_value(work()); });
    return answer.get_future().get();
  }

  // An offer that waits for its end. Its memory is the test's.
  struct Pending {
    std::unique_ptr<AlignedBytes> bytes;
    std::promise<bool> done;
  };
  static std::unordered_map<const std::byte*, std::shared_ptr<Pending>>& pending() {
    static std::unordered_map<const std::byte*, std::shared_ptr<Pending>> all;
    return all;
  }
  static std::mutex& pending_mutex() {
    static std::mutex mutex;
    return mutex;
  }
  static void finish_offer(const Writer::Offer& offer, bool written) {
    std::shared_ptr<Pending> ended;
    {
      const std::lock_guard lock(pending_mutex());
      ended = pending().at(offer.data);
      pending().erase(offer.data);
    }
    ended->done.set_value(written);
  }

  // Offers a block; the future tells whether it was written. False at once: it was not accepted.
  std::future<bool> offer(uint64_t number, uint32_t length = kBlock) {
    auto entry = std::make_shared<Pending>();
    entry->bytes = std::make_unique<AlignedBytes>(align_up(length, 4096));
    fill(entry->bytes->data(), number, 0, length);
    std::future<bool> future = entry->done.get_future();
    {
      const std::lock_guard lock(pending_mutex());
      pending()[entry->bytes->data()] = entry;
    }
    const unsigned shard = owner_of(number);
    const bool accepted = on_shard(shard, [&] {
      if (!tier_->writer(shard).accepts(length)) return false;
      tier_->writer(shard).offer({key_of(number), {}, entry->bytes->data(), length});
      return true;
    });
    if (!accepted) finish_offer({key_of(number), {}, entry->bytes->data(), length}, false);
    return future;
  }
  // Writes blocks [first, last) and waits; how many got there.
  unsigned write(uint64_t first, uint64_t last, uint32_t length = kBlock) {
    std::vector<std::future<bool>> offers;
    unsigned written = 0;
    for (uint64_t number = first; number < last; ++number) {
      offers.push_back(offer(number, length));
      if (offers.size() < 64 && number + 1 < last) continue;
      for (std::future<bool>& future : offers) written += future.get() ? 1 : 0;
      offers.clear();
    }
    return written;
  }

  bool has(uint64_t number) {
    const unsigned shard = owner_of(number);
    return on_shard(shard, [&] { return tier_->shard(shard).find(key_of(number)).has_value(); });
  }
  unsigned count(uint64_t first, uint64_t last) {
    unsigned found = 0;
    for (uint64_t number = first; number < last; ++number) found += has(number) ? 1 : 0;
    return found;
  }

  // Reads bytes [start, start + length) of a block, which must be whole chunks; wrong bytes fail the test.
  ReadEnd read(uint64_t number, uint32_t start = 0, uint32_t length = kBlock) {
    const unsigned shard = owner_of(number);
    auto memory = std::make_shared<AlignedBytes>(align_up(length, 4096));
    const auto late = std::make_shared<std::promise<void>>();
    last_late_end_ = late->get_future();
    const ReadEnd end = io::run_on(*reactors_[shard], [=, this]() -> io::Task<ReadEnd> {
      std::vector<ReadPiece> pieces{{key_of(number), start, length, memory->data()}};
      std::function<void()> late_end = [memory, late] { late->set_value(); };
      co_return co_await tier_->shard(shard).read(std::move(pieces), std::move(late_end));
    });
    if (end == ReadEnd::kOk) {
      EXPECT_TRUE(right(memory->data(), number, start, length)) << "block " << number;
    }
    return end;
  }

  const DeviceFigures& figures(size_t device = 0) const { return tier_->devices()[device]->figures(); }
  uint64_t faults(Fault fault, size_t device = 0) const {
    return figures(device).faults[static_cast<unsigned>(fault)].load();
  }

  uint64_t timeout_ns_ = kNanosecondsPerSecond;
  std::vector<std::unique_ptr<io::FaultDevice>> devices_;
  std::vector<std::unique_ptr<io::Reactor>> reactors_;
  std::unique_ptr<SsdTier> tier_;
  std::future<void> last_late_end_;  // of the last read(), if it hung
};

}  // namespace cached::ssd_tier
