// Writer: how blocks of one shard get onto the SSDs: in the background, in large commands, from the arena
// itself.
//
// What is offered waits in one queue, pinned in memory by its owner. A batch is formed when a megabyte is
// there, or when the oldest offer has waited kLingerNs; it goes to the device that is least full for its
// size, so that devices of unequal size fill alike. Each device has one command of this shard in flight;
// writes give way to reads (pacer.h). Nobody ever waits for a write: when the queue is full, what comes is
// not accepted, and its chance comes again when it is next fetched.
//
// A batch that does not fit the open segment seals it: the footer is written, and the next batch opens
// another. A command that fails costs its batch and the rest of its segment; what was written before stays
// valid. A drain takes the open segment away, also while a command is in flight there: what that one wrote is
// not entered.
//
// Threads: the shard's own.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "cached/io/reactor.h"
#include "cached/io/task.h"
#include "cached/memory_tier/memory_tier.h"
#include "cached/ssd_tier/admission.h"
#include "cached/ssd_tier/device_log.h"
#include "cached/ssd_tier/format.h"
#include "cached/ssd_tier/pacer.h"
#include "cached/ssd_tier/ssd_shard.h"

namespace cached::ssd_tier {

struct WriterStats {
  uint64_t offered = 0;  // blocks
  uint64_t refused = 0;  // for want of room in the queue or in the index
  uint64_t written = 0;
  uint64_t written_bytes = 0;  // of content
  uint64_t failed = 0;
};

class Writer {
 public:
  struct Offer {
    shm::BlockKey key;
    memory_tier::SlotId slot;  // the owner's name for it
    std::byte* data = nullptr;
    uint32_t length = 0;
  };
  // Called once for each offer: its memory is not needed any more.
  using Done = std::function<void(const Offer& offer, bool written)>;
  static constexpr uint64_t kBatchBytes = 1 << 20;
  static constexpr uint64_t kLingerNs = 50'000'000;

  Writer(io::Reactor& reactor, SsdShard& shard, AdmissionPolicy& policy, std::vector<DeviceLog*> devices,
         uint64_t queue_limit_bytes);
  // Who is told of the end of offers; before the first one.
  void set_done(Done done) { done_ = std::move(done); }

  // Whether a block of `length` bytes may be offered now: there is a device to write to, and room in the
  // queue and in the index. Counts a refusal.
  bool accepts(uint32_t length);
  // Whether the queue is half empty: time for what was refused.
  bool has_room() const { return 2 * queued_bytes_ < queue_limit_bytes_ && !shard_.index_full(); }
  // Whether something can be written without evicting anything.
  bool devices_have_room() const;
  // Takes a block in. Its bytes stay where they are until `done`.
  void offer(const Offer& offer);

  const WriterStats& stats() const { return stats_; }
  // A read of `bytes` from device `number` begins: writes there give way.
  void read_began(unsigned device, uint64_t bytes);
  // The segment is somebody else's from now on; a command in flight there holds it (SsdShard::hold).
  void lose_segment(unsigned device, uint32_t segment);

 private:
  struct Lane {
    DeviceLog* log = nullptr;
    std::unique_ptr<SegmentBuilder> segment;  // the open one; may be lost while a command is awaited
    uint64_t written_bytes = 0;
    WritePacer pacer;
    bool busy = false;
  };

  // What goes into one batch.
  struct Filling {
    std::vector<Offer> offers;
    std::vector<Checksums> checksums;  // of each
  };

  io::Task<void> pump();
  io::Task<void> linger();
  io::Task<void> end_lingering(std::shared_ptr<io::Event> enough, uint64_t until_ns);
  static bool lane_has_room(const Lane& lane);
  static bool goes_before(const Lane& lane, const Lane& other);
  Lane* next_lane();
  std::deque<Offer> take_batch();
  io::Task<void> write(Lane& lane, std::deque<Offer> offers);
  io::Task<bool> open_segment(Lane& lane);
  static Filling fill_batch(Lane& lane, std::deque<Offer>* offers);
  io::Task<void> write_batch(Lane& lane, Filling filling);
  io::Task<bool> write_at(Lane& lane, uint32_t offset_in_segment, const std::vector<std::byte>& head,
                          const std::vector<iovec>& rest);
  io::Task<void> seal(Lane& lane);
  void close_segment(Lane& lane);
  io::Task<void> give_way(Lane& lane);
  void settle(const Offer& offer, bool written);

  io::Reactor& reactor_;
  SsdShard& shard_;
  AdmissionPolicy& policy_;
  const uint64_t queue_limit_bytes_;
  Done done_;
  std::vector<Lane> lanes_;
  std::deque<Offer> queue_;
  uint64_t queued_bytes_ = 0;   // in the queue and in batches
  uint64_t waiting_bytes_ = 0;  // in the queue
  uint64_t oldest_ns_ = 0;      // when the queue's first offer came
  bool pumping_ = false;
  std::shared_ptr<io::Event> lane_idle_;  // set when a device has taken its batch; null: nobody waits
  std::shared_ptr<io::Event> lingering_;  // set when a batch is full; null: nobody waits
  WriterStats stats_;
};

}  // namespace cached::ssd_tier
