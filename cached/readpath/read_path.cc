// The read path of one shard: see read_path.h.
#include "cached/readpath/read_path.h"

#include <algorithm>
#include <cstring>

#include "base/units.h"
#include "shm/hash.h"

namespace cached::readpath {
namespace {

constexpr unsigned kAttempts = 4;     // rounds of taking slots before a read goes through the buffer
constexpr unsigned kSsdAttempts = 4;  // fetches from SSDs that may fail before a read goes through the buffer
constexpr size_t kRefusedKept = 16'384;                 // blocks that wait for another chance to be written
constexpr uint64_t kRunBytes = shm::kMaximumReadBytes;  // of one command
constexpr uint64_t kFillPollNs = 2'000'000;             // between two looks for room
constexpr uint64_t kWriterWaitNs = 2'000'000'000;       // before fill() goes on without the SSDs
constexpr uint64_t kFillRepeats = 4;                    // times that a request is fetched at most
constexpr unsigned kLookersAhead = 4;                   // that open the files that follow in a directory
constexpr unsigned kFillPatience = 200;                 // rounds without slots before fill() gives up

uint32_t first_block(const ReadRequest& request) {
  return static_cast<uint32_t>(request.offset / shm::kBlockBytes);
}
uint32_t last_block(const ReadRequest& request) {
  return static_cast<uint32_t>((request.offset + request.length - 1) / shm::kBlockBytes);
}

// Bytes of content that block `block` of an object of `size` bytes has.
uint32_t block_length(uint32_t block, uint64_t size) {
  return static_cast<uint32_t>(
      std::min<uint64_t>(shm::kBlockBytes, size - uint64_t{block} * shm::kBlockBytes));
}

// The part of `block` that the request wants: [begin, end) in the block.
struct Span {
  uint32_t begin;
  uint32_t end;
};
Span wanted_span(const ReadRequest& request, uint32_t block) {
  const uint64_t start = uint64_t{block} * shm::kBlockBytes;
  const uint64_t begin = std::max(request.offset, start);
  const uint64_t end = std::min(request.offset + request.length, start + shm::kBlockBytes);
  return {static_cast<uint32_t>(begin - start), static_cast<uint32_t>(end - start)};
}

}  // namespace

size_t ReadPath::KeyHash::operator()(const shm::BlockKey& key) const {
  return shm::hash_block(key);
}

ReadPath::ReadPath(io::Reactor& reactor, memory_tier::MemoryTier& tier, const Options& options)
    : reactor_(reactor), tier_(tier), options_(options), slots_(reactor, tier) {}

FetchGate* ReadPath::origin_gate(uint16_t volume) {
  std::unique_ptr<FetchGate>& gate = gates_[volume];
  if (gate == nullptr) gate = std::make_unique<FetchGate>(options_.fetches_in_flight);
  return gate.get();
}

void ReadPath::set_ssd(const SsdParts& ssd, const std::vector<unsigned>& queue_depths) {
  ssd_ = ssd;
  for (const unsigned depth : queue_depths) ssd_gates_.push_back(std::make_unique<FetchGate>(depth));
}

shm::BlockKey ReadPath::key_of(const ReadRequest& request, uint32_t block) const {
  return {request.object, block, request.volume, request.data_set};
}

std::shared_ptr<ReadPath::Fetch> ReadPath::in_flight_for(const shm::BlockKey& key, uint32_t begin,
                                                         uint32_t end) const {
  const auto [first, last] = in_flight_.equal_range(key);
  const auto found =
      std::find_if(first, last, [&](const auto& entry) { return entry.second->covers(begin, end); });
  return found == last ? nullptr : found->second;
}

std::vector<ReadPath::Need> ReadPath::needs_of(const ReadRequest& request, bool whole) const {
  std::vector<Need> needs;
  for (uint32_t block = first_block(request); block <= last_block(request); ++block) {
    const shm::BlockKey key = key_of(request, block);
    const Span span = wanted_span(request, block);
    if (in_flight_for(key, span.begin, span.end)) continue;
    const auto piece = tier_.find(key, span.begin);
    if (piece && piece->start + piece->length >= span.end) continue;
    Need need{block};
    if (ssd_.shard != nullptr) need.ssd = ssd_.shard->find(key);
    // An entry that ends too early is of a request beyond the object's end: the origin's to refuse.
    if (need.ssd && need.ssd->location.length_bytes < span.end) need.ssd.reset();
    if (need.ssd) {
      const uint32_t length = need.ssd->location.length_bytes;
      const bool part = !whole && span.end - span.begin <= length / 2;
      need.start = part ? static_cast<uint32_t>(align_down(span.begin, shm::kChunkBytes)) : 0;
      need.length =
          part ? std::min(length, static_cast<uint32_t>(align_up(span.end, shm::kChunkBytes))) - need.start
               : length;
    }
    needs.push_back(std::move(need));
  }
  return needs;
}

bool ReadPath::complete_needs(const std::shared_ptr<origin::ObjectReader>& reader, std::vector<Need>* needs) {
  for (Need& need : *needs) {
    if (need.ssd) continue;
    if (!reader) return false;
    need.length = block_length(need.block, reader->size());
  }
  return true;
}

void ReadPath::give_back(std::vector<memory_tier::SlotId>* slots) {
  for (const memory_tier::SlotId slot : *slots) tier_.abandon(slot);
  if (!slots->empty()) slots_.notify();
  slots->clear();
}

void ReadPath::move_to_buffer(const ReadRequest& request, ReadResult* result) {
  uint64_t copied = 0;
  for (const ReadResult::Pinned& piece : result->pieces) {
    const uint64_t in_slot = piece.extent.arena_offset_bytes - uint64_t{piece.slot.page} * shm::kPageBytes;
    const std::byte* const bytes = tier_.slot_data(piece.slot) + in_slot;
    std::memcpy(request.buffer + copied, bytes, piece.extent.length);
    copied += piece.extent.length;
    unpin(piece.slot);
  }
  result->pieces.clear();
  result->in_buffer = true;
  result->buffer_offset = 0;
}

void ReadPath::unpin(memory_tier::SlotId slot) {
  tier_.unpin(slot);
  slots_.notify();
}

io::Task<ReadResult> ReadPath::read(ReadRequest request) {
  ++stats_.reads;
  const uint64_t started_ns = reactor_.clock().monotonic_ns();
  ReadTier tier = ReadTier::kMemory;
  ReadResult result = co_await read_from_tiers(request, &tier);
  count_read(tier, result, request.length, started_ns);
  co_return result;
}

void ReadPath::count_read(ReadTier tier, const ReadResult& result, uint32_t length, uint64_t started_ns) {
  const ReadOutcome outcome = result.outcome.ok()      ? ReadOutcome::kOk
                              : result.outcome.changed ? ReadOutcome::kChanged
                                                       : ReadOutcome::kError;
  ReadFigures::Cell& cell = figures_.at(tier, outcome);
  cell.latency_us.record((reactor_.clock().monotonic_ns() - started_ns) / 1000);
  if (result.outcome.ok()) cell.bytes += length;
}

io::Task<ReadResult> ReadPath::read_from_tiers(ReadRequest request, ReadTier* tier) {
  std::shared_ptr<origin::ObjectReader> reader;
  unsigned ssd_failures = 0;
  for (unsigned attempt = 0; attempt < kAttempts && ssd_failures < kSsdAttempts;) {
    std::vector<Need> needs = needs_of(request, false);
    if (!complete_needs(reader, &needs)) {
      *tier = ReadTier::kOrigin;
      origin::OpenedObject opened = co_await open_for_reader(request);
      if (!opened.outcome.ok()) co_return ReadResult{.outcome = opened.outcome};
      reader = std::move(opened.reader);
      if (opened.data_set != 0) request.data_set = opened.data_set;
      if (request.offset + request.length > reader->size())
        co_return ReadResult{.outcome = {.error = EINVAL}};
      continue;  // the world may have changed meanwhile
    }
    std::vector<memory_tier::SlotId> slots;
    if (!needs.empty()) {
      ++attempt;
      slots = co_await slots_.take(lengths_of(needs), options_.slot_wait_ns);
      if (slots.empty()) break;
    }
    std::vector<BlockState> states;
    const bool gathered = gather(request, reader, &slots, &states);
    give_back(&slots);
    if (!gathered) continue;
    follow_stream(request, reader.get());
    if (reader != nullptr && reader->unit_bytes() > shm::kBlockBytes) fetch_units(request, *reader);
    for (const BlockState& state : states) {
      if (state.fetch) *tier = std::max(*tier, state.fetch->from_origin ? ReadTier::kOrigin : ReadTier::kSsd);
    }
    std::optional<ReadResult> result = co_await finish(request, std::move(states));
    if (result) co_return std::move(*result);
    ++ssd_failures;
  }
  *tier = ReadTier::kOrigin;
  if (!reader) {
    origin::OpenedObject opened = co_await open_for_reader(request);
    if (!opened.outcome.ok()) co_return ReadResult{.outcome = opened.outcome};
    reader = std::move(opened.reader);
  }
  co_return co_await read_into_buffer(request, std::move(reader));
}

io::Task<origin::OpenedObject> ReadPath::open_for_reader(ReadRequest request) {
  origin::OpenedObject opened =
      co_await request.source->open(reactor_, request.handle, request.object, origin::Opener::kReader);
  if (opened.files_follow) io::spawn(look_ahead_in_directory(request, true));
  co_return opened;
}

void ReadPath::fetch_units(const ReadRequest& request, const origin::ObjectReader& reader) {
  const uint64_t unit = std::min(reader.unit_bytes(), shm::kExtentBytes);
  ReadRequest whole = request;
  whole.offset = align_down(request.offset, unit);
  const uint64_t end = std::min(align_up(request.offset + request.length, unit), reader.size());
  whole.length = static_cast<uint32_t>(end - whole.offset);
  if (whole.length > request.length) io::spawn(prefetch(whole));
}

std::vector<uint32_t> ReadPath::lengths_of(const std::vector<Need>& needs) {
  std::vector<uint32_t> lengths;
  lengths.reserve(needs.size());
  for (const Need& need : needs) lengths.push_back(need.length);
  return lengths;
}

bool ReadPath::slots_suffice(const std::vector<Need>& needs,
                             const std::vector<memory_tier::SlotId>& slots) const {
  std::vector<uint32_t> capacities;
  for (const memory_tier::SlotId slot : slots) capacities.push_back(tier_.slot_capacity(slot));
  for (const Need& need : needs) {
    const auto fit =
        std::find_if(capacities.begin(), capacities.end(), [&](uint32_t c) { return c >= need.length; });
    if (fit == capacities.end()) return false;
    capacities.erase(fit);
  }
  return true;
}

bool ReadPath::gather(const ReadRequest& request, const std::shared_ptr<origin::ObjectReader>& reader,
                      std::vector<memory_tier::SlotId>* slots, std::vector<BlockState>* states) {
  std::vector<Need> needs = needs_of(request, false);
  // The slots were taken for what was missing then; they must fit what is missing now.
  if (!complete_needs(reader, &needs) || !slots_suffice(needs, *slots)) return false;
  std::vector<Run> runs = plan_fetches(request, needs, reader, slots, Priority::kForeground);
  for (uint32_t block = first_block(request); block <= last_block(request); ++block) {
    BlockState state{key_of(request, block), nullptr, {}};
    const Span span = wanted_span(request, block);
    state.fetch = in_flight_for(state.key, span.begin, span.end);
    if (state.fetch) {
      ++state.fetch->waiters;
      state.fetch->joined = true;
      state.fetch->gate->promote(state.fetch->ticket);
    } else {
      state.piece = *tier_.find(state.key, span.begin);
      tier_.pin(state.piece.slot);
      tier_.note_use(state.piece.slot);
    }
    states->push_back(std::move(state));
  }
  // Last, because a command may end at once, and must then find who waits for it.
  for (Run& run : runs) io::spawn(fetch_run(std::move(run)));
  return true;
}

bool ReadPath::joins_run(const Run& run, const Need& need) const {
  if (run.keys.back().block + 1 != need.block) return false;
  if (run.length + need.length > (need.ssd ? kRunBytes : run.reader ? run.reader->run_bytes() : 0))
    return false;
  if (!need.ssd) return run.reader != nullptr;
  // One command on an SSD reads whole blocks that lie side by side.
  const auto whole = [](const Fetch& fetch, const ssd_tier::Found& found) {
    return fetch.start == 0 && fetch.length == found.location.length_bytes;
  };
  return run.last_found && whole(*run.fetches.back(), *run.last_found) && need.start == 0 &&
         need.length == need.ssd->location.length_bytes && ssd_.shard->adjacent(*run.last_found, *need.ssd);
}

std::vector<ReadPath::Run> ReadPath::plan_fetches(const ReadRequest& request, const std::vector<Need>& needs,
                                                  const std::shared_ptr<origin::ObjectReader>& reader,
                                                  std::vector<memory_tier::SlotId>* slots,
                                                  Priority priority) {
  std::vector<Run> runs;
  for (const Need& need : needs) {
    const auto slot = std::find_if(slots->begin(), slots->end(), [&](memory_tier::SlotId s) {
      return tier_.slot_capacity(s) >= need.length;
    });
    if (slot == slots->end()) break;
    if (runs.empty() || !joins_run(runs.back(), need)) {
      Run run;
      if (!need.ssd) run.reader = reader;
      run.ticket = std::make_shared<FetchGate::Ticket>();
      run.ticket->priority = priority;
      run.background = priority == Priority::kBackground;
      runs.push_back(std::move(run));
    }
    Run& run = runs.back();
    auto fetch = std::make_shared<Fetch>();
    fetch->slot = *slot;
    fetch->start = need.start;
    fetch->length = need.length;
    fetch->ticket = run.ticket;
    fetch->prefetched = run.background;
    fetch->from_origin = !need.ssd.has_value();
    fetch->gate = need.ssd ? ssd_gates_[need.ssd->location.device].get() : origin_gate(request.volume);
    slots->erase(slot);
    shm::BlockKey key = key_of(request, need.block);
    if (need.ssd) key.data_set = need.ssd->data_set;
    if (ssd_.shard != nullptr) {
      ssd_.shard->note_lookup(key, need.ssd ? need.ssd->location.length_bytes : need.length,
                              need.ssd.has_value());
    }
    in_flight_.emplace(key, fetch);
    run.keys.push_back(key);
    run.fetches.push_back(std::move(fetch));
    run.last_found = need.ssd;
    run.length += need.length;
    ++stats_.fetched_blocks;
  }
  return runs;
}

io::Task<void> ReadPath::fetch_run(Run run) {
  FetchGate& gate = *run.fetches.front()->gate;
  co_await gate.enter(run.ticket);
  if (run.reader) {
    co_await fetch_from_origin(run);
  } else {
    co_await fetch_from_ssd(run);
  }
  gate.leave();
  for (const std::shared_ptr<Fetch>& fetch : run.fetches) fetch->done.set();
  slots_.notify();
}

io::Task<void> ReadPath::fetch_from_origin(const Run& run) {
  std::vector<iovec> iovecs;
  for (const std::shared_ptr<Fetch>& fetch : run.fetches) {
    iovecs.push_back({tier_.slot_data(fetch->slot), align_up(fetch->length, shm::kPageBytes)});
  }
  const uint64_t offset = uint64_t{run.keys.front().block} * shm::kBlockBytes;
  const origin::Outcome outcome = co_await run.reader->read(reactor_, offset, run.length, std::move(iovecs));
  leave_flight(run);
  for (size_t i = 0; i < run.fetches.size(); ++i) {
    run.fetches[i]->outcome = outcome;
    if (outcome.ok()) {
      publish_from_origin(run.keys[i], *run.fetches[i]);
    } else {
      tier_.abandon(run.fetches[i]->slot);
    }
  }
}

io::Task<void> ReadPath::fetch_from_ssd(const Run& run) {
  std::vector<ssd_tier::ReadPiece> pieces;
  std::vector<memory_tier::SlotId> slots;
  for (size_t i = 0; i < run.fetches.size(); ++i) {
    const Fetch& fetch = *run.fetches[i];
    pieces.push_back({run.keys[i], fetch.start, fetch.length, tier_.slot_data(fetch.slot)});
    slots.push_back(fetch.slot);
  }
  // A command that hangs keeps its slots until the kernel is done with them.
  const auto free_slots = [this, slots] {
    std::vector<memory_tier::SlotId> mine = slots;
    give_back(&mine);
  };
  std::function<void()> late_end = free_slots;
  const ssd_tier::ReadEnd end = co_await ssd_.shard->read(std::move(pieces), std::move(late_end));
  leave_flight(run);
  if (end == ssd_tier::ReadEnd::kFailed) free_slots();
  if (end != ssd_tier::ReadEnd::kOk) ++stats_.ssd_retries;
  for (size_t i = 0; i < run.fetches.size(); ++i) {
    Fetch& fetch = *run.fetches[i];
    fetch.again = end != ssd_tier::ReadEnd::kOk;
    if (fetch.again) continue;
    enter_memory(run.keys[i], fetch, retention_of(fetch, true));
    tier_.note_on_ssd(fetch.slot, run.keys[i]);
  }
}

void ReadPath::leave_flight(const Run& run) {
  if (run.background) prefetching_bytes_ -= run.length;
  for (size_t i = 0; i < run.fetches.size(); ++i) {
    const auto [first, last] = in_flight_.equal_range(run.keys[i]);
    in_flight_.erase(
        std::find_if(first, last, [&](const auto& entry) { return entry.second == run.fetches[i]; }));
  }
}

void ReadPath::enter_memory(const shm::BlockKey& key, const Fetch& fetch, memory_tier::Retention retention) {
  tier_.publish(fetch.slot, key, fetch.start, fetch.length, retention);
  // publish() leaves one pin; every waiter owns one.
  for (unsigned waiter = 1; waiter < fetch.waiters; ++waiter) tier_.pin(fetch.slot);
  if (fetch.prefetched) tier_.mark_prefetched(fetch.slot);
  if (fetch.joined) tier_.note_use(fetch.slot);
  if (fetch.waiters == 0) tier_.unpin(fetch.slot);
}

memory_tier::Retention ReadPath::retention_of(const Fetch& fetch, bool on_ssd) {
  const bool keep = ssd_.policy->keep_in_memory(fetch.length, tier_.full(fetch.length), on_ssd);
  return keep ? memory_tier::Retention::kMain : memory_tier::Retention::kTransient;
}

void ReadPath::publish_from_origin(const shm::BlockKey& key, Fetch& fetch) {
  if (ssd_.policy == nullptr) {
    enter_memory(key, fetch, memory_tier::Retention::kMain);
    return;
  }
  if (std::exchange(reopenings_seen_, ssd_.policy->reopenings()) != ssd_.policy->reopenings())
    tier_.forget_touches();
  const bool room = ssd_.writer->devices_have_room();
  const bool accepted = ssd_.writer->accepts(fetch.length);
  const bool offered = accepted && (fetch.asked_for || ssd_.policy->admit(shm::hash_block(key), room));
  if (offered) ++fetch.waiters;  // the writer's pin
  enter_memory(key, fetch, retention_of(fetch, offered));
  if (offered) offer(key, fetch.slot, fetch.length);
  if (accepted || !room) return;
  refused_.emplace_back(key, fetch.slot);
  if (refused_.size() > kRefusedKept) refused_.pop_front();
}

void ReadPath::offer(const shm::BlockKey& key, memory_tier::SlotId slot, uint32_t length) {
  ssd_.writer->offer({key, slot, tier_.slot_data(slot), length});
}

void ReadPath::offer_refused() {
  while (!refused_.empty() && ssd_.writer->has_room() && ssd_.writer->devices_have_room()) {
    const auto [key, slot] = refused_.front();
    refused_.pop_front();
    const auto piece = tier_.find(key, 0);
    if (!piece || !(piece->slot == slot) || ssd_.shard->find(key)) continue;
    tier_.pin(slot);
    offer(key, slot, piece->length);
  }
}

void ReadPath::written_to_ssd(const ssd_tier::Writer::Offer& offer, bool written) {
  if (written) tier_.demote(offer.slot, offer.key);
  unpin(offer.slot);
  if (!refused_.empty()) offer_refused();
}

io::Task<std::optional<ReadResult>> ReadPath::finish(const ReadRequest& request,
                                                     std::vector<BlockState> states) {
  ReadResult result;
  bool again = false;
  for (BlockState& state : states) {
    memory_tier::SlotId slot = state.piece.slot;
    uint32_t start = state.piece.start;
    if (state.fetch) {
      co_await state.fetch->done;
      again |= state.fetch->again;
      if (state.fetch->again || !state.fetch->outcome.ok()) {
        if (result.outcome.ok()) result.outcome = state.fetch->outcome;
        continue;
      }
      slot = state.fetch->slot;
      start = state.fetch->start;
    }
    const Span span = wanted_span(request, state.key.block);
    const uint64_t arena_offset = uint64_t{slot.page} * shm::kPageBytes + (span.begin - start);
    result.pieces.push_back({slot, {arena_offset, span.end - span.begin, 0}});
  }
  if (!again && result.outcome.ok()) co_return result;
  for (const ReadResult::Pinned& piece : result.pieces) unpin(piece.slot);
  result.pieces.clear();
  if (again && result.outcome.ok()) co_return std::nullopt;
  co_return result;
}

io::Task<ReadResult> ReadPath::read_into_buffer(const ReadRequest& request,
                                                std::shared_ptr<origin::ObjectReader> reader) {
  ++stats_.buffer_answers;
  ReadResult result;
  const uint64_t offset = align_down(request.offset, shm::kPageBytes);
  const uint64_t length = request.offset + request.length - offset;
  auto* const begin =
      reinterpret_cast<std::byte*>(align_up(reinterpret_cast<uintptr_t>(request.buffer), shm::kPageBytes));
  const auto skipped = static_cast<uint64_t>(begin - request.buffer);
  if (skipped + align_up(length, shm::kPageBytes) > request.buffer_bytes) {
    result.outcome.error = EINVAL;
    co_return result;
  }
  std::vector<iovec> iovecs{{begin, align_up(length, shm::kPageBytes)}};
  result.outcome = co_await reader->read(reactor_, offset, length, std::move(iovecs));
  result.in_buffer = result.outcome.ok();
  result.buffer_offset = skipped + (request.offset - offset);
  co_return result;
}

void ReadPath::follow_stream(const ReadRequest& request, const origin::ObjectReader* reader) {
  const bool pack = reader != nullptr ? reader->is_pack() : streams_.knows(request.object);
  if (!pack) return;
  const PackStreams::Ahead ahead =
      streams_.note(request.object, request.offset, request.offset + request.length);
  if (ahead.rest || ahead.packs > 0) io::spawn(look_ahead(request, ahead));
}

io::Task<void> ReadPath::look_ahead(ReadRequest request, PackStreams::Ahead ahead) {
  request.offset = 0;
  request.length = shm::kExtentBytes;
  co_await prefetch(request);
  const std::vector<origin::FollowingObject> packs =
      co_await request.source->following(reactor_, request.handle, request.object, ahead.packs);
  for (const origin::FollowingObject& pack : packs) {
    request.object = pack.object;
    request.length = static_cast<uint32_t>(std::min(pack.size, shm::kExtentBytes));
    send_ahead_(request, ahead.packs);
  }
}

io::Task<void> ReadPath::look_ahead_in_directory(ReadRequest request, bool first) {
  for (;;) {
    const std::vector<origin::FollowingFile> files =
        co_await request.source->files_ahead(reactor_, request.handle);
    if (files.empty()) co_return;
    for (const origin::FollowingFile& file : files) {
      ReadRequest ahead = request;
      ahead.handle = file.handle;
      ahead.object = file.object;
      ahead.data_set = file.data_set;
      ahead.offset = file.offset;
      ahead.length = static_cast<uint32_t>(file.size);
      send_ahead_(ahead, 0);
    }
    // Where a source is far away, opening takes round trips: several at a time.
    if (std::exchange(first, false)) {
      for (unsigned more = 1; more < kLookersAhead; ++more)
        io::spawn(look_ahead_in_directory(request, false));
    }
  }
}

void ReadPath::read_ahead(const ReadRequest& request, unsigned window) {
  if (window > 0) streams_.announce(request.object, window);
  io::spawn(prefetch(request));
}

void ReadPath::unkeep(memory_tier::SlotId slot) {
  tier_.unkeep(slot);
  slots_.notify();
}

std::vector<ReadPath::Need> ReadPath::needs_of_fill(const ReadRequest& request, bool keep) const {
  std::vector<Need> needs = needs_of(request, true);
  if (!keep) std::erase_if(needs, [](const Need& need) { return need.ssd.has_value(); });
  return needs;
}

// Blocks that come faster than the SSDs take them would be in memory alone, and soon in nothing.
io::Task<void> ReadPath::wait_for_writer() {
  if (ssd_.writer == nullptr) co_return;
  const uint64_t until_ns = reactor_.clock().monotonic_ns() + kWriterWaitNs;
  while (!ssd_.writer->has_room() && reactor_.clock().monotonic_ns() < until_ns) {
    co_await reactor_.sleep_until(reactor_.clock().monotonic_ns() + kFillPollNs);
  }
}

void ReadPath::retag_blocks(const ReadRequest& request) {
  for (uint32_t block = first_block(request); block <= last_block(request); ++block) {
    const shm::BlockKey key = key_of(request, block);
    if (const auto piece = tier_.find(key, wanted_span(request, block).begin)) tier_.retag(piece->slot, key);
    if (ssd_.shard != nullptr) ssd_.shard->retag(key);
  }
}

bool ReadPath::keep_blocks(const ReadRequest& request, FillResult* result) {
  std::vector<memory_tier::MemoryTier::Piece> pieces;
  for (uint32_t block = first_block(request); block <= last_block(request); ++block) {
    const Span span = wanted_span(request, block);
    const auto piece = tier_.find(key_of(request, block), span.begin);
    if (!piece || piece->start + piece->length < span.end) return false;
    pieces.push_back(*piece);
  }
  for (const memory_tier::MemoryTier::Piece& piece : pieces) {
    tier_.keep(piece.slot);
    result->kept.push_back(piece.slot);
    result->kept_bytes += piece.length;
  }
  return true;
}

io::Task<FillResult> ReadPath::fill_step(ReadRequest request, std::shared_ptr<origin::ObjectReader> reader,
                                         bool keep) {
  FillResult result;
  std::vector<Need> needs = needs_of_fill(request, keep);
  complete_needs(reader, &needs);
  uint64_t bytes = 0;
  const auto over = std::ranges::find_if(needs, [&](const Need& need) {
    bytes += need.length;
    return bytes > std::max<uint64_t>(reader->run_bytes(), shm::kBlockBytes);
  });
  needs.erase(over, needs.end());
  std::vector<uint32_t> lengths = lengths_of(needs);
  std::vector<memory_tier::SlotId> slots = co_await slots_.take(std::move(lengths), options_.slot_wait_ns);
  if (slots.empty()) {
    result.outcome.error = EAGAIN;
    co_return result;
  }
  // Others may have brought some of them meanwhile.
  std::vector<Need> still = needs_of_fill(request, keep);
  std::erase_if(still, [&](const Need& need) {
    return std::ranges::find(needs, need.block, &Need::block) == needs.end();
  });
  complete_needs(reader, &still);
  std::vector<Run> runs = plan_fetches(request, still, reader, &slots, Priority::kBackground);
  std::vector<std::shared_ptr<Fetch>> fetches;
  for (Run& run : runs) {
    for (const std::shared_ptr<Fetch>& fetch : run.fetches) {
      fetch->asked_for = true;
      result.fetched_bytes += fetch->length;
      fetches.push_back(fetch);
    }
    prefetching_bytes_ += run.length;
  }
  for (Run& run : runs) io::spawn(fetch_run(std::move(run)));
  give_back(&slots);
  for (const std::shared_ptr<Fetch>& fetch : fetches) {
    co_await fetch->done;
    if (!fetch->outcome.ok() && result.outcome.ok()) result.outcome = fetch->outcome;
  }
  co_return result;
}

io::Task<FillResult> ReadPath::fill(ReadRequest request, bool keep) {
  FillResult result;
  std::shared_ptr<origin::ObjectReader> reader;
  unsigned starved = 0;
  for (;;) {
    const std::vector<Need> needs = needs_of_fill(request, keep);
    if (needs.empty()) {
      // What is on its way, by whomever, is waited for.
      for (uint32_t block = first_block(request); block <= last_block(request); ++block) {
        const Span span = wanted_span(request, block);
        const std::shared_ptr<Fetch> fetch = in_flight_for(key_of(request, block), span.begin, span.end);
        if (fetch) co_await fetch->done;
      }
      if (needs_of_fill(request, keep).empty() && (!keep || keep_blocks(request, &result))) break;
      continue;
    }
    if (!reader) {
      origin::OpenedObject opened =
          co_await request.source->open(reactor_, request.handle, request.object, origin::Opener::kAhead);
      result.outcome = opened.outcome;
      if (result.outcome.ok() && request.offset + request.length > opened.reader->size())
        result.outcome.error = EINVAL;
      if (!result.outcome.ok()) co_return result;
      if (opened.data_set != 0) request.data_set = opened.data_set;
      reader = std::move(opened.reader);
      continue;
    }
    if (result.fetched_bytes > kFillRepeats * (request.length + 2 * shm::kBlockBytes)) {
      // What came in was evicted at once: memory is too small for more.
      if (keep) result.outcome.error = EAGAIN;
      break;
    }
    co_await wait_for_writer();
    const FillResult step = co_await fill_step(request, reader, keep);
    result.fetched_bytes += step.fetched_bytes;
    if (step.outcome.ok()) continue;
    result.outcome = step.outcome;
    if (step.outcome.error != EAGAIN || ++starved > kFillPatience) co_return result;
    result.outcome = {};
    co_await reactor_.sleep_until(reactor_.clock().monotonic_ns() + kFillPollNs);
  }
  retag_blocks(request);
  result.present_bytes = request.length - std::min<uint64_t>(request.length, result.fetched_bytes);
  co_return result;
}

io::Task<void> ReadPath::prefetch(ReadRequest request) {
  std::vector<Need> needs = needs_of(request, true);
  if (needs.empty()) co_return;
  if (prefetching_bytes_ + request.length > options_.prefetch_limit_bytes) {
    ++stats_.prefetch_dropped;
    co_return;
  }
  std::shared_ptr<origin::ObjectReader> reader;
  if (!complete_needs(reader, &needs)) {
    origin::OpenedObject opened =
        co_await request.source->open(reactor_, request.handle, request.object, origin::Opener::kAhead);
    if (!opened.outcome.ok() || request.offset >= opened.reader->size()) co_return;
    reader = std::move(opened.reader);
    if (opened.data_set != 0) request.data_set = opened.data_set;
    request.length =
        static_cast<uint32_t>(std::min<uint64_t>(request.length, reader->size() - request.offset));
    needs = needs_of(request, true);
    complete_needs(reader, &needs);
  }
  if (needs.empty()) co_return;
  std::vector<memory_tier::SlotId> slots = co_await slots_.take(lengths_of(needs), 0);
  if (slots.empty()) {
    ++stats_.prefetch_dropped;
    co_return;
  }
  // take() without waiting does not suspend, so `needs` still holds.
  std::vector<Run> runs = plan_fetches(request, needs, reader, &slots, Priority::kBackground);
  for (Run& run : runs) {
    prefetching_bytes_ += run.length;
    stats_.prefetch_bytes += run.length;
  }
  for (Run& run : runs) io::spawn(fetch_run(std::move(run)));
  give_back(&slots);
}

}  // namespace cached::readpath
