// A device's life: opening, recovery, segments, health, drain. See device_log.h.
#include "cached/ssd_tier/device_log.h"

#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "cached/ssd_tier/aligned_buffer.h"
#include "cached/ssd_tier/inspect.h"
#include "cached/ssd_tier/ssd_shard.h"
#include "shm/hash.h"
#include "shm/seq_table.h"

namespace cached::ssd_tier {
namespace {

constexpr uint64_t kOpenAgainMs = 200;        // between tries to have the device
constexpr uint64_t kComplainAfterTries = 25;  // of waiting, once
constexpr size_t kEntriesPerPost = 512;       // that a shard takes in without serving readers
constexpr unsigned kPostsInFlight = 16;       // of recovered entries, all shards together
constexpr unsigned kGroupBits = 6;            // a shard's entries are handed over in groups by their hashes
constexpr uint32_t kSegmentsSampled = 64;     // to estimate how many entries there are

}  // namespace

DeviceLog::DeviceLog(Options options, io::Reactor& home) : options_(std::move(options)), home_(home) {}

DeviceLog::~DeviceLog() {
  stop();
}

void DeviceLog::start(std::vector<SsdShard*> shards) {
  shards_ = std::move(shards);
  thread_ = std::thread([this] { run(); });
}

void DeviceLog::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

// The opening thread.

bool DeviceLog::pause(uint64_t duration_ms) {
  std::unique_lock lock(mutex_);
  return !wake_.wait_for(lock, std::chrono::milliseconds(duration_ms), [this] { return stopping(); });
}

void DeviceLog::set_phase(DevicePhase phase, std::string reason) {
  {
    const std::lock_guard lock(mutex_);
    reason_ = std::move(reason);
  }
  phase_.store(phase, std::memory_order_release);
}

std::string DeviceLog::reason() const {
  const std::lock_guard lock(mutex_);
  return reason_;
}

std::string DeviceLog::state_name() const {
  switch (phase()) {
    case DevicePhase::kWaiting:
      return "waiting";
    case DevicePhase::kRecovering:
      return health() == HealthState::kHealthy ? "recovering" : name_of(health());
    case DevicePhase::kReady:
      return name_of(health());
    case DevicePhase::kDraining:
      return "draining";
    case DevicePhase::kDrained:
      return "drained";
    case DevicePhase::kRefused:
      return "refused";
  }
  return "?";
}

void DeviceLog::run() {
  for (uint64_t tries = 1;; ++tries) {
    const Status opened = open_and_check();
    if (opened.ok()) break;
    device_.reset();
    constexpr std::array kHopeless = {EINVAL, EEXIST, EPROTONOSUPPORT, EBADMSG, EFBIG, EOVERFLOW};
    const bool hopeless = std::ranges::find(kHopeless, opened.error_number()) != kHopeless.end();
    set_phase(hopeless ? DevicePhase::kRefused : DevicePhase::kWaiting, opened.message());
    if (hopeless || tries == kComplainAfterTries) {
      log_error("device {}: not in use{}: {}", path(), hopeless ? "" : " yet", opened.message());
    }
    if (hopeless || !pause(kOpenAgainMs)) return;
  }
  recover_segments();
}

// Locks the device, makes it ours if it is blank, and counts this start in its superblock.
Status DeviceLog::open_and_check() {
  Result<std::unique_ptr<io::Device>> opened = options_.open();
  if (!opened.ok()) return opened.status();
  device_ = std::move(opened).value();
  Result<Superblock> started = begin_start(*device_);
  if (started.error_number() == ENODATA) {
    if (const Result<Superblock> made = format_device(*device_, false); !made.ok()) return made.status();
    log_info("device {}: was blank and is ours now", path());
    started = begin_start(*device_);
  }
  if (!started.ok()) return started.status();
  superblock_ = *started;
  sequences_ = std::vector<std::atomic<uint64_t>>(layout().segment_count);
  references_ = std::vector<std::atomic<uint64_t>>(layout().segment_count);
  return Status();
}

// Hands recovered entries to their owners, a bounded number at a time.
void DeviceLog::post_entries(unsigned shard, std::vector<RecoveredEntry> entries) {
  {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return posts_in_flight_ < kPostsInFlight || stopping(); });
    if (stopping()) return;
    ++posts_in_flight_;
  }
  figures_.recovered_entries.fetch_add(entries.size(), std::memory_order_relaxed);
  SsdShard* const owner = shards_[shard];
  owner->reactor().post([this, owner, entries = std::move(entries)] {
    owner->insert_recovered(entries);
    {
      const std::lock_guard lock(mutex_);
      --posts_in_flight_;
    }
    wake_.notify_all();
  });
}

// Shards learn of a device before the first of its entries.
void DeviceLog::introduce_to_shards() {
  for (SsdShard* const shard : shards_) {
    shard->reactor().post([this, shard] {
      shard->add_device(number(), layout());
      device_->attach(shard->reactor());
    });
  }
}

// From the trailers of segments all over the device. Only of sealed ones, and a guess: nothing depends on it
// but how often tables grow.
uint64_t DeviceLog::estimate_entries() {
  uint64_t entries = 0;
  const uint32_t count = layout().segment_count;
  const uint32_t sampled = std::min(count, kSegmentsSampled);
  for (uint32_t i = 0; i < sampled && !stopping(); ++i) {
    const auto segment = static_cast<uint32_t>(uint64_t{i} * count / sampled);
    const Result<AlignedBuffer> tail = read_aligned(
        *device_, kTrailerBytes, layout().segment_offset(segment) + layout().segment_bytes - kTrailerBytes);
    if (!tail.ok()) continue;
    const Result<TrailerInfo> trailer =
        decode_trailer(layout(), superblock_.uuid, segment, tail->bytes().first<kTrailerBytes>());
    if (trailer.ok()) entries += trailer->record_count;
  }
  return entries * count / sampled;
}

void DeviceLog::recover_segment(SegmentScan& scan, uint32_t segment, WaitingEntries* waiting) {
  const SegmentContent content = read_segment(*device_, scan, layout(), segment);
  recovered_[segment] = content.records.empty() ? Use::kFree : Use::kClosed;
  // Before the entries: who reads them needs it.
  sequences_[segment].store(content.sequence, std::memory_order_relaxed);
  const auto shards = static_cast<unsigned>(shards_.size());
  for (const Record& record : content.records) {
    RecoveredEntry entry;
    entry.key = record.key;
    entry.hash = shm::hash_block(record.key);
    entry.location = {number(), segment, layout().segment_offset(segment) + record.offset_bytes,
                      record.length_bytes};
    entry.checksums = record.checksums;
    const unsigned shard = shm::partition_of_hash(shm::hash_extent(record.key), shards);
    // Entries of one group meet in one part of the index, which caches hold then.
    const size_t group = entry.hash >> (64 - kGroupBits);
    std::vector<RecoveredEntry>& batch = (*waiting)[(size_t{shard} << kGroupBits) + group];
    if (batch.empty()) batch.reserve(kEntriesPerPost);
    batch.push_back(entry);
    if (batch.size() >= kEntriesPerPost) post_entries(shard, std::exchange(batch, {}));
  }
}

void DeviceLog::recover_segments() {
  const uint64_t started_ns = system_clock().monotonic_ns();
  introduce_to_shards();
  set_phase(DevicePhase::kRecovering);
  recovered_.resize(layout().segment_count);
  SegmentScan scan(layout(), superblock_.uuid);
  const uint64_t expected = estimate_entries() / shards_.size();
  for (SsdShard* const shard : shards_) {
    shard->reactor().post([shard, expected] { shard->expect_recovered(expected); });
  }
  WaitingEntries waiting(shards_.size() << kGroupBits);
  for (uint32_t segment = 0; segment < layout().segment_count && !stopping(); ++segment) {
    recover_segment(scan, segment, &waiting);
  }
  for (size_t i = 0; i < waiting.size(); ++i) {
    if (!waiting[i].empty()) post_entries(static_cast<unsigned>(i >> kGroupBits), std::move(waiting[i]));
  }
  {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return posts_in_flight_ == 0 || stopping(); });
  }
  if (stopping()) return;
  figures_.recovery_ms = (system_clock().monotonic_ns() - started_ns) / kNanosecondsPerMillisecond;
  log_info("device {}: {} entries in {} segments of {}, read in {} ms", path(),
           figures_.recovered_entries.load(), layout().segment_count, format_size(layout().segment_bytes),
           figures_.recovery_ms.load());
  home_.post([this] { take_over(); });
}

// Home shard: segments.

void DeviceLog::take_over() {
  victims_.emplace(layout().segment_count, superblock_.start_count);
  segments_ = std::move(recovered_);
  std::deque<uint32_t> closed;
  for (uint32_t segment = 0; segment < segments_.size(); ++segment) {
    (segments_[segment] == Use::kFree ? free_ : closed).push_back(segment);
  }
  // In the order of their writing, which decides among equals.
  std::ranges::sort(closed, {}, [this](uint32_t segment) { return sequence_of(segment); });
  for (const uint32_t segment : closed) victims_->add(segment);
  free_count_.store(static_cast<uint32_t>(free_.size()), std::memory_order_relaxed);
  set_phase(DevicePhase::kReady);
  options_.on_change();
}

void DeviceLog::take_references(uint32_t heat_tick) {
  heat_tick_ = heat_tick;
  if (!victims_) return;
  for (uint32_t segment = 0; segment < references_.size(); ++segment) {
    if (references_[segment].load(std::memory_order_relaxed) == 0) continue;
    const uint64_t bytes = references_[segment].exchange(0, std::memory_order_relaxed);
    victims_->on_reference(segment, static_cast<uint32_t>(std::min<uint64_t>(bytes, UINT32_MAX)), heat_tick);
  }
}

std::optional<uint32_t> DeviceLog::choose_victim() {
  take_references(heat_tick_);
  return victims_->choose(heat_tick_);
}

std::optional<uint32_t> DeviceLog::take_free() {
  if (free_.empty()) return std::nullopt;
  const uint32_t segment = free_.front();
  free_.pop_front();
  free_count_.store(static_cast<uint32_t>(free_.size()), std::memory_order_relaxed);
  return segment;
}

io::Task<std::optional<SegmentName>> DeviceLog::open_segment(io::Reactor& caller) {
  co_await home_.hop();
  std::optional<SegmentName> opened;
  while (writable()) {
    if (const std::optional<uint32_t> segment = take_free()) {
      segments_[*segment] = Use::kOpen;
      victims_->remove(*segment);
      opened = SegmentName{superblock_.uuid, *segment, make_sequence(superblock_.start_count, fillings_++)};
      sequences_[*segment].store(opened->sequence, std::memory_order_relaxed);
      break;
    }
    if (!co_await evict_one()) break;
  }
  co_await caller.hop();
  co_return opened;
}

io::Task<void> DeviceLog::give_up_segment(io::Reactor& caller) {
  co_await home_.hop();
  if (writable()) co_await evict_one();
  co_await caller.hop();
}

// Makes one closed segment free, or waits for who is at it. False: there is none.
io::Task<bool> DeviceLog::evict_one() {
  if (eviction_) {
    const std::shared_ptr<io::Event> running = eviction_;
    co_await *running;
    co_return true;
  }
  const std::optional<uint32_t> victim = choose_victim();
  if (!victim) co_return false;
  eviction_ = std::make_shared<io::Event>();
  co_await empty_segment(*victim);
  make_free(*victim);
  std::exchange(eviction_, nullptr)->set();
  co_return true;
}

// When it ends no shard has an entry in the segment, nor a command that reads it.
io::Task<void> DeviceLog::empty_segment(uint32_t segment) {
  segments_[segment] = Use::kEvicting;
  victims_->remove(segment);
  for (SsdShard* const shard : shards_) {
    co_await shard->reactor().hop();
    co_await shard->drop_segment(number(), segment);
  }
  co_await home_.hop();
}

void DeviceLog::make_free(uint32_t segment) {
  segments_[segment] = Use::kFree;
  free_.push_back(segment);
  free_count_.store(static_cast<uint32_t>(free_.size()), std::memory_order_relaxed);
}

void DeviceLog::close_segment(uint32_t segment) {
  home_.post([this, segment] {
    // Unless it is being emptied, which drain() does to open ones.
    if (segments_[segment] != Use::kOpen) return;
    segments_[segment] = Use::kClosed;
    victims_->add(segment);
  });
}

DeviceLog::SegmentCounts DeviceLog::segment_counts() const {
  SegmentCounts counts{static_cast<uint32_t>(segments_.size()), 0, 0};
  for (const Use use : segments_) {
    if (use == Use::kFree) ++counts.free;
    if (use == Use::kOpen) ++counts.open;
  }
  return counts;
}

io::Task<Status> DeviceLog::drain(io::Reactor& caller) {
  co_await home_.hop();
  Status status;
  if (phase() == DevicePhase::kDraining || phase() == DevicePhase::kDrained) {
    status = Status(EALREADY, "device " + path() + " is " + state_name() + " already");
  } else if (phase() != DevicePhase::kReady) {
    status =
        Status(EBUSY, "device " + path() + " is " + state_name() + "; only a device in use can be drained");
  } else {
    set_phase(DevicePhase::kDraining, "drained by the operator");
    log_info("device {}: draining", path());
    options_.on_change();
    if (!std::exchange(emptying_, true)) io::spawn(empty_all());
  }
  co_await caller.hop();
  co_return status;
}

io::Task<void> DeviceLog::empty_all() {
  for (uint32_t segment = 0; segment < segments_.size() && phase() == DevicePhase::kDraining; ++segment) {
    if (segments_[segment] != Use::kClosed && segments_[segment] != Use::kOpen) continue;
    co_await empty_segment(segment);
    make_free(segment);
  }
  emptying_ = false;
  if (phase() != DevicePhase::kDraining) co_return;
  set_phase(DevicePhase::kDrained, "drained by the operator");
  log_info("device {}: drained; take it out of the configuration before the next start, or it is used again",
           path());
}

io::Task<Status> DeviceLog::undrain(io::Reactor& caller) {
  co_await home_.hop();
  Status status;
  if (phase() == DevicePhase::kDraining || phase() == DevicePhase::kDrained) {
    set_phase(DevicePhase::kReady);
    log_info("device {}: in use again", path());
    options_.on_change();
  } else {
    status =
        Status(EINVAL, "device " + path() + " is " + state_name() + ", and neither draining nor drained");
  }
  co_await caller.hop();
  co_return status;
}

// Home shard: health.

void DeviceLog::report(Fault fault) {
  figures_.faults[static_cast<unsigned>(fault)].fetch_add(1, std::memory_order_relaxed);
  // A command that hung has cost its reader the whole time-out: nobody may ask again before the home shard
  // hears of it. Whatever it decided meanwhile, record() comes after this and has the last word.
  HealthState healthy = HealthState::kHealthy;
  if (fault == Fault::kTimeout) health_state_.compare_exchange_strong(healthy, HealthState::kSuspect);
  home_.post([this, fault] { record(fault); });
}

void DeviceLog::record(Fault fault) {
  if (!health_.record_fault(fault, home_.clock().monotonic_ns())) return;
  health_state_.store(health_.state(), std::memory_order_release);
  log_warning("device {}: is suspect and not used until it answers probes; its blocks come from the origin",
              path());
  if (!std::exchange(probing_, true)) io::spawn(probe_until_well());
}

io::Task<void> DeviceLog::probe_until_well() {
  while (health_.state() != HealthState::kHealthy) {
    co_await home_.sleep_until(home_.clock().monotonic_ns() + health_.probe_after_ns());
    const bool succeeded = co_await probe();
    if (!health_.record_probe(succeeded)) continue;
    health_state_.store(health_.state(), std::memory_order_release);
    log_warning("device {}: is {}", path(), name_of(health_.state()));
  }
  probing_ = false;
}

// Reads the superblock and a block in the middle. A probe that hangs is waited for: that is its answer.
io::Task<bool> DeviceLog::probe() {
  Result<AlignedBuffer> buffer = AlignedBuffer::allocate(kMaximumBlockBytes);
  if (!buffer.ok()) co_return false;
  const iovec piece{buffer->data(), buffer->size()};
  const uint64_t started_ns = home_.clock().monotonic_ns();
  const uint64_t middle = layout().segment_offset(layout().segment_count / 2);
  for (const uint64_t offset : {uint64_t{0}, middle}) {
    if (co_await device_->readv(home_, std::span(&piece, 1), offset) != static_cast<int>(kMaximumBlockBytes))
      co_return false;
  }
  co_return home_.clock().monotonic_ns() - started_ns < options_.probe_timeout_ns;
}

}  // namespace cached::ssd_tier
