#include "cached/ssd_tier/reuse_sampler.h"

#include <xxhash.h>

#include <cmath>
#include <limits>

namespace cached::ssd_tier {
namespace {

constexpr size_t kWays = 8;  // a key has its place in one bucket of this many, two cache lines
constexpr size_t kBuckets = ReuseSampler::kEntries / kWays;
static_assert((kBuckets & (kBuckets - 1)) == 0);

// Between two looks at the table it takes in no more keys than fit above the upper mark.
constexpr uint32_t kSightsPerAdapt = ReuseSampler::kEntries / 8;
constexpr size_t kFullEntries = ReuseSampler::kEntries * 5 / 8;
constexpr size_t kNearlyEmptyEntries = ReuseSampler::kEntries / 4;

// Half a table of keys fills a quarter after a halving, which must not ask for a doubling again.
static_assert(kFullEntries / 2 > kNearlyEmptyEntries);

uint64_t limit_after(unsigned halvings) {
  return std::numeric_limits<uint64_t>::max() >> halvings;
}

}  // namespace

ReuseSampler::ReuseSampler(uint64_t seed) : seed_(seed), until_adapt_(kSightsPerAdapt), entries_(kEntries) {}

double ReuseSampler::share() const {
  return std::ldexp(1.0, -static_cast<int>(halvings_));
}

ReuseSampler::Sight ReuseSampler::see(uint64_t key_hash, uint64_t position_bytes, uint64_t horizon_bytes) {
  const uint64_t hash = XXH3_64bits_withSeed(&key_hash, sizeof key_hash, seed_) | 1;
  if (hash > limit_after(halvings_)) return {};
  if (--until_adapt_ == 0) adapt(position_bytes, horizon_bytes);

  Entry* const bucket = &entries_[((hash >> 1) % kBuckets) * kWays];
  Entry* place = bucket;
  for (Entry* entry = bucket; entry != bucket + kWays; ++entry) {
    if (entry->hash == hash) {
      const uint64_t gap_bytes = position_bytes - entry->last_seen_bytes;
      entry->last_seen_bytes = position_bytes;
      return {.sampled = true, .seen_before = gap_bytes <= horizon_bytes, .gap_bytes = gap_bytes};
    }
    if (place->hash != 0 && (entry->hash == 0 || entry->last_seen_bytes < place->last_seen_bytes))
      place = entry;
  }
  *place = {.hash = hash, .last_seen_bytes = position_bytes};
  return {.sampled = true};
}

void ReuseSampler::adapt(uint64_t position_bytes, uint64_t horizon_bytes) {
  until_adapt_ = kSightsPerAdapt;
  size_t followed = 0;
  for (Entry& entry : entries_) {
    if (entry.hash != 0 && position_bytes - entry.last_seen_bytes > horizon_bytes) entry = {};
    followed += entry.hash != 0;
  }
  if (followed < kNearlyEmptyEntries && halvings_ > 0) --halvings_;
  if (followed <= kFullEntries) return;
  ++halvings_;
  for (Entry& entry : entries_) {
    if (entry.hash > limit_after(halvings_)) entry = {};
  }
}

}  // namespace cached::ssd_tier
