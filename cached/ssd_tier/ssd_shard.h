// SsdShard: one shard's part of the SSD tier: the index of its blocks, its reads, and what it offers for
// writing.
//
// Reads. The caller brings memory for pieces of neighbouring blocks; they are looked up at that moment, read
// with one command if they lie side by side, and every chunk's checksum is proved before the caller hears of
// success. A failure is tried once more, then the entries are dropped: the caller asks the origin. A command
// that takes longer than the device's time-out costs its caller that time and no more; its memory stays taken
// until the kernel has ended it, which `late_end` tells.
//
// Holding segments. A command in flight holds the segment that it reads, or that the shard's writer writes,
// in a count kept here, until the kernel has ended it. drop_segment() first forgets the shard's entries, so
// that no new read starts, and takes the segment away from the writer, and then waits for the count.
//
// Threads: the shard's own, throughout.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/histogram.h"
#include "cached/io/reactor.h"
#include "cached/io/task.h"
#include "cached/ssd_tier/admission.h"
#include "cached/ssd_tier/device_log.h"
#include "cached/ssd_tier/ssd_index.h"
#include "shm/types.h"

namespace cached::ssd_tier {

class Writer;

struct SsdShardStats {
  uint64_t hits = 0;  // blocks, or parts of one
  uint64_t hit_bytes = 0;
  uint64_t misses = 0;  // blocks that were on no device
  uint64_t index_entries = 0;
  uint64_t index_bytes = 0;
  uint64_t live_bytes = 0;
};

// A piece of a block to read: whole chunks, the block's last one as far as it goes.
struct ReadPiece {
  shm::BlockKey key;
  uint32_t start = 0;           // in the block, a multiple of shm::kChunkBytes
  uint32_t length = 0;          // bytes
  std::byte* memory = nullptr;  // room for `length` rounded up to 4 KiB
};

enum class ReadEnd : uint8_t {
  kOk,
  kFailed,  // the entries are gone, or the device is: ask the origin
  kHung,    // the same, and the memory is in use until `late_end` was called
};

class SsdShard {
 public:
  struct Options {
    uint64_t index_limit_bytes = 0;
    uint64_t device_timeout_ns = kNanosecondsPerSecond;
  };
  SsdShard(io::Reactor& reactor, const Options& options, AdmissionPolicy& policy,
           std::vector<DeviceLog*> devices);
  // Who is told of reads, to make way for them; before the first one.
  void set_writer(Writer* writer) { writer_ = writer; }

  // Where `key` is, if it is on a device that is in use.
  std::optional<Found> find(const shm::BlockKey& key) const;
  // A read missed memory and asked for a block of `block_bytes`: what the policy learns from.
  void note_lookup(const shm::BlockKey& key, uint32_t block_bytes, bool hit);
  // For accounting: the block belongs to `key.data_set` now, if it is on a device.
  void retag(const shm::BlockKey& key) { index_.retag(key); }
  // Takes a block out of the shard's index; with `dry_run` only says what that would be. What lies on the
  // device stays there until its segment is written anew, so a start before that finds it again.
  SsdIndex::Removed evict(const shm::BlockKey& key, bool dry_run) { return index_.evict(key, dry_run); }
  // The same for the entries of a segment whose data set `matches`, if none of the segment's was used for
  // `idle_ns`.
  SsdIndex::Removed evict_in_segment(unsigned device, uint32_t segment,
                                     const std::function<bool(uint16_t)>& matches, uint64_t idle_ns,
                                     bool dry_run);
  uint32_t segment_count(unsigned device) const { return index_.segment_count(device); }
  unsigned device_count() const { return static_cast<unsigned>(lanes_.size()); }
  // Whether `next` starts where `entry` ends, so that one command reads both.
  bool adjacent(const Found& entry, const Found& next) const;

  // Reads pieces of neighbouring entries; several only if each is a whole block and all are adjacent.
  // `late_end` is called once, after kHung only.
  io::Task<ReadEnd> read(std::vector<ReadPiece> pieces, std::function<void()> late_end);

  // A block was written. False: the index is at its limit.
  bool insert(const shm::BlockKey& key, const Location& location, const Checksums& checksums);
  // A device is about to deliver about so many recovered entries.
  void expect_recovered(uint64_t entries) { index_.expect(entries); }
  // Recovered entries: those whose blocks are not known already.
  void insert_recovered(std::span<const RecoveredEntry> entries);
  // The index refused an entry since the last segment was dropped.
  bool index_full() const { return index_full_; }
  // The device is about to deliver entries. Before the first one.
  void add_device(unsigned device, const Layout& layout) {
    index_.add_device(device, layout);
    // Nobody knows when what is found there was used: it begins to age now.
    for (uint32_t segment = 0; segment < layout.segment_count; ++segment)
      index_.note_use(device, segment, now_s());
  }
  // Called on any shard's coroutine, which has hopped here: forgets what lies in the segment and waits for
  // the shard's commands there.
  io::Task<void> drop_segment(unsigned device, uint32_t segment);
  // A command of the shard in the segment begins; it has ended.
  void hold(unsigned device, uint32_t segment) { ++lanes_[device].held[segment]; }
  void release(unsigned device, uint32_t segment);

  io::Reactor& reactor() { return reactor_; }
  const SsdShardStats& stats();
  // What the shard's index has of each data set.
  const memory_tier::DataSetUse& use() const { return index_.use(); }
  SsdIndex::DeviceTotals totals(unsigned device) const { return index_.device_totals(device); }
  // Latency of reads of a device, microseconds, as the caller met it.
  const Histogram& read_latency_us(unsigned device) const { return lanes_[device].latency_us; }

 private:
  // One command in the kernel. Shared by who waits for it, who watches it, and who runs it.
  struct Command {
    io::Event done;  // it ended, or its time is over
    uint64_t started_ns = 0;
    int result = 0;
    bool ended = false;  // by the kernel
    bool hung = false;
    std::vector<iovec> iovecs;
    uint64_t offset = 0;
    uint64_t length = 0;
    std::function<void()> late_end;
  };
  using CommandPointer = std::shared_ptr<Command>;
  // What the shard keeps for one device.
  struct Lane {
    DeviceLog* log = nullptr;
    std::deque<CommandPointer> in_flight;  // by time of start
    bool watched = false;
    std::unordered_map<uint32_t, uint32_t> held;  // segment -> commands in flight
    std::unordered_map<uint32_t, std::shared_ptr<io::Event>>
        awaited;  // segment -> who waits for its last command
    Histogram latency_us;
  };
  // The command for `pieces` as the index has them now; nothing if one is gone or they lie apart.
  struct Plan {
    unsigned device = 0;
    uint32_t segment = 0;
    CommandPointer command;
    std::vector<Found> found;
  };

  std::optional<Plan> plan(const std::vector<ReadPiece>& pieces) const;
  io::Task<void> run(unsigned device, uint32_t segment, CommandPointer command);
  io::Task<void> watch(unsigned device);
  bool verify(const Plan& plan, const std::vector<ReadPiece>& pieces);
  uint32_t now_s() const {
    return static_cast<uint32_t>(reactor_.clock().monotonic_ns() / kNanosecondsPerSecond);
  }
  void count_hits(Lane& lane, uint32_t segment, const std::vector<ReadPiece>& pieces);
  void drop(const Plan& plan, const std::vector<ReadPiece>& pieces);

  io::Reactor& reactor_;
  const Options options_;
  AdmissionPolicy& policy_;
  uint32_t heat_tick_ = 0;
  Writer* writer_ = nullptr;
  std::vector<Lane> lanes_;  // by device number
  SsdIndex index_;
  bool index_full_ = false;
  SsdShardStats stats_;
};

}  // namespace cached::ssd_tier
