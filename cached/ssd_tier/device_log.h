// DeviceLog: one cache SSD: which of its segments hold what, who writes where, and whether it is trusted.
//
// Ownership. Everything here belongs to the device's home shard, but for what is marked "any thread": the
// state, the figures and the sequences of segments, which are atomics. The other shards have no part in the
// segment table; they ask for a segment to write (open_segment) and hand it back full (close_segment). What
// the segments hold is in the shards' indexes: an entry belongs to the shard that owns its extent, wherever
// it lies.
//
// A segment's life:
//   free -> open (one shard writes it from end to end) -> closed (its footer is written) -> evicting -> free
// When no segment is free, open_segment() evicts a closed one: every shard forgets its entries in it and
// waits for its own reads in flight there (SsdShard::drop_segment), and only then is it anybody's to
// overwrite. So a read never meets the bytes of another life of its segment; the checksums, which are seeded
// with the segment's sequence, would show it if it did.
//
// Start. A thread of its own opens the device, waits for its lock (a dead daemon's commands may still be in
// the kernel: they hold it until they ended), reads the superblock, counts the start, and walks the segments
// (read_segment() in inspect.h: by their footers, an open one by its batches). Entries go to the shards that
// own them as they are found and serve reads at once; writing begins when the walk is through.
//
// A device that fails is left out (health.h): the daemon goes on with the others, with memory and the origin.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "cached/io/device.h"
#include "cached/io/reactor.h"
#include "cached/io/task.h"
#include "cached/ssd_tier/format.h"
#include "cached/ssd_tier/health.h"
#include "cached/ssd_tier/segment_scan.h"
#include "cached/ssd_tier/ssd_index.h"
#include "cached/ssd_tier/superblock.h"
#include "cached/ssd_tier/victim.h"

namespace cached::ssd_tier {

class SsdShard;

// What is shown of a device. Any thread adds.
struct DeviceFigures {
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> read_bytes{0};
  std::atomic<uint64_t> writes{0};
  std::atomic<uint64_t> write_bytes{0};     // headers and footers included
  std::atomic<uint64_t> admitted_bytes{0};  // of content
  std::array<std::atomic<uint64_t>, kFaultKinds> faults{};
  std::atomic<uint64_t> recovered_entries{0};
  std::atomic<uint64_t> recovery_ms{0};
};

enum class DevicePhase : uint8_t {
  kWaiting,     // for the device, or for its lock
  kRecovering,  // readable as far as it was read
  kReady,
  kDraining,
  kDrained,
  kRefused,  // foreign content, or it cannot be used; the reason says why
};

class DeviceLog {
 public:
  // Opens the device, anew for each try; a file that was closed takes its lock along.
  using Opener = std::function<Result<std::unique_ptr<io::Device>>()>;
  struct Options {
    std::string path;  // to show
    Opener open;
    unsigned number = 0;        // in the index's entries
    unsigned queue_depth = 64;  // commands of each shard in flight on it
    uint64_t probe_timeout_ns = kNanosecondsPerSecond;
    std::function<void()> on_change;  // it is written from now on, or no more. On the home shard
  };
  DeviceLog(Options options, io::Reactor& home);
  ~DeviceLog();
  DeviceLog(const DeviceLog&) = delete;
  DeviceLog& operator=(const DeviceLog&) = delete;

  // Starts the opening thread. `shards` are all of them, in order, and outlive this.
  void start(std::vector<SsdShard*> shards);
  // Ends that thread (at the pace of a read of the device). Before the reactors stop. Idempotent.
  void stop();

  // Any thread.
  const std::string& path() const { return options_.path; }
  unsigned number() const { return options_.number; }
  unsigned queue_depth() const { return options_.queue_depth; }
  DevicePhase phase() const { return phase_.load(std::memory_order_acquire); }
  HealthState health() const { return health_state_.load(std::memory_order_acquire); }
  bool readable() const {
    const DevicePhase now = phase();
    return (now == DevicePhase::kReady || now == DevicePhase::kRecovering || now == DevicePhase::kDraining) &&
           health() == HealthState::kHealthy;
  }
  bool writable() const { return phase() == DevicePhase::kReady && health() == HealthState::kHealthy; }
  // Segments that can be had without eviction.
  uint32_t free_segments() const { return free_count_.load(std::memory_order_relaxed); }
  // "healthy", "recovering", ...: one word for phase and health; why, if it is not in use.
  std::string state_name() const;
  std::string reason() const;
  DeviceFigures& figures() { return figures_; }
  const DeviceFigures& figures() const { return figures_; }

  // Any thread, once the device is readable.
  io::Device& device() { return *device_; }
  const Layout& layout() const { return superblock_.layout; }
  uint64_t sequence_of(uint32_t segment) const { return sequences_[segment].load(std::memory_order_relaxed); }
  // `bytes` of the segment were read, or written into it.
  void count_reference(uint32_t segment, uint32_t bytes) {
    references_[segment].fetch_add(bytes, std::memory_order_relaxed);
  }

  // Called on any reactor, which is `caller`; ends there. A segment to write, evicting one if need be, in
  // order of arrival. Nothing: the device is not writable, or there is no segment to evict.
  io::Task<std::optional<SegmentName>> open_segment(io::Reactor& caller);
  // Called and ended likewise: gives a closed segment up, because its entries take room in the index that is
  // needed.
  io::Task<void> give_up_segment(io::Reactor& caller);
  // The segment is full and its footer written, or its writing failed. Any thread.
  void close_segment(uint32_t segment);
  // A command failed. Any thread.
  void report(Fault fault);
  // Stops writing to the device and begins to forget what it holds, segment by segment; what is still there
  // is served. Called on `caller`; ends there, before the device is empty. EBUSY: not in use now; EALREADY:
  // done before.
  io::Task<Status> drain(io::Reactor& caller);
  // Takes that back: the device is written again and keeps what it still holds. EINVAL: it is not draining or
  // drained.
  io::Task<Status> undrain(io::Reactor& caller);

  struct SegmentCounts {
    uint32_t total = 0;
    uint32_t free = 0;
    uint32_t open = 0;
  };
  // Home shard.
  SegmentCounts segment_counts() const;
  bool is_home(const io::Reactor& reactor) const { return &reactor == &home_; }
  // AdmissionPolicy::heat_tick() has grown: what was referenced until now counts for the time before.
  void take_references(uint32_t heat_tick);

 private:
  enum class Use : uint8_t { kFree, kOpen, kClosed, kEvicting };

  // The opening thread.
  void run();
  Status open_and_check();
  void recover_segments();
  uint64_t estimate_entries();
  // Recovered entries that wait for being handed to a shard, by shard and group (the hash's topmost bits).
  using WaitingEntries = std::vector<std::vector<RecoveredEntry>>;
  void recover_segment(SegmentScan& scan, uint32_t segment, WaitingEntries* waiting);
  void introduce_to_shards();
  void post_entries(unsigned shard, std::vector<RecoveredEntry> entries);
  void set_phase(DevicePhase phase, std::string reason = {});
  bool pause(uint64_t duration_ms);
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }

  // Home shard.
  void take_over();
  std::optional<uint32_t> take_free();
  void make_free(uint32_t segment);
  std::optional<uint32_t> choose_victim();
  io::Task<bool> evict_one();
  io::Task<void> empty_segment(uint32_t segment);
  io::Task<void> empty_all();
  void record(Fault fault);
  io::Task<void> probe_until_well();
  io::Task<bool> probe();

  const Options options_;
  io::Reactor& home_;
  std::vector<SsdShard*> shards_;
  std::unique_ptr<io::Device> device_;  // set by the opening thread before the phase says so
  Superblock superblock_;
  std::atomic<DevicePhase> phase_{DevicePhase::kWaiting};
  std::atomic<HealthState> health_state_{HealthState::kHealthy};
  std::atomic<uint32_t> free_count_{0};
  std::vector<std::atomic<uint64_t>> sequences_;
  std::vector<std::atomic<uint64_t>> references_;  // bytes, since the last take_references()
  DeviceFigures figures_;

  std::vector<Use> recovered_;  // the opening thread's, until take_over()

  // Home shard's own.
  std::vector<Use> segments_;
  std::deque<uint32_t> free_;
  DeviceHealth health_;
  std::optional<VictimChooser> victims_;
  uint32_t heat_tick_ = 0;
  bool emptying_ = false;
  uint32_t fillings_ = 0;                // since this start
  std::shared_ptr<io::Event> eviction_;  // while one runs
  bool probing_ = false;

  mutable std::mutex mutex_;  // guards reason_ and the pausing of the opening thread
  std::condition_variable wake_;
  std::string reason_;
  unsigned posts_in_flight_ = 0;  // of recovered entries
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace cached::ssd_tier
