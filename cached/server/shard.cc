// A shard: its sessions, and how work arrives from their rings. What requests do is in requests.cc. See
// shard.h.
#include "cached/server/shard.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/log.h"
#include "base/units.h"
#include "cached/server/request_check.h"
#include "shm/futex.h"
#include "shm/hash.h"

namespace cached::server {
namespace {

constexpr unsigned kPrefetchesPerQueue = 8;
constexpr uint64_t kOverdueNoticeNs = 20 * kNanosecondsPerMillisecond;  // until a full socket is tried again
constexpr uint64_t kRegionsAtOnce =
    64;  // of one step of an eviction: a thousand blocks, some ten thousand small files

// A private copy of an entry that the client may change while we read it: each word is loaded once, and what
// was checked is what is used.
shm::Submission copy_once(const shm::Submission* entry) {
  constexpr size_t kWords = sizeof(shm::Submission) / sizeof(uint64_t);
  std::array<uint64_t, kWords> words;
  const auto* const source = reinterpret_cast<const volatile uint64_t*>(entry);
  for (size_t i = 0; i < kWords; ++i) words[i] = source[i];
  shm::Submission copy;
  std::memcpy(static_cast<void*>(&copy), words.data(), sizeof copy);
  return copy;
}

}  // namespace

Result<std::unique_ptr<Shard>> Shard::create(const Options& options, memory_tier::SharedMemory& memory) {
  std::unique_ptr<Shard> shard(new Shard(options));
  io::Reactor::Options reactor_options;
  reactor_options.name = "shard-" + std::to_string(options.index);
  Result<std::unique_ptr<io::Reactor>> reactor = io::Reactor::create(reactor_options);
  if (!reactor.ok()) return reactor.status();
  shard->reactor_ = std::move(reactor).value();

  const uint64_t regions = memory.region_count();
  memory_tier::MemoryTier::Options tier_options;
  tier_options.arena = memory.arena();
  tier_options.first_region = regions * options.index / options.shards;
  tier_options.region_count = regions * (options.index + 1) / options.shards - tier_options.first_region;
  Shard* const self = shard.get();
  tier_options.scan_hazards = [self](std::vector<uint32_t>* pages) { self->scan_hazards(pages); };
  tier_options.prepare_region = [&memory](uint64_t region) { return memory.prepare_region(region); };
  shard->tier_ = std::make_unique<memory_tier::MemoryTier>(tier_options, memory.block_writer(options.index));

  const uint64_t first_byte = tier_options.first_region * memory_tier::kRegionBytes;
  shard->own_memory_.base = memory.arena() + first_byte;
  shard->own_memory_.length_bytes = tier_options.region_count * memory_tier::kRegionBytes;
  shard->own_memory_.prepared = [&memory, first_byte](uint64_t offset, uint64_t length) {
    return memory.prepared(first_byte + offset, length);
  };

  readpath::ReadPath::Options read_options;
  read_options.fetches_in_flight = options.fetches_in_flight;
  read_options.prefetch_limit_bytes = std::min<uint64_t>(
      read_options.prefetch_limit_bytes, tier_options.region_count * memory_tier::kRegionBytes / 8);
  shard->read_path_ = std::make_unique<readpath::ReadPath>(*shard->reactor_, *shard->tier_, read_options);

  shard->read_path_->set_send_ahead([self](const readpath::ReadRequest& request, unsigned window) {
    const shm::BlockKey key{request.object, 0, request.volume, request.data_set};
    Shard& owner = server::owner_of(self->peers_, key);
    owner.reactor_->post([&owner, request, window] { owner.read_path_->read_ahead(request, window); });
  });

  shard->reactor_->set_sleeping_flag(&memory.superblock()->shard_states[options.index].sleeping);
  shard->reactor_->set_poller([self] { return self->poll(); });
  return shard;
}

Shard::~Shard() = default;

void Shard::set_ssd(ssd_tier::SsdTier& ssd) {
  ssd_ = &ssd;
  // Direct I/O between devices and slots is cheaper from registered memory; the loop's own thread registers
  // it.
  reactor_->post([this] { reactor_->register_buffers(own_memory_); });
  std::vector<unsigned> queue_depths;
  for (const auto& device : ssd.devices()) queue_depths.push_back(device->queue_depth());
  read_path_->set_ssd({&ssd.shard(options_.index), &ssd.writer(options_.index), &ssd.policy(options_.index)},
                      queue_depths);
  readpath::ReadPath* const read_path = read_path_.get();
  ssd.writer(options_.index).set_done([read_path](const ssd_tier::Writer::Offer& offer, bool written) {
    read_path->written_to_ssd(offer, written);
  });
}

void Shard::add_session(std::shared_ptr<Session> session) {
  auto attached = std::make_shared<Attached>();
  const unsigned queues = session->geometry().queue_count;
  attached->queues.resize(queues);
  attached->touch_tails.resize(queues);
  for (unsigned q = 0; q < queues; ++q) attached->queues[q].view = session->queue(q);
  attached->session = std::move(session);
  sessions_.push_back(attached);
  io::spawn(wait_for_doorbell(attached));
}

// Keeps a read of the session's eventfd in the ring, so that a client's write wakes the loop; the poller does
// the rest.
io::Task<void> Shard::wait_for_doorbell(AttachedPointer attached) {
  uint64_t value = 0;
  while (attached->session->serving()) {
    const int result =
        co_await reactor_->read(attached->session->eventfd(options_.index), &value, sizeof value, 0);
    if (result < 0 && result != -EINTR && result != -EAGAIN) break;
  }
}

void Shard::stop_serving(uint64_t session_id) {
  for (const AttachedPointer& attached : sessions_) {
    if (attached->session->id() != session_id) continue;
    attached->session->stop_serving();
    reactor_->cancel_fd(attached->session->eventfd(options_.index));
  }
}

void Shard::remove_session(uint64_t session_id) {
  stop_serving(session_id);
  const auto found = std::find_if(sessions_.begin(), sessions_.end(),
                                  [&](const AttachedPointer& a) { return a->session->id() == session_id; });
  if (found == sessions_.end()) return;
  const AttachedPointer attached = std::move(*found);
  sessions_.erase(found);
  for (Queue& queue : attached->queues) {
    for (auto& [number, pinned] : queue.pinned) give_back(std::move(pinned), *attached->session);
    queue.pinned.clear();
  }
}

void Shard::start_notices(const std::shared_ptr<Session>& session) {
  session->start_notices();
  if (session->notices_overdue()) io::spawn(send_overdue_notices(session));
}

void Shard::tell(const volume::Volume& volume, const std::vector<shm::Notice>& notices) {
  for (const AttachedPointer& attached : sessions_) {
    const std::shared_ptr<Session>& session = attached->session;
    if (session->volume() != &volume) continue;
    const bool overdue = session->notices_overdue();
    session->tell(notices);
    if (!overdue && session->notices_overdue()) io::spawn(send_overdue_notices(session));
  }
}

// A client that does not read for a time, because it is stopped or slow, is told when it does.
io::Task<void> Shard::send_overdue_notices(std::shared_ptr<Session> session) {
  while (session->notices_overdue() && session->serving()) {
    co_await reactor_->sleep_until(reactor_->clock().monotonic_ns() + kOverdueNoticeNs);
    session->send_overdue();
  }
}

ShardStats Shard::stats() const {
  return {tier_->stats(), read_path_->stats(), requests_, violations_, running_};
}

ShardFigures Shard::figures() const {
  timespec used{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  ShardFigures figures{stats(), read_path_->figures()};
  figures.cpu_ns =
      static_cast<uint64_t>(used.tv_sec) * kNanosecondsPerSecond + static_cast<uint64_t>(used.tv_nsec);
  figures.operations_in_flight = reactor_->in_flight();
  return figures;
}

ShardDataSetUse Shard::data_set_use() const {
  ShardDataSetUse use{tier_->use().by_tag(), {}};
  if (ssd_ != nullptr) use.ssd = ssd_->shard(options_.index).use().by_tag();
  return use;
}

EvictCount Shard::evict_block(const shm::BlockKey& key, bool dry_run) {
  const memory_tier::MemoryTier::Evicted evicted = tier_->evict_block(key, dry_run);
  EvictCount count{evicted.pieces, evicted.bytes, 0};
  if (ssd_ == nullptr) return count;
  const ssd_tier::SsdIndex::Removed removed = ssd_->shard(options_.index).evict(key, dry_run);
  count.blocks += removed.entries;
  count.ssd_bytes = removed.bytes;
  return count;
}

io::Task<EvictCount> Shard::evict_matching(std::function<bool(uint16_t)> matches, uint64_t idle_ns,
                                           bool dry_run, const std::atomic<bool>& cancelled) {
  EvictCount count;
  const uint64_t regions = tier_->stats().regions;
  const auto in_memory = [&](const shm::BlockKey& key, uint64_t unused_ns) {
    return unused_ns >= idle_ns && matches(key.data_set);
  };
  for (uint64_t first = 0; first < regions && !cancelled; first += kRegionsAtOnce) {
    const auto evicted = tier_->evict_if(in_memory, dry_run, first, kRegionsAtOnce);
    count += {evicted.pieces, evicted.bytes, 0};
    co_await reactor_->nop();
  }
  const unsigned devices = ssd_ == nullptr ? 0 : ssd_->shard(options_.index).device_count();
  for (unsigned device = 0; device < devices; ++device) {
    ssd_tier::SsdShard& shard = ssd_->shard(options_.index);
    for (uint32_t segment = 0; segment < shard.segment_count(device) && !cancelled; ++segment) {
      const auto removed = shard.evict_in_segment(device, segment, matches, idle_ns, dry_run);
      count += {removed.entries, 0, removed.bytes};
      if (removed.entries > 0) co_await reactor_->nop();
    }
  }
  co_return count;
}

ShardSsdStats Shard::ssd_stats() const {
  ShardSsdStats stats;
  stats.shard = ssd_->shard(options_.index).stats();
  stats.writer = ssd_->writer(options_.index).stats();
  stats.policy = ssd_->policy(options_.index).figures();
  for (const auto& device : ssd_->devices()) {
    ssd_tier::SsdShard& shard = ssd_->shard(options_.index);
    stats.read_latency_us.push_back(shard.read_latency_us(device->number()));
    stats.totals.push_back(shard.totals(device->number()));
    stats.segments.push_back(device->is_home(*reactor_) ? device->segment_counts()
                                                        : ssd_tier::DeviceLog::SegmentCounts{});
  }
  return stats;
}

void Shard::scan_hazards(std::vector<uint32_t>* pages) const {
  for (const AttachedPointer& attached : sessions_) {
    for (const Queue& queue : attached->queues) {
      for (unsigned i = 0; i < shm::kHazardsPerQueue; ++i) {
        const uint64_t hazard = queue.view.hazard(i).load(std::memory_order_seq_cst);
        if (hazard != 0) pages->push_back(static_cast<uint32_t>(hazard - 1));
      }
    }
  }
}

void Shard::collect_touches() {
  // Touches matter when victims are chosen, and that happens when blocks come in.
  const uint64_t insertions = tier_->stats().insertions;
  if (insertions == insertions_seen_) return;
  insertions_seen_ = insertions;
  for (const AttachedPointer& attached : sessions_) {
    for (unsigned q = 0; q < attached->queues.size(); ++q) {
      const shm::QueueView& view = attached->queues[q].view;
      const uint64_t head = view.control().touch_head.load(std::memory_order_acquire);
      uint64_t& tail = attached->touch_tails[q];
      if (head - tail > shm::kTouchesPerQueue) tail = head - shm::kTouchesPerQueue;
      for (; tail != head; ++tail) {
        const uint32_t page = view.touch(tail).load(std::memory_order_relaxed);
        if (page != 0) tier_->touch(page - 1);
      }
    }
  }
}

bool Shard::poll() {
  wake_clients();
  bool found = false;
  for (size_t i = 0; i < sessions_.size(); ++i) {
    const AttachedPointer& attached = sessions_[i];
    if (!attached->session->serving()) continue;
    std::atomic<uint64_t>& doorbell = attached->session->doorbell(options_.index).queues;
    if (doorbell.load(std::memory_order_seq_cst) == 0) continue;
    const uint64_t rung = doorbell.exchange(0, std::memory_order_seq_cst);
    const AttachedPointer held = attached;  // requests may change sessions_
    for (unsigned q = 0; q < held->queues.size(); ++q) {
      if ((rung >> q & 1) != 0 && serves(*held->session, q)) found |= drain(held, q);
    }
  }
  wake_clients();
  collect_touches();
  return found;
}

bool Shard::drain(const AttachedPointer& attached, unsigned queue_index) {
  Queue& queue = attached->queues[queue_index];
  const uint32_t tail = queue.view.control().submission_tail.load(std::memory_order_acquire);
  if (tail - queue.submission_head > queue.view.depth()) {
    ++violations_;
    attached->session->end_service("its submission ring runs backwards or over");
    return false;
  }
  const bool found = tail != queue.submission_head;
  while (queue.submission_head != tail && attached->session->serving()) {
    const shm::Submission submission = copy_once(queue.view.submission(queue.submission_head));
    ++queue.submission_head;
    queue.view.control().submission_head.store(queue.submission_head, std::memory_order_release);
    if (const char* const why = violation_in(queue, submission)) {
      ++violations_;
      attached->session->end_service(why);
      break;
    }
    dispatch(attached, queue_index, submission);
  }
  return found;
}

const char* Shard::violation_in(const Queue& queue, const shm::Submission& submission) const {
  if (const char* const why = malformed(submission, queue.view.buffer_bytes())) return why;
  // These two have no completion, so they take no room.
  if (submission.opcode == shm::Opcode::kRelease || submission.opcode == shm::Opcode::kPrefetch)
    return nullptr;
  const uint32_t consumed = queue.view.control().completion_head.load(std::memory_order_acquire);
  const uint32_t unconsumed = queue.completion_tail - consumed;
  if (unconsumed > queue.view.depth() || unconsumed + queue.running.size() >= queue.view.depth()) {
    return "more requests than its ring is deep";
  }
  if (std::find(queue.running.begin(), queue.running.end(), submission.request_number) !=
          queue.running.end() ||
      queue.pinned.contains(submission.request_number)) {
    return "a request number is used twice at once";
  }
  return nullptr;
}

void Shard::dispatch(const AttachedPointer& attached, unsigned queue_index,
                     const shm::Submission& submission) {
  Queue& queue = attached->queues[queue_index];
  ++requests_;
  if (submission.opcode == shm::Opcode::kRelease) {
    release(attached, queue_index, submission.pinned_request);
    return;
  }
  if (submission.opcode == shm::Opcode::kPrefetch) {
    if (queue.prefetches >= kPrefetchesPerQueue) return;
    ++queue.prefetches;
    ++running_;
    io::spawn(serve_prefetch(attached, queue_index, submission));
    return;
  }
  queue.running.push_back(submission.request_number);
  ++running_;
  io::spawn(serve(attached, queue_index, submission));
}

void Shard::release(const AttachedPointer& attached, unsigned queue_index, uint64_t request_number) {
  auto& pinned = attached->queues[queue_index].pinned;
  const auto found = pinned.find(request_number);
  if (found == pinned.end()) return;
  give_back(std::move(found->second), *attached->session);
  pinned.erase(found);
}

void Shard::give_back(PinnedRead pinned, Session& session) {
  session.pins().fetch_sub(static_cast<int64_t>(pinned.slots.size()), std::memory_order_relaxed);
  Shard* const owner = pinned.owner;
  const auto unpin = [owner, slots = std::move(pinned.slots)] {
    for (const memory_tier::SlotId slot : slots) owner->read_path_->unpin(slot);
  };
  if (owner == this) {
    unpin();
  } else {
    owner->reactor().post(unpin);
  }
}

void Shard::complete(const AttachedPointer& attached, unsigned queue_index, shm::Completion completion) {
  Queue& queue = attached->queues[queue_index];
  std::erase(queue.running, completion.request_number);
  if (!attached->session->serving()) return;
  shm::QueueControl& control = queue.view.control();
  *queue.view.completion(queue.completion_tail) = completion;
  ++queue.completion_tail;
  control.completion_tail.store(queue.completion_tail, std::memory_order_seq_cst);
  if (std::exchange(queue.to_wake, true)) return;
  to_wake_.emplace_back(attached, queue_index);
}

// Once for all completions of a turn of the loop, and not again before the client has run and says anew that
// it waits: a wake-up costs more than a completion.
void Shard::wake_clients() {
  for (const auto& [attached, queue_index] : to_wake_) {
    Queue& queue = attached->queues[queue_index];
    queue.to_wake = false;
    shm::QueueControl& control = queue.view.control();
    if (control.client_waiting.load(std::memory_order_seq_cst) == 0) continue;
    if (control.client_waiting.exchange(0, std::memory_order_seq_cst) == 0) continue;
    shm::futex_wake(control.completion_tail);
  }
  to_wake_.clear();
}

Shard& owner_of(const std::vector<Shard*>& shards, const shm::BlockKey& key) {
  return *shards[shm::partition_of_hash(shm::hash_extent(key), static_cast<unsigned>(shards.size()))];
}

}  // namespace cached::server
