// The queue, the choice of devices, and the writing itself: see writer.h.
#include "cached/ssd_tier/writer.h"

#include <algorithm>

#include "cached/ssd_tier/aligned_buffer.h"

namespace cached::ssd_tier {

Writer::Writer(io::Reactor& reactor, SsdShard& shard, AdmissionPolicy& policy,
               std::vector<DeviceLog*> devices, uint64_t queue_limit_bytes)
    : reactor_(reactor),
      shard_(shard),
      policy_(policy),
      queue_limit_bytes_(queue_limit_bytes),
      lanes_(devices.size()) {
  for (size_t i = 0; i < devices.size(); ++i) lanes_[i].log = devices[i];
}

bool Writer::accepts(uint32_t length) {
  const bool device = std::ranges::any_of(lanes_, [](const Lane& lane) { return lane.log->writable(); });
  if (!device) return false;
  const bool room = queued_bytes_ + length <= queue_limit_bytes_ && !shard_.index_full();
  if (!room) ++stats_.refused;
  return room;
}

bool Writer::devices_have_room() const {
  return std::ranges::any_of(
      lanes_, [](const Lane& lane) { return lane.log->writable() && lane.log->free_segments() > 0; });
}

void Writer::offer(const Offer& offer) {
  ++stats_.offered;
  queued_bytes_ += offer.length;
  waiting_bytes_ += offer.length;
  if (queue_.empty()) oldest_ns_ = reactor_.clock().monotonic_ns();
  queue_.push_back(offer);
  if (!pumping_) {
    pumping_ = true;
    io::spawn(pump());
  } else if (waiting_bytes_ >= kBatchBytes && lingering_) {
    std::exchange(lingering_, nullptr)->set();
  }
}

void Writer::read_began(unsigned device, uint64_t bytes) {
  lanes_[device].pacer.read_began(bytes, reactor_.clock().monotonic_ns());
}

// Hands batches to devices as long as there is something to write.
io::Task<void> Writer::pump() {
  while (!queue_.empty()) {
    co_await linger();
    Lane* const lane = next_lane();
    if (lane != nullptr) {
      lane->busy = true;
      io::spawn(write(*lane, take_batch()));
      continue;
    }
    const bool busy = std::ranges::any_of(lanes_, [](const Lane& l) { return l.busy; });
    if (busy) {
      lane_idle_ = std::make_shared<io::Event>();
      const std::shared_ptr<io::Event> idle = lane_idle_;
      co_await *idle;
    } else {
      // No device to write to.
      for (const Offer& offer : take_batch()) settle(offer, false);
    }
  }
  pumping_ = false;
}

// Waits until a batch is worth its command.
io::Task<void> Writer::linger() {
  const uint64_t until_ns = oldest_ns_ + kLingerNs;
  if (waiting_bytes_ >= kBatchBytes || reactor_.clock().monotonic_ns() >= until_ns) co_return;
  const auto enough = std::make_shared<io::Event>();
  lingering_ = enough;
  io::spawn(end_lingering(enough, until_ns));
  co_await *enough;
}

io::Task<void> Writer::end_lingering(std::shared_ptr<io::Event> enough, uint64_t until_ns) {
  co_await reactor_.sleep_until(until_ns);
  if (lingering_ == enough) lingering_.reset();
  if (!enough->is_set()) enough->set();
}

bool Writer::lane_has_room(const Lane& lane) {
  return lane.segment || lane.log->free_segments() > 0;
}

// Whether a batch should rather go to `lane`: one with room goes before one that must evict, then the one
// that has taken less for its size.
bool Writer::goes_before(const Lane& lane, const Lane& other) {
  if (lane_has_room(lane) != lane_has_room(other)) return lane_has_room(lane);
  const auto fill = [](const Lane& l) {
    return static_cast<double>(l.written_bytes) / static_cast<double>(l.log->layout().capacity_bytes);
  };
  return fill(lane) < fill(other);
}

// The device that the next batch goes to, if it can take it now. One that is at work is waited for, so that
// all fill alike, unless the queue runs over: then another one with room takes over.
Writer::Lane* Writer::next_lane() {
  Lane* best = nullptr;
  Lane* best_idle = nullptr;
  for (Lane& lane : lanes_) {
    if (!lane.log->writable()) continue;
    if (best == nullptr || goes_before(lane, *best)) best = &lane;
    if (!lane.busy && (best_idle == nullptr || goes_before(lane, *best_idle))) best_idle = &lane;
  }
  if (best == nullptr || !best->busy) return best;
  const bool pressing = 2 * queued_bytes_ > queue_limit_bytes_;
  return pressing && best_idle != nullptr && lane_has_room(*best_idle) ? best_idle : nullptr;
}

std::deque<Writer::Offer> Writer::take_batch() {
  std::deque<Offer> batch;
  uint64_t bytes = 0;
  while (!queue_.empty() && batch.size() < kMaximumBatchRecords &&
         (batch.empty() || bytes + queue_.front().length <= kBatchBytes)) {
    bytes += queue_.front().length;
    batch.push_back(queue_.front());
    queue_.pop_front();
  }
  waiting_bytes_ -= bytes;
  oldest_ns_ = reactor_.clock().monotonic_ns();
  return batch;
}

// One batch, or as many as the ends of segments make of it.
io::Task<void> Writer::write(Lane& lane, std::deque<Offer> offers) {
  while (!offers.empty()) {
    if (!lane.segment && !co_await open_segment(lane)) break;
    Filling filling = fill_batch(lane, &offers);
    if (filling.offers.empty()) {
      co_await seal(lane);
      continue;
    }
    co_await write_batch(lane, std::move(filling));
  }
  for (const Offer& offer : offers) settle(offer, false);
  lane.busy = false;
  if (lane_idle_) std::exchange(lane_idle_, nullptr)->set();
}

io::Task<bool> Writer::open_segment(Lane& lane) {
  const std::optional<SegmentName> name = co_await lane.log->open_segment(reactor_);
  if (!name) co_return false;
  lane.segment = std::make_unique<SegmentBuilder>(lane.log->layout(), *name);
  co_return true;
}

// Moves from `offers` into the segment's batch what has room.
Writer::Filling Writer::fill_batch(Lane& lane, std::deque<Offer>* offers) {
  Filling filling;
  const uint64_t sequence = lane.segment->name().sequence;
  while (!offers->empty()) {
    const Offer& offer = offers->front();
    const Checksums checksums = checksums_of(offer.key, sequence, std::span(offer.data, offer.length));
    if (!lane.segment->add(offer.key, offer.length, checksums)) break;
    filling.offers.push_back(offer);
    filling.checksums.push_back(checksums);
    offers->pop_front();
  }
  return filling;
}

io::Task<void> Writer::write_batch(Lane& lane, Filling filling) {
  const Batch batch = lane.segment->finish_batch();
  const SegmentName name = lane.segment->name();
  const uint64_t segment_offset = lane.log->layout().segment_offset(name.number);
  std::vector<iovec> extents;
  for (const Batch::Piece& piece : batch.pieces) {
    extents.push_back({filling.offers[piece.entry].data, piece.extent_bytes});
  }
  const bool written = co_await write_at(lane, batch.offset_bytes, batch.header, extents);
  const bool kept = written && lane.segment;
  for (const Batch::Piece& piece : batch.pieces) {
    const Offer& offer = filling.offers[piece.entry];
    const Location location{lane.log->number(), name.number, segment_offset + piece.offset_bytes,
                            offer.length};
    const bool entered = kept && shard_.insert(offer.key, location, filling.checksums[piece.entry]);
    if (entered) {
      lane.log->count_reference(name.number, offer.length);
      lane.log->figures().admitted_bytes.fetch_add(offer.length, std::memory_order_relaxed);
      lane.written_bytes += offer.length;
      stats_.written_bytes += offer.length;
      policy_.on_written(offer.length);
    }
    settle(offer, entered);
  }
  if (!kept) close_segment(lane);
  // At the index's limit old content makes room for new, as it does at the device's.
  if (shard_.index_full()) co_await lane.log->give_up_segment(reactor_);
}

// `head`, which is copied, and then `rest`, into the open segment.
io::Task<bool> Writer::write_at(Lane& lane, uint32_t offset_in_segment, const std::vector<std::byte>& head,
                                const std::vector<iovec>& rest) {
  Result<AlignedBuffer> copy = AlignedBuffer::copy_of(head);
  if (!copy.ok()) co_return false;
  std::vector<iovec> iovecs{{copy->data(), copy->size()}};
  iovecs.insert(iovecs.end(), rest.begin(), rest.end());
  const uint32_t segment = lane.segment->name().number;
  shard_.hold(lane.log->number(), segment);
  co_await give_way(lane);
  const uint64_t length = io::length_of(iovecs);
  lane.pacer.wrote(length, reactor_.clock().monotonic_ns());
  const uint64_t offset = lane.log->layout().segment_offset(segment) + offset_in_segment;
  const int result = co_await lane.log->device().writev(reactor_, iovecs, offset);
  shard_.release(lane.log->number(), segment);
  DeviceFigures& figures = lane.log->figures();
  figures.writes.fetch_add(1, std::memory_order_relaxed);
  if (result > 0) figures.write_bytes.fetch_add(static_cast<uint64_t>(result), std::memory_order_relaxed);
  if (result >= 0 && static_cast<uint64_t>(result) == length) co_return true;
  if (result != -ECANCELED) lane.log->report(result < 0 ? Fault::kWriteError : Fault::kShort);
  co_return false;
}

io::Task<void> Writer::give_way(Lane& lane) {
  for (;;) {
    const uint64_t now_ns = reactor_.clock().monotonic_ns();
    const uint64_t wait_ns = lane.pacer.wait_ns(now_ns);
    if (wait_ns == 0) co_return;
    co_await reactor_.sleep_until(now_ns + wait_ns);
  }
}

// The segment is full. Its content counts with or without its footer, which only makes recovery quick.
io::Task<void> Writer::seal(Lane& lane) {
  const Footer footer = lane.segment->finish();
  const std::vector<iovec> nothing;
  co_await write_at(lane, footer.offset_bytes, footer.bytes, nothing);
  close_segment(lane);
}

// Unless it was lost.
void Writer::close_segment(Lane& lane) {
  if (!lane.segment) return;
  lane.log->close_segment(lane.segment->name().number);
  lane.segment.reset();
}

void Writer::lose_segment(unsigned device, uint32_t segment) {
  Lane& lane = lanes_[device];
  if (lane.segment && lane.segment->name().number == segment) lane.segment.reset();
}

void Writer::settle(const Offer& offer, bool written) {
  queued_bytes_ -= offer.length;
  ++(written ? stats_.written : stats_.failed);
  done_(offer, written);
}

}  // namespace cached::ssd_tier
