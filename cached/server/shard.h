// Shard: one reactor and everything its thread owns: its regions of the arena, its partition of the block
// index, its part of the read path, and the queues of sessions that it serves.
//
// A request is copied from its ring once, checked, and run as a coroutine: READ hops to the shard that owns
// the extent, everything about names to shard 0, and the completion is written back here, on the shard that
// serves the queue.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cached/io/reactor.h"
#include "cached/memory_tier/memory_tier.h"
#include "cached/memory_tier/shared_memory.h"
#include "cached/readpath/read_path.h"
#include "cached/server/session.h"
#include "cached/ssd_tier/ssd_tier.h"

namespace cached::server {

struct ShardStats {
  memory_tier::MemoryTierStats memory;
  readpath::ReadPathStats reads;
  uint64_t requests = 0;
  uint64_t violations = 0;
  uint64_t running = 0;
};

// What a shard has to tell of the SSD tier.
struct ShardSsdStats {
  ssd_tier::SsdShardStats shard;
  ssd_tier::WriterStats writer;
  ssd_tier::AdmissionPolicy::Figures policy;
  std::vector<Histogram> read_latency_us;                // by device
  std::vector<ssd_tier::SsdIndex::DeviceTotals> totals;  // by device
  std::vector<ssd_tier::DeviceLog::SegmentCounts>
      segments;  // by device; zeros where another shard is its home
};

// What an eviction took out, or would.
struct EvictCount {
  uint64_t blocks = 0;  // or pieces of them, in both tiers
  uint64_t memory_bytes = 0;
  uint64_t ssd_bytes = 0;
  EvictCount& operator+=(const EvictCount& other) {
    blocks += other.blocks;
    memory_bytes += other.memory_bytes;
    ssd_bytes += other.ssd_bytes;
    return *this;
  }
};

// What the exporter shows of a shard besides.
struct ShardFigures {
  ShardStats stats;
  readpath::ReadFigures reads;
  uint64_t cpu_ns = 0;  // of its thread
  uint64_t operations_in_flight = 0;
};

// What a shard's tiers hold of each data set, by tag.
struct ShardDataSetUse {
  std::vector<memory_tier::DataSetCount> memory;
  std::vector<memory_tier::DataSetCount> ssd;
};

class Shard {
 public:
  struct Options {
    unsigned index = 0;
    unsigned shards = 1;
    unsigned fetches_in_flight = 64;
    // Slots that one session may have pinned at a time, over all shards: who keeps more gets bytes in its
    // buffer instead, so that no client can pin the arena full.
    int64_t pins_per_session = 1024;
  };
  static Result<std::unique_ptr<Shard>> create(const Options& options, memory_tier::SharedMemory& memory);
  ~Shard();

  // All shards, in order of index; before start().
  void set_peers(std::vector<Shard*> peers) { peers_ = std::move(peers); }
  // Puts the SSD tier below memory; before start(). It outlives the reactor's thread.
  void set_ssd(ssd_tier::SsdTier& ssd);
  void start() { reactor_->start(); }
  void stop() { reactor_->stop(); }
  io::Reactor& reactor() { return *reactor_; }

  // From here on: the shard's own thread (post to it).
  readpath::ReadPath& read_path() { return *read_path_; }
  void add_session(std::shared_ptr<Session> session);
  // The socket has closed: no request is taken any more; hazards and pins go on counting.
  void stop_serving(uint64_t session_id);
  // The process is gone: pins are given back, hazards no longer count.
  void remove_session(uint64_t session_id);
  // The client of `session` has its Welcome: notices may follow. Shard 0 only, as tell().
  void start_notices(const std::shared_ptr<Session>& session);
  // Tells all clients of `volume` that want to know.
  void tell(const volume::Volume& volume, const std::vector<shm::Notice>& notices);
  ShardStats stats() const;
  ShardFigures figures() const;
  ShardSsdStats ssd_stats() const;
  ShardDataSetUse data_set_use() const;
  // Takes a block, which is the shard's, out of both tiers unless it is pinned; with `dry_run` only counts.
  EvictCount evict_block(const shm::BlockKey& key, bool dry_run);
  // The same for all blocks of data sets that `matches` and that were not used for `idle_ns`, in small steps
  // that let others run. Ends early when `cancelled` becomes true. Ends on the shard's thread.
  io::Task<EvictCount> evict_matching(std::function<bool(uint16_t)> matches, uint64_t idle_ns, bool dry_run,
                                      const std::atomic<bool>& cancelled);

 private:
  // Slots that a READ left pinned, until RELEASE.
  struct PinnedRead {
    Shard* owner = nullptr;
    std::vector<memory_tier::SlotId> slots;
  };
  // A queue as its serving shard knows it; the ring's own indices are only written, never believed.
  struct Queue {
    shm::QueueView view;
    uint32_t submission_head = 0;
    uint32_t completion_tail = 0;
    unsigned prefetches = 0;
    std::vector<uint64_t> running;  // numbers of the requests that have no completion yet
    bool to_wake = false;           // its client, at the end of this turn
    std::unordered_map<uint64_t, PinnedRead> pinned;
  };
  struct Attached {
    std::shared_ptr<Session> session;
    std::vector<Queue> queues;          // by queue index; those of other shards are unused
    std::vector<uint64_t> touch_tails;  // by queue index: touches of all queues that this shard has seen
  };
  using AttachedPointer = std::shared_ptr<Attached>;

  explicit Shard(const Options& options) : options_(options) {}
  bool serves(const Session& session, unsigned queue) const {
    return (session.id() + queue) % options_.shards == options_.index;
  }
  bool poll();
  bool drain(const AttachedPointer& attached, unsigned queue);
  // Checks a copied submission; why it breaks the protocol, or null.
  const char* violation_in(const Queue& queue, const shm::Submission& submission) const;
  void dispatch(const AttachedPointer& attached, unsigned queue, const shm::Submission& submission);
  void release(const AttachedPointer& attached, unsigned queue, uint64_t request_number);
  void give_back(PinnedRead pinned, Session& session);
  void complete(const AttachedPointer& attached, unsigned queue, shm::Completion completion);
  void wake_clients();
  io::Task<void> wait_for_doorbell(AttachedPointer attached);
  io::Task<void> send_overdue_notices(std::shared_ptr<Session> session);
  io::Task<void> serve(AttachedPointer attached, unsigned queue, shm::Submission submission);
  io::Task<void> serve_read(AttachedPointer attached, unsigned queue, shm::Submission submission);
  io::Task<void> serve_prefetch(AttachedPointer attached, unsigned queue, shm::Submission submission);
  io::Task<shm::Completion> serve_inode(AttachedPointer attached, unsigned queue, shm::Submission submission);
  io::Task<shm::Completion> serve_bytes(AttachedPointer attached, unsigned queue, shm::Submission submission);
  io::Task<shm::Completion> serve_map(AttachedPointer attached, unsigned queue, shm::Submission submission);
  io::Task<shm::Completion> serve_directory(AttachedPointer attached, unsigned queue,
                                            shm::Submission submission);
  readpath::ReadRequest read_request(const Attached& attached, unsigned queue,
                                     const shm::Submission& submission) const;
  Shard& owner_of(const Session& session, const shm::Submission& submission) const;
  void scan_hazards(std::vector<uint32_t>* pages) const;
  void collect_touches();

  Options options_;
  std::vector<Shard*> peers_;
  std::unique_ptr<io::Reactor> reactor_;
  std::unique_ptr<memory_tier::MemoryTier> tier_;
  std::unique_ptr<readpath::ReadPath> read_path_;
  ssd_tier::SsdTier* ssd_ = nullptr;
  io::BufferRange own_memory_;  // its regions of the arena
  std::vector<AttachedPointer> sessions_;
  std::vector<std::pair<AttachedPointer, unsigned>> to_wake_;  // queues with completions of this turn
  uint64_t insertions_seen_ = 0;
  uint64_t requests_ = 0;
  uint64_t violations_ = 0;
  uint64_t running_ = 0;  // coroutines of requests
};

// The shard of `shards`, which are all of them in order, that owns the extent of `key`.
Shard& owner_of(const std::vector<Shard*>& shards, const shm::BlockKey& key);

}  // namespace cached::server
