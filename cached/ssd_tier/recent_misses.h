// RecentMisses: which keys missed a short while ago, to know the second miss of a key from the first.
//
// A table of fingerprints in which a newer key takes the place of an older one with the same place: it knows
// most of the last `entries` keys and is wrong about one in 32,768. That is enough for admission, which is a
// matter of chance anyway, at four bytes a key.
//
// Threads: the shard's own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace cached::ssd_tier {

class RecentMisses {
 public:
  // Remembers about `entries` (at least 1) keys.
  explicit RecentMisses(size_t entries) : table_(entries) {}

  // Whether the key was noted here in one of the `ticks` - 1 ticks before `tick`
  // (AdmissionPolicy::heat_tick()); notes it. Misses in one tick count as one: they may be the pieces of one
  // read.
  bool note(uint64_t key_hash, uint32_t tick, uint32_t ticks) {
    // The place comes from the upper half and the fingerprint from the lower one.
    Entry& entry = table_[static_cast<size_t>((key_hash >> 32) * table_.size() >> 32)];
    const Entry now{.fingerprint = static_cast<uint16_t>(key_hash | 1), .tick = static_cast<uint16_t>(tick)};
    const Entry before = std::exchange(entry, now);
    const auto age = static_cast<uint16_t>(now.tick - before.tick);
    return before.fingerprint == now.fingerprint && age > 0 && age < ticks;
  }

  // Forgets all and remembers about `entries` keys from now on.
  void resize(size_t entries) { table_.assign(entries, {}); }

 private:
  struct Entry {
    uint16_t fingerprint = 0;  // 0: no key
    uint16_t tick = 0;         // the lower half of it
  };
  static_assert(sizeof(Entry) == 4);

  std::vector<Entry> table_;
};

}  // namespace cached::ssd_tier
