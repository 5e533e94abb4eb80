// The queue, the choice of devices, and the writing itself: see writer.h.
#include "cached/ssd_tier/writer.h"

#include <algorithm>

#include "cached/ssd_tier/aligned_buffer.h"

namespace cached::ssd_tier {

Writer::Writer(io::Reactor& reactor, SsdShard& shard, AdmissionPolicy& policy,
               std::vector<DeviceLog*> devices, const Options& options)
    : reactor_(reactor),
      shard_(shard),
      policy_(policy),
      options_(options),
      lanes_(devices.size()),
      split_(devices.size()) {
  for (size_t i = 0; i < devices.size(); ++i) lanes_[i].log = devices[i];
}

bool Writer::accepts(uint32_t length) {
  if (!any_device()) return false;
  const bool room = queued_bytes_ + length <= options_.queue_limit_bytes && !shard_.index_full();
  if (!room) ++stats_.refused;
  return room;
}

bool Writer::devices_have_room() const {
  return std::ranges::any_of(
      lanes_, [](const Lane& lane) { return lane.writable() && lane.log->free_segments() > 0; });
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
    if (start_batch()) continue;
    if (any_device() && any_busy()) {
      stream_idle_ = std::make_shared<io::Event>();
      const std::shared_ptr<io::Event> idle = stream_idle_;
      co_await *idle;
    } else {
      // No device to write to: what waits would keep its memory for nothing.
      uint64_t bytes = 0;
      for (const Offer& offer : take_batch(&bytes)) settle(offer, false);
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

// One with an open segment, if there is such.
Writer::Stream* Writer::idle_stream(Lane& lane) {
  Stream* idle = nullptr;
  for (Stream& stream : lane.streams) {
    if (!stream.busy && (idle == nullptr || (stream.segment && !idle->segment))) idle = &stream;
  }
  return idle;
}

bool Writer::any_device() const {
  return std::ranges::any_of(lanes_, [](const Lane& lane) { return lane.writable(); });
}

bool Writer::any_busy() const {
  return std::ranges::any_of(lanes_, [](const Lane& lane) {
    return std::ranges::any_of(lane.streams, [](const Stream& stream) { return stream.busy; });
  });
}

// Hands the next batch out, if the device that it belongs to takes it now.
bool Writer::start_batch() {
  std::vector<WriteSplit::Candidate> candidates(lanes_.size());
  for (size_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = lanes_[i];
    if (!lane.writable()) continue;
    const Stream* const idle = idle_stream(lane);
    candidates[i] = {.capacity_bytes = lane.log->layout().capacity_bytes,
                     .has_room = lane.log->free_segments() > 0 || (idle != nullptr && idle->segment),
                     .idle = idle != nullptr};
  }
  const std::optional<size_t> chosen = split_.choose(candidates);
  if (!chosen) return false;
  Lane& lane = lanes_[*chosen];
  Stream& stream = *idle_stream(lane);
  stream.busy = true;
  uint64_t bytes = 0;
  std::deque<Offer> batch = take_batch(&bytes);
  split_.charge(*chosen, bytes, candidates[*chosen].capacity_bytes);
  io::spawn(write(lane, stream, std::move(batch)));
  return true;
}

std::deque<Writer::Offer> Writer::take_batch(uint64_t* batch_bytes) {
  std::deque<Offer> batch;
  uint64_t bytes = 0;
  while (!queue_.empty() && batch.size() < kMaximumBatchRecords &&
         (batch.empty() || bytes + queue_.front().length <= kBatchBytes)) {
    bytes += queue_.front().length;
    batch.push_back(queue_.front());
    queue_.pop_front();
  }
  waiting_bytes_ -= bytes;
  *batch_bytes = bytes;
  oldest_ns_ = reactor_.clock().monotonic_ns();
  return batch;
}

// One batch, or as many as the ends of segments make of it.
io::Task<void> Writer::write(Lane& lane, Stream& stream, std::deque<Offer> offers) {
  while (!offers.empty()) {
    if (!stream.segment && !co_await open_segment(lane, stream)) break;
    Filling filling = fill_batch(stream, &offers);
    if (filling.offers.empty()) {
      co_await seal(lane, stream);
      continue;
    }
    co_await write_batch(lane, stream, std::move(filling));
  }
  for (const Offer& offer : offers) settle(offer, false);
  stream.busy = false;
  wake_pump();
}

void Writer::wake_pump() {
  if (stream_idle_) std::exchange(stream_idle_, nullptr)->set();
}

io::Task<bool> Writer::open_segment(Lane& lane, Stream& stream) {
  const std::optional<SegmentName> name = co_await lane.log->open_segment(reactor_);
  if (!name) co_return false;
  stream.segment = std::make_unique<SegmentBuilder>(lane.log->layout(), *name);
  co_return true;
}

// Moves from `offers` into the segment's batch what has room.
Writer::Filling Writer::fill_batch(Stream& stream, std::deque<Offer>* offers) {
  Filling filling;
  const uint64_t sequence = stream.segment->name().sequence;
  while (!offers->empty()) {
    const Offer& offer = offers->front();
    const Checksums checksums = checksums_of(offer.key, sequence, std::span(offer.data, offer.length));
    if (!stream.segment->add(offer.key, offer.length, checksums)) break;
    filling.offers.push_back(offer);
    filling.checksums.push_back(checksums);
    offers->pop_front();
  }
  return filling;
}

io::Task<void> Writer::write_batch(Lane& lane, Stream& stream, Filling filling) {
  const Batch batch = stream.segment->finish_batch();
  const SegmentName name = stream.segment->name();
  const uint64_t segment_offset = lane.log->layout().segment_offset(name.number);
  std::vector<iovec> extents;
  for (const Batch::Piece& piece : batch.pieces) {
    extents.push_back({filling.offers[piece.entry].data, piece.extent_bytes});
  }
  const bool written = co_await write_at(lane, stream, batch.offset_bytes, batch.header, extents);
  const bool kept = written && stream.segment;
  for (const Batch::Piece& piece : batch.pieces) {
    const Offer& offer = filling.offers[piece.entry];
    const Location location{lane.log->number(), name.number, segment_offset + piece.offset_bytes,
                            offer.length};
    const bool entered = kept && shard_.insert(offer.key, location, filling.checksums[piece.entry]);
    if (entered) {
      lane.log->count_reference(name.number, offer.length);
      lane.log->figures().admitted_bytes.fetch_add(offer.length, std::memory_order_relaxed);
      stats_.written_bytes += offer.length;
      policy_.on_written(offer.length);
    }
    settle(offer, entered);
  }
  if (!kept) close_segment(lane, stream);
  // At the index's limit old content makes room for new, as it does at the device's.
  if (shard_.index_full()) co_await lane.log->give_up_segment(reactor_);
}

// `head`, which is copied, and then `rest`, into the open segment.
io::Task<bool> Writer::write_at(Lane& lane, const Stream& stream, uint32_t offset_in_segment,
                                const std::vector<std::byte>& head, const std::vector<iovec>& rest) {
  Result<AlignedBuffer> copy = AlignedBuffer::copy_of(head);
  if (!copy.ok()) co_return false;
  std::vector<iovec> iovecs{{copy->data(), copy->size()}};
  iovecs.insert(iovecs.end(), rest.begin(), rest.end());
  const uint32_t segment = stream.segment->name().number;
  shard_.hold(lane.log->number(), segment);
  co_await give_way(lane);
  const uint64_t length = io::length_of(iovecs);
  lane.pacer.wrote(length, reactor_.clock().monotonic_ns());
  const uint64_t offset = lane.log->layout().segment_offset(segment) + offset_in_segment;
  const int result = co_await command(lane, iovecs, offset);
  shard_.release(lane.log->number(), segment);
  DeviceFigures& figures = lane.log->figures();
  figures.writes.fetch_add(1, std::memory_order_relaxed);
  if (result > 0) figures.write_bytes.fetch_add(static_cast<uint64_t>(result), std::memory_order_relaxed);
  if (result >= 0 && static_cast<uint64_t>(result) == length) co_return true;
  if (result != -ECANCELED) lane.log->report(result < 0 ? Fault::kWriteError : Fault::kShort);
  co_return false;
}

io::Task<int> Writer::command(Lane& lane, std::span<const iovec> iovecs, uint64_t offset) {
  const auto command = std::make_shared<Command>();
  command->started_ns = reactor_.clock().monotonic_ns();
  lane.in_flight.push_back(command);
  if (!std::exchange(lane.watched, true)) io::spawn(watch(lane));
  const int result = co_await lane.log->device().writev(reactor_, iovecs, offset);
  command->ended = true;
  if (command->overdue) --lane.overdue;
  while (!lane.in_flight.empty() && lane.in_flight.front()->ended) lane.in_flight.pop_front();
  co_return result;
}

// Finds out that a device hangs. Runs only while commands are in flight.
io::Task<void> Writer::watch(Lane& lane) {
  const uint64_t patience_ns = kPatience * options_.device_timeout_ns;
  while (!lane.in_flight.empty()) {
    co_await reactor_.sleep_until(lane.in_flight.front()->started_ns + patience_ns);
    const uint64_t now_ns = reactor_.clock().monotonic_ns();
    while (!lane.in_flight.empty()) {
      const std::shared_ptr<Command> command = lane.in_flight.front();
      if (!command->ended && now_ns - command->started_ns < patience_ns) break;
      lane.in_flight.pop_front();
      if (command->ended) continue;
      command->overdue = true;
      ++lane.overdue;
      lane.log->report(Fault::kTimeout);
      wake_pump();
    }
  }
  lane.watched = false;
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
io::Task<void> Writer::seal(Lane& lane, Stream& stream) {
  const Footer footer = stream.segment->finish();
  const std::vector<iovec> nothing;
  co_await write_at(lane, stream, footer.offset_bytes, footer.bytes, nothing);
  close_segment(lane, stream);
}

// Unless it was lost.
void Writer::close_segment(Lane& lane, Stream& stream) {
  if (!stream.segment) return;
  lane.log->close_segment(stream.segment->name().number);
  stream.segment.reset();
}

void Writer::lose_segment(unsigned device, uint32_t segment) {
  for (Stream& stream : lanes_[device].streams) {
    if (stream.segment && stream.segment->name().number == segment) stream.segment.reset();
  }
}

void Writer::settle(const Offer& offer, bool written) {
  queued_bytes_ -= offer.length;
  ++(written ? stats_.written : stats_.failed);
  done_(offer, written);
}

}  // namespace cached::ssd_tier
