#include "tests/unit/ssd_tier_policy/simulation.h"

#include <xxhash.h>

#include <algorithm>
#include <utility>

namespace cached::ssd_tier {
namespace {

// Like the tier itself: at least a tenth of memory is for blocks on their way through.
constexpr uint64_t kTransientPart = 10;

uint64_t hash_of(uint64_t key) {
  return XXH3_64bits(&key, sizeof key);
}

}  // namespace

Counts& Counts::operator+=(const Counts& other) {
  read += other.read;
  memory_hit += other.memory_hit;
  ssd_hit += other.ssd_hit;
  written += other.written;
  return *this;
}

MemoryModel::MemoryModel(uint64_t capacity_bytes)
    : capacity_bytes_(capacity_bytes), main_limit_bytes_(capacity_bytes - capacity_bytes / kTransientPart) {}

bool MemoryModel::hit(uint64_t key) {
  const auto found = items_.find(key);
  if (found == items_.end()) return false;
  if (found->second->in_main) {
    found->second->visited = true;
    return true;
  }
  const Block block = found->second->block;
  transient_bytes_ -= block.bytes;
  transient_.erase(found->second);
  push_main(block);
  return true;
}

void MemoryModel::insert(const Block& block, bool in_main) {
  if (in_main) {
    push_main(block);
  } else {
    transient_.push_front({.block = block});
    items_[block.key] = transient_.begin();
    transient_bytes_ += block.bytes;
  }
  shrink_transient();
}

void MemoryModel::push_main(const Block& block) {
  while (main_bytes_ > 0 && main_full(block.bytes)) evict_main();
  main_.push_front({.block = block, .in_main = true});
  items_[block.key] = main_.begin();
  main_bytes_ += block.bytes;
}

// SIEVE: the hand goes from the oldest to the newest, forgives who was visited and takes the first who was
// not.
void MemoryModel::evict_main() {
  for (;;) {
    const auto at = hand_.value_or(std::prev(main_.end()));
    hand_ = at == main_.begin() ? std::nullopt : std::optional(std::prev(at));
    if (at->visited) {
      at->visited = false;
      continue;
    }
    main_bytes_ -= at->block.bytes;
    items_.erase(at->block.key);
    main_.erase(at);
    return;
  }
}

void MemoryModel::start_over() {
  for (Item& item : main_) item.visited = false;
  hand_.reset();
}

void MemoryModel::shrink_transient() {
  while (!transient_.empty() && main_bytes_ + transient_bytes_ > capacity_bytes_) {
    transient_bytes_ -= transient_.back().block.bytes;
    items_.erase(transient_.back().block.key);
    transient_.pop_back();
  }
}

SsdModel::SsdModel(uint64_t capacity_bytes, uint32_t segment_count, uint64_t seed)
    : segment_bytes_(capacity_bytes / segment_count), keys_(segment_count), victims_(segment_count, seed) {}

bool SsdModel::hit(uint64_t key, uint32_t tick) {
  const auto found = index_.find(key);
  if (found == index_.end()) return false;
  victims_.on_reference(found->second.segment, found->second.bytes, tick);
  return true;
}

void SsdModel::restart(uint64_t seed) {
  victims_ = VictimChooser(static_cast<uint32_t>(keys_.size()), seed);
  for (uint32_t segment = 0; segment < fresh_; ++segment) {
    if (segment != open_) victims_.add(segment);
  }
}

bool SsdModel::room(uint32_t bytes) const {
  return fresh_ < keys_.size() || (open_is_fresh_ && open_bytes_ + bytes <= segment_bytes_);
}

void SsdModel::write(const Block& block, uint32_t tick) {
  if (open_bytes_ + block.bytes > segment_bytes_) {
    victims_.add(open_);
    open_ = take_segment(tick);
    open_bytes_ = 0;
  }
  open_bytes_ += block.bytes;
  keys_[open_].push_back(block.key);
  index_[block.key] = {.segment = open_, .bytes = block.bytes};
  victims_.on_reference(open_, block.bytes, tick);
}

uint32_t SsdModel::take_segment(uint32_t tick) {
  if (fresh_ < keys_.size()) return fresh_++;
  open_is_fresh_ = false;
  const uint32_t victim = victims_.choose(tick).value();
  victims_.remove(victim);
  for (const uint64_t key : keys_[victim]) index_.erase(key);
  keys_[victim].clear();
  return victim;
}

Simulation::Shard::Shard(const Options& options)
    : share(options),
      policy({.capacity_bytes = share.ssd_bytes, .memory_bytes = share.memory_bytes, .seed = share.seed}),
      memory(share.memory_bytes),
      ssd(share.ssd_bytes, share.segments, share.seed) {}

void Simulation::Shard::restart() {
  policy = AdmissionPolicy(
      {.capacity_bytes = share.ssd_bytes, .memory_bytes = share.memory_bytes, .seed = share.seed});
  memory = MemoryModel(share.memory_bytes);
  ssd.restart(share.seed);
  reopenings_seen = 0;
}

Simulation::Simulation(const Options& options) {
  Options share = options;
  share.memory_bytes /= options.shards;
  share.ssd_bytes /= options.shards;
  share.segments /= options.shards;
  for (unsigned number = 0; number < options.shards; ++number, ++share.seed)
    shards_.push_back(std::make_unique<Shard>(share));
}

void Simulation::restart() {
  for (const auto& shard : shards_) shard->restart();
}

Counts Simulation::read(const Block& block) {
  const uint64_t hash = hash_of(block.key);
  Shard& shard = *shards_[(hash >> 48) % shards_.size()];
  Counts counts{.read = block.bytes};
  if (shard.memory.hit(block.key)) {
    counts.memory_hit = block.bytes;
    return counts;
  }
  AdmissionPolicy& policy = shard.policy;
  bool on_ssd = shard.ssd.hit(block.key, policy.heat_tick());
  policy.on_lookup(hash, block.bytes, on_ssd);
  if (on_ssd) {
    counts.ssd_hit = block.bytes;
  } else if (policy.admit(hash, shard.ssd.room(block.bytes))) {
    shard.ssd.write(block, policy.heat_tick());
    policy.on_written(block.bytes);
    counts.written = block.bytes;
    on_ssd = true;
  }
  if (std::exchange(shard.reopenings_seen, policy.reopenings()) != policy.reopenings())
    shard.memory.start_over();
  shard.memory.insert(block, policy.keep_in_memory(block.bytes, shard.memory.main_full(block.bytes), on_ssd));
  return counts;
}

uint64_t Simulation::reopenings() const {
  uint64_t most = 0;
  for (const auto& shard : shards_) most = std::max(most, shard->policy.figures().reopenings);
  return most;
}

}  // namespace cached::ssd_tier
