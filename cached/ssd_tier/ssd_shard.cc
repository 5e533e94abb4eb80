// Reads of the SSD tier, and the index behind them: see ssd_shard.h.
#include "cached/ssd_tier/ssd_shard.h"

#include <algorithm>

#include "base/units.h"
#include "cached/ssd_tier/writer.h"
#include "shm/hash.h"

namespace cached::ssd_tier {
namespace {

constexpr unsigned kTries = 2;  // of a read whose command failed or whose bytes were wrong

}  // namespace

SsdShard::SsdShard(io::Reactor& reactor, const Options& options, AdmissionPolicy& policy,
                   std::vector<DeviceLog*> devices)
    : reactor_(reactor),
      options_(options),
      policy_(policy),
      lanes_(devices.size()),
      index_(std::max(options.index_limit_bytes, SsdIndex::kMinimumLimitBytes)) {
  for (size_t i = 0; i < devices.size(); ++i) lanes_[i].log = devices[i];
}

std::optional<Found> SsdShard::find(const shm::BlockKey& key) const {
  std::optional<Found> found = index_.find(key);
  if (found && !lanes_[found->location.device].log->readable()) found.reset();
  return found;
}

void SsdShard::note_lookup(const shm::BlockKey& key, uint32_t block_bytes, bool hit) {
  if (!hit) ++stats_.misses;
  policy_.on_lookup(shm::hash_block(key), block_bytes, hit);
  if (policy_.heat_tick() == heat_tick_) return;
  heat_tick_ = policy_.heat_tick();
  for (const Lane& lane : lanes_) {
    if (lane.log->is_home(reactor_)) lane.log->take_references(heat_tick_);
  }
}

bool SsdShard::adjacent(const Found& entry, const Found& next) const {
  const Location& a = entry.location;
  const Location& b = next.location;
  return a.device == b.device && a.segment == b.segment &&
         b.offset_bytes ==
             a.offset_bytes + entry_extent_bytes(lanes_[a.device].log->layout(), a.length_bytes);
}

std::optional<SsdShard::Plan> SsdShard::plan(const std::vector<ReadPiece>& pieces) const {
  Plan plan;
  for (const ReadPiece& piece : pieces) {
    std::optional<Found> found = find(piece.key);
    if (!found || piece.start + piece.length > found->location.length_bytes) return std::nullopt;
    if (!plan.found.empty() && !adjacent(plan.found.back(), *found)) return std::nullopt;
    plan.found.push_back(std::move(*found));
  }
  const Location& first = plan.found.front().location;
  plan.device = first.device;
  plan.segment = first.segment;
  const Layout& layout = lanes_[plan.device].log->layout();
  plan.command = std::make_shared<Command>();
  plan.command->offset = first.offset_bytes + pieces.front().start;
  for (const ReadPiece& piece : pieces) {
    // Between neighbours the padding is read along, into the rest of the slot.
    const bool last = &piece == &pieces.back();
    const uint64_t bytes =
        last ? align_up(piece.length, layout.block_bytes) : entry_extent_bytes(layout, piece.length);
    plan.command->iovecs.push_back({piece.memory, bytes});
    plan.command->length += bytes;
  }
  return plan;
}

io::Task<ReadEnd> SsdShard::read(std::vector<ReadPiece> pieces, std::function<void()> late_end) {
  std::optional<Plan> planned;
  for (unsigned attempt = 0; attempt < kTries; ++attempt) {
    planned = plan(pieces);
    if (!planned) co_return ReadEnd::kFailed;
    Lane& lane = lanes_[planned->device];
    const CommandPointer command = planned->command;
    io::spawn(run(planned->device, planned->segment, command));
    co_await command->done;
    if (command->hung) {
      lane.log->report(Fault::kTimeout);
      if (!command->ended) {
        command->late_end = std::move(late_end);
        co_return ReadEnd::kHung;
      }
      co_return ReadEnd::kFailed;
    }
    if (command->result < 0) {
      lane.log->report(Fault::kReadError);
    } else if (static_cast<uint64_t>(command->result) < command->length) {
      lane.log->report(Fault::kShort);
    } else if (verify(*planned, pieces)) {
      count_hits(lane, planned->segment, pieces);
      co_return ReadEnd::kOk;
    } else {
      lane.log->report(Fault::kMismatch);
    }
  }
  drop(*planned, pieces);
  co_return ReadEnd::kFailed;
}

void SsdShard::count_hits(Lane& lane, uint32_t segment, const std::vector<ReadPiece>& pieces) {
  stats_.hits += pieces.size();
  for (const ReadPiece& piece : pieces) {
    stats_.hit_bytes += piece.length;
    lane.log->count_reference(segment, piece.length);
  }
}

// The command from its start to its end in the kernel, whoever waits for it by then.
io::Task<void> SsdShard::run(unsigned device, uint32_t segment, CommandPointer command) {
  Lane& lane = lanes_[device];
  DeviceFigures& figures = lane.log->figures();
  command->started_ns = reactor_.clock().monotonic_ns();
  hold(device, segment);
  lane.in_flight.push_back(command);
  writer_->read_began(device, command->length);
  if (!std::exchange(lane.watched, true)) io::spawn(watch(device));
  command->result = co_await lane.log->device().readv(reactor_, command->iovecs, command->offset);
  command->ended = true;
  figures.reads.fetch_add(1, std::memory_order_relaxed);
  if (command->result > 0) {
    figures.read_bytes.fetch_add(static_cast<uint64_t>(command->result), std::memory_order_relaxed);
  }
  lane.latency_us.record((reactor_.clock().monotonic_ns() - command->started_ns) / 1000);
  while (!lane.in_flight.empty() && lane.in_flight.front()->ended) lane.in_flight.pop_front();
  release(device, segment);
  if (command->hung) {
    if (command->late_end) command->late_end();
  } else {
    command->done.set();
  }
}

// Ends the patience of those whose commands hang. Runs only while commands are in flight.
io::Task<void> SsdShard::watch(unsigned device) {
  Lane& lane = lanes_[device];
  while (!lane.in_flight.empty()) {
    co_await reactor_.sleep_until(lane.in_flight.front()->started_ns + options_.device_timeout_ns);
    const uint64_t now_ns = reactor_.clock().monotonic_ns();
    while (!lane.in_flight.empty()) {
      const CommandPointer command = lane.in_flight.front();
      if (!command->ended && now_ns - command->started_ns < options_.device_timeout_ns) break;
      lane.in_flight.pop_front();
      if (command->ended) continue;
      command->hung = true;
      command->done.set();
    }
  }
  lane.watched = false;
}

void SsdShard::release(unsigned device, uint32_t segment) {
  Lane& lane = lanes_[device];
  const auto held = lane.held.find(segment);
  if (--held->second > 0) return;
  lane.held.erase(held);
  const auto awaited = lane.awaited.find(segment);
  if (awaited == lane.awaited.end()) return;
  const std::shared_ptr<io::Event> event = std::move(awaited->second);
  lane.awaited.erase(awaited);
  event->set();
}

bool SsdShard::verify(const Plan& plan, const std::vector<ReadPiece>& pieces) {
  const uint64_t sequence = lanes_[plan.device].log->sequence_of(plan.segment);
  for (size_t i = 0; i < pieces.size(); ++i) {
    const ReadPiece& piece = pieces[i];
    if (!verify_chunks(piece.key, sequence, piece.start / static_cast<uint32_t>(shm::kChunkBytes),
                       std::span(piece.memory, piece.length), plan.found[i].checksums)) {
      return false;
    }
  }
  return true;
}

void SsdShard::drop(const Plan& plan, const std::vector<ReadPiece>& pieces) {
  for (size_t i = 0; i < pieces.size(); ++i) index_.remove(pieces[i].key, plan.found[i].location);
}

bool SsdShard::insert(const shm::BlockKey& key, const Location& location, const Checksums& checksums) {
  index_full_ = !index_.insert(key, location, checksums);
  return !index_full_;
}

void SsdShard::insert_recovered(std::span<const RecoveredEntry> entries) {
  index_full_ = !index_.insert_unknown(entries);
}

io::Task<void> SsdShard::drop_segment(unsigned device, uint32_t segment) {
  Lane& lane = lanes_[device];
  index_.drop_segment(device, segment);
  index_full_ = false;
  writer_->lose_segment(device, segment);
  while (lane.held.contains(segment)) {
    std::shared_ptr<io::Event>& event = lane.awaited[segment];
    if (!event) event = std::make_shared<io::Event>();
    const std::shared_ptr<io::Event> last_command = event;
    co_await *last_command;
  }
}

const SsdShardStats& SsdShard::stats() {
  stats_.index_entries = index_.entries();
  stats_.index_bytes = index_.memory_bytes();
  stats_.live_bytes = index_.bytes_live();
  return stats_;
}

}  // namespace cached::ssd_tier
