// A daemon's read paths with an SSD tier between memory and origin: shards that run, memory in regions of
// their own, devices in memory that outlive the daemon, with faults in front of them, and a scripted origin
// for each shard.
#pragma once

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <vector>

#include "base/log.h"
#include "cached/memory_tier/shared_memory.h"
#include "cached/readpath/read_path.h"
#include "tests/unit/readpath/scripted_source.h"
#include "tests/unit/ssd_tier/ssd_fixture.h"

namespace cached::readpath {

class SsdPathFixture : public testing::Test {
 protected:
  // Before any thread logs: the logger is made without locks.
  static void SetUpTestSuite() {
    ASSERT_TRUE(init_log({.program = "readpath_test", .level = "error", .file = ""}).ok());
  }

  static constexpr uint32_t kBlock = shm::kBlockBytes;
  static constexpr uint64_t kDeviceBytes = 64 * kMiB;  // 63 segments of a megabyte
  static constexpr uint64_t kArenaBytes = 64 * kMiB;

  struct Settings {
    unsigned shards = 1;
    uint64_t regions = 16;  // of each shard, of 2 MiB: 16 blocks
    uint64_t queue_limit_bytes = 64 * kMiB;
    uint64_t timeout_ns = kNanosecondsPerSecond;
    ReadPath::Options read_path;
  };
  // A read and what became of it.
  struct Answer {
    ReadRequest request;
    unsigned shard = 0;
    std::shared_ptr<ssd_tier::AlignedBytes> buffer;  // as clients have it, whole pages
    ReadResult result;
    bool ok() const { return result.outcome.ok(); }
  };

  template <typename Work>
  auto on_shard(unsigned shard, Work work) {
    std::promise<decltype(work())> answer;
    shards_[shard]->reactor->post([&] { answer.set_value(work()); });
    return answer.get_future().get();
  }

  void TearDown() override {
    stop();
    devices_.clear();
  }

  // Another device, before start().
  void add_device(const io::FaultDevice::Options& options = {}) {
    auto memory = io::MemoryDevice::create("ssd" + std::to_string(devices_.size()), {kDeviceBytes, 512});
    ASSERT_TRUE(memory.ok()) << memory.status().message();
    // Ours before faults begin, as a device in use is.
    ASSERT_TRUE(ssd_tier::format_device(**memory, false).ok());
    devices_.push_back(std::make_unique<io::FaultDevice>(std::move(*memory), options));
  }

  // Starts a daemon on the devices, without waiting for recovery.
  void start() {
    memory_tier::SharedMemory::Options memory;
    memory.arena_bytes = kArenaBytes;
    memory.name_entries = 4096;
    memory.shards = settings_.shards;
    memory_ = std::move(memory_tier::SharedMemory::create(memory)).value();
    std::vector<io::Reactor*> reactors;
    for (unsigned i = 0; i < settings_.shards; ++i) {
      shards_.push_back(make_shard(i));
      reactors.push_back(shards_.back()->reactor.get());
    }
    ssd_ = std::make_unique<ssd_tier::SsdTier>(ssd_options(), reactors);
    for (unsigned i = 0; i < settings_.shards; ++i) connect(i);
    for (const auto& shard : shards_) shard->reactor->start();
    ssd_->start();
  }
  void start_ready() {
    start();
    for (size_t i = 0; i < devices_.size(); ++i) wait_for_state("healthy", i);
  }
  // As a daemon ends: readers have their answers, no pin is left, and memory is in order.
  void stop() {
    if (!ssd_) return;
    for (unsigned i = 0; i < shards_.size(); ++i) expect_no_pins(i);
    ssd_->stop();
    for (const auto& device : devices_) device->release();
    for (const auto& shard : shards_) shard->reactor->stop();
    shards_.clear();
    ssd_.reset();
    memory_.reset();
  }
  void restart() {
    stop();
    start_ready();
  }
  void expect_no_pins(unsigned shard) {
    // Writes may be under way.
    const bool none = eventually([&] { return memory_stats(shard).slots_pinned == 0; });
    EXPECT_TRUE(none) << memory_stats(shard).slots_pinned << " slots are pinned";
    EXPECT_EQ(on_shard(shard, [&] { return shards_[shard]->tier->check(); }), "");
  }

  static bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 6000; ++i) {
      if (condition()) return true;
      ::usleep(5'000);
    }
    return false;
  }
  void wait_for_state(const std::string& state, size_t device = 0) {
    EXPECT_TRUE(eventually([&] { return ssd_->devices()[device]->state_name() == state; }))
        << "is " << ssd_->devices()[device]->state_name() << ": " << ssd_->devices()[device]->reason();
  }
  memory_tier::MemoryTierStats memory_stats(unsigned shard = 0) {
    return on_shard(shard, [&] { return shards_[shard]->tier->stats(); });
  }
  ReadPathStats path_stats(unsigned shard = 0) {
    return on_shard(shard, [&] { return shards_[shard]->read_path->stats(); });
  }
  ScriptedSource& source(unsigned shard = 0) { return shards_[shard]->source; }
  size_t origin_reads(unsigned shard = 0) {
    return on_shard(shard, [&] { return source(shard).reads.size(); });
  }
  const ssd_tier::DeviceFigures& figures(size_t device = 0) const {
    return ssd_->devices()[device]->figures();
  }

  static shm::BlockKey key_of(uint64_t object, uint64_t offset) {
    return {{7, object}, static_cast<uint32_t>(offset / kBlock), 1, 0};
  }
  unsigned owner_of(uint64_t object, uint64_t offset) const {
    return shm::partition_of_hash(shm::hash_extent(key_of(object, offset)), settings_.shards);
  }

  Answer ask_for(uint64_t object, uint64_t offset, uint32_t length) {
    Answer answer;
    answer.shard = owner_of(object, offset);
    answer.buffer = std::make_shared<ssd_tier::AlignedBytes>(
        align_up(length + shm::kReadBufferSlackBytes, shm::kPageBytes));
    answer.request.volume = 1;
    answer.request.source = &source(answer.shard);
    answer.request.object = {7, object};
    answer.request.offset = offset;
    answer.request.length = length;
    answer.request.buffer = answer.buffer->data();
    answer.request.buffer_bytes = answer.buffer->size();
    return answer;
  }
  std::future<Answer> start_read(uint64_t object, uint64_t offset, uint32_t length) {
    Answer asked = ask_for(object, offset, length);
    ReadPath* const path = shards_[asked.shard]->read_path.get();
    io::Reactor& reactor = *shards_[asked.shard]->reactor;
    return io::start_on(reactor, [asked, path]() -> io::Task<Answer> {
      Answer answer = asked;
      answer.result = co_await path->read(answer.request);
      co_return answer;
    });
  }
  Answer read(uint64_t object, uint64_t offset, uint32_t length) {
    return start_read(object, offset, length).get();
  }
  void prefetch(uint64_t object, uint64_t offset, uint32_t length) {
    const Answer asked = ask_for(object, offset, length);
    ReadPath* const path = shards_[asked.shard]->read_path.get();
    io::run_on(*shards_[asked.shard]->reactor,
               [&]() -> io::Task<void> { co_await path->prefetch(asked.request); });
  }
  void unpin(const Answer& answer) {
    on_shard(answer.shard, [&] {
      for (const ReadResult::Pinned& piece : answer.result.pieces)
        shards_[answer.shard]->read_path->unpin(piece.slot);
      return 0;
    });
  }
  // Whether every byte of a good answer is that of its object.
  bool right(const Answer& answer) const {
    uint64_t at = answer.request.offset;
    const uint64_t end = at + answer.request.length;
    const auto run = [&](const std::byte* bytes, uint64_t length) {
      for (uint64_t i = 0; i < length; ++i, ++at) {
        if (bytes[i] != expected_byte(answer.request.object, at)) return false;
      }
      return true;
    };
    if (answer.result.in_buffer) {
      return run(answer.buffer->data() + answer.result.buffer_offset, answer.request.length);
    }
    for (const ReadResult::Pinned& piece : answer.result.pieces) {
      if (!run(memory_->arena() + piece.extent.arena_offset_bytes, piece.extent.length)) return false;
    }
    return at == end;
  }
  // Reads, proves every byte, gives the pins back.
  void expect_read(uint64_t object, uint64_t offset, uint32_t length) {
    expect_answer(read(object, offset, length));
  }
  void expect_answer(const Answer& answer) {
    EXPECT_EQ(answer.result.outcome.error, 0);
    EXPECT_TRUE(!answer.ok() || right(answer))
        << "object " << answer.request.object.low << " at " << answer.request.offset;
    unpin(answer);
  }

  bool on_ssd(uint64_t object, uint64_t offset) {
    const unsigned shard = owner_of(object, offset);
    return on_shard(shard, [&] { return ssd_->shard(shard).find(key_of(object, offset)).has_value(); });
  }
  bool in_memory(uint64_t object, uint64_t offset) {
    const unsigned shard = owner_of(object, offset);
    return on_shard(shard, [&] { return shards_[shard]->tier->find(key_of(object, offset), 0).has_value(); });
  }
  unsigned blocks_in_memory(uint64_t object, unsigned blocks) {
    unsigned present = 0;
    for (unsigned block = 0; block < blocks; ++block)
      present += in_memory(object, uint64_t{block} * kBlock) ? 1 : 0;
    return present;
  }
  void wait_until_written(uint64_t object, uint64_t offset, uint32_t length) {
    for (uint64_t at = offset; at < offset + length; at += kBlock) {
      EXPECT_TRUE(eventually([&] { return on_ssd(object, at); })) << "object " << object << " at " << at;
    }
  }
  void forget_memory() {
    for (unsigned i = 0; i < shards_.size(); ++i) {
      // The writer gives its pin back a moment after the entry is in the index.
      EXPECT_TRUE(eventually([&] { return memory_stats(i).slots_pinned == 0; }));
      on_shard(
          i, [&] { return shards_[i]->tier->evict_if([](const shm::BlockKey&, uint64_t) { return true; }); });
    }
  }
  // Makes the SSDs, and nothing else, hold these blocks. `offset` is that of a block.
  void put_on_ssd(uint64_t object, uint64_t offset, uint32_t length) {
    for (uint64_t at = offset; at < offset + length; at += shm::kMaximumReadBytes) {
      const auto part =
          static_cast<uint32_t>(std::min<uint64_t>(shm::kMaximumReadBytes, offset + length - at));
      expect_read(object, at, part);
    }
    wait_until_written(object, offset, length);
    forget_memory();
  }

  struct Shard {
    ScriptedSource source;
    std::unique_ptr<io::Reactor> reactor;
    std::unique_ptr<memory_tier::MemoryTier> tier;
    std::unique_ptr<ReadPath> read_path;
  };

  std::unique_ptr<Shard> make_shard(unsigned index) {
    auto shard = std::make_unique<Shard>();
    shard->source.object_bytes = object_bytes_;
    shard->reactor = io::make_reactor({.name = "shard-" + std::to_string(index)});
    memory_tier::MemoryTier::Options options;
    options.arena = memory_->arena();
    options.first_region = index * settings_.regions;
    options.region_count = settings_.regions;
    options.scan_hazards = [](std::vector<uint32_t>*) {};
    options.prepare_region = [this](uint64_t region) { return memory_->prepare_region(region); };
    shard->tier = std::make_unique<memory_tier::MemoryTier>(options, memory_->block_writer(index));
    shard->read_path = std::make_unique<ReadPath>(*shard->reactor, *shard->tier, settings_.read_path);
    return shard;
  }
  ssd_tier::SsdTier::Options ssd_options() const {
    ssd_tier::SsdTier::Options options;
    options.index_limit_bytes = 64 * kMiB;
    options.queue_limit_bytes = settings_.queue_limit_bytes;
    options.device_timeout_ns = settings_.timeout_ns;
    options.memory_bytes = settings_.shards * settings_.regions * memory_tier::kRegionBytes;
    for (const auto& device : devices_) {
      io::FaultDevice* const target = device.get();
      options.devices.push_back({target->path(), [target]() -> Result<std::unique_ptr<io::Device>> {
                                   return std::unique_ptr<io::Device>(
                                       std::make_unique<ssd_tier::BorrowedDevice>(*target));
                                 }});
    }
    return options;
  }
  void connect(unsigned index) {
    std::vector<unsigned> depths;
    for (const auto& device : ssd_->devices()) depths.push_back(device->queue_depth());
    ReadPath* const path = shards_[index]->read_path.get();
    path->set_ssd({&ssd_->shard(index), &ssd_->writer(index), &ssd_->policy(index)}, depths);
    ssd_->writer(index).set_done(
        [path](const ssd_tier::Writer::Offer& offer, bool written) { path->written_to_ssd(offer, written); });
  }

  Settings settings_;
  uint64_t object_bytes_ = 64 * kMiB;
  std::vector<std::unique_ptr<io::FaultDevice>> devices_;
  std::unique_ptr<memory_tier::SharedMemory> memory_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::unique_ptr<ssd_tier::SsdTier> ssd_;
};

}  // namespace cached::readpath
