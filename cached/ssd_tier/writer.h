// Writer: how blocks of one shard get onto the SSDs: in the background, in large commands, from the arena
// itself.
//
// What is offered waits in one queue, pinned in memory by its owner. A batch is formed when a megabyte is
// there, or when the oldest offer has waited kLingerNs; write_split.h says which device it goes to. On each
// device the shard has up to kStreams commands in flight, each in an open segment of its own: while one
// segment is sealed and the next opened, the other goes on. Writes give way to reads (pacer.h). Nobody ever
// waits for a write: when the queue is full, what comes is not accepted, and its chance comes again when it
// is next fetched.
//
// A batch that does not fit the open segment seals it: the footer is written, and the next batch opens
// another. A command that fails costs its batch and the rest of its segment; what was written before stays
// valid. A drain takes the open segment away, also while a command is in flight there: what that one wrote is
// not entered. A command that has not ended after kPatience of the device's time-outs makes the device
// suspect (nobody waits for it, so it may take longer than a read), and nothing more is handed to a device
// while such a command is in the kernel. Where no device takes writes, the queue is given up, so that its
// memory is free; what the kernel still reads is not.
//
// Threads: the shard's own.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cached/io/reactor.h"
#include "cached/io/task.h"
#include "cached/memory_tier/memory_tier.h"
#include "cached/ssd_tier/admission.h"
#include "cached/ssd_tier/device_log.h"
#include "cached/ssd_tier/format.h"
#include "cached/ssd_tier/pacer.h"
#include "cached/ssd_tier/ssd_shard.h"
#include "cached/ssd_tier/write_split.h"

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
  struct Options {
    uint64_t queue_limit_bytes = 0;
    uint64_t device_timeout_ns = kNanosecondsPerSecond;
  };
  static constexpr uint64_t kBatchBytes = 1 << 20;
  static constexpr uint64_t kLingerNs = 50'000'000;
  static constexpr unsigned kStreams = 2;   // of each device
  static constexpr uint64_t kPatience = 5;  // device time-outs

  Writer(io::Reactor& reactor, SsdShard& shard, AdmissionPolicy& policy, std::vector<DeviceLog*> devices,
         const Options& options);
  // Who is told of the end of offers; before the first one.
  void set_done(Done done) { done_ = std::move(done); }

  // Whether a block of `length` bytes may be offered now: there is a device to write to, and room in the
  // queue and in the index. Counts a refusal.
  bool accepts(uint32_t length);
  // Whether the queue is half empty: time for what was refused.
  bool has_room() const { return 2 * queued_bytes_ < options_.queue_limit_bytes && !shard_.index_full(); }
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
  struct Stream {
    std::unique_ptr<SegmentBuilder> segment;  // the open one; may be lost while a command is awaited
    bool busy = false;
  };
  // One in the kernel. Shared by who waits for it and who watches it.
  struct Command {
    uint64_t started_ns = 0;
    bool ended = false;
    bool overdue = false;
  };
  struct Lane {
    DeviceLog* log = nullptr;
    std::array<Stream, kStreams> streams;
    WritePacer pacer;
    std::deque<std::shared_ptr<Command>> in_flight;  // by time of start; none that is overdue
    unsigned overdue = 0;                            // commands
    bool watched = false;

    bool writable() const { return overdue == 0 && log->writable(); }
  };

  // What goes into one batch.
  struct Filling {
    std::vector<Offer> offers;
    std::vector<Checksums> checksums;  // of each
  };

  io::Task<void> pump();
  io::Task<void> linger();
  io::Task<void> end_lingering(std::shared_ptr<io::Event> enough, uint64_t until_ns);
  static Stream* idle_stream(Lane& lane);
  bool any_device() const;
  bool any_busy() const;
  bool start_batch();
  std::deque<Offer> take_batch(uint64_t* bytes);
  io::Task<void> write(Lane& lane, Stream& stream, std::deque<Offer> offers);
  io::Task<bool> open_segment(Lane& lane, Stream& stream);
  static Filling fill_batch(Stream& stream, std::deque<Offer>* offers);
  io::Task<void> write_batch(Lane& lane, Stream& stream, Filling filling);
  io::Task<bool> write_at(Lane& lane, const Stream& stream, uint32_t offset_in_segment,
                          const std::vector<std::byte>& head, const std::vector<iovec>& rest);
  io::Task<int> command(Lane& lane, std::span<const iovec> iovecs, uint64_t offset);
  io::Task<void> watch(Lane& lane);
  void wake_pump();
  io::Task<void> seal(Lane& lane, Stream& stream);
  static void close_segment(Lane& lane, Stream& stream);
  io::Task<void> give_way(Lane& lane);
  void settle(const Offer& offer, bool written);

  io::Reactor& reactor_;
  SsdShard& shard_;
  AdmissionPolicy& policy_;
  const Options options_;
  Done done_;
  std::vector<Lane> lanes_;  // by device number
  WriteSplit split_;
  std::deque<Offer> queue_;
  uint64_t queued_bytes_ = 0;   // in the queue and in batches
  uint64_t waiting_bytes_ = 0;  // in the queue
  uint64_t oldest_ns_ = 0;      // when the queue's first offer came
  bool pumping_ = false;
  std::shared_ptr<io::Event> stream_idle_;  // set when a stream is idle or a device hangs; null: nobody waits
  std::shared_ptr<io::Event> lingering_;    // set when a batch is full; null: nobody waits
  WriterStats stats_;
};

}  // namespace cached::ssd_tier
