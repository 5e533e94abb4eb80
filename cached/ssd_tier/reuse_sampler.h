// ReuseSampler: remembers when a sample of the keys was last seen, to tell re-references from first sights.
//
// Sampling is by space, as in SHARDS (Waldspurger, FAST '15): a key is followed if its hash lies below a
// limit, so that every reference to it counts and gaps between references are exact. The table has a fixed
// size; the limit is halved when the table is too full and doubled when it is nearly empty, so that the
// sample is as large as the table allows for whatever is in use now. Keys that were not seen within the
// horizon count as never seen, and leave their places; otherwise one long scan would thin out the sample for
// ever.
//
// Threads: the shard's own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cached::ssd_tier {

class ReuseSampler {
 public:
  // How many keys are followed at most; each takes 16 bytes.
  static constexpr size_t kEntries = 8192;

  struct Sight {
    bool sampled = false;      // the key is one of those that are followed
    bool seen_before = false;  // and was seen within the horizon
    uint64_t gap_bytes = 0;    // how far back, if seen before
  };

  // Which keys are followed depends on `seed`.
  explicit ReuseSampler(uint64_t seed);

  // Notes a reference to the key at `position_bytes`, which never goes back. `horizon_bytes` is how far back
  // keys are remembered.
  Sight see(uint64_t key_hash, uint64_t position_bytes, uint64_t horizon_bytes);

  // Forgets what is beyond the horizon and fits the share of keys that are followed to the room there is.
  // see() does it when the table may be full; the owner does it now and then, for a table that is nearly
  // empty.
  void adapt(uint64_t position_bytes, uint64_t horizon_bytes);

  // The share of all keys that is followed, 0 < share <= 1.
  double share() const;

 private:
  struct Entry {
    uint64_t hash = 0;  // 0: no key
    uint64_t last_seen_bytes = 0;
  };

  uint64_t seed_;
  unsigned halvings_ = 0;  // keys with a hash of up to 2^(64 - halvings_) - 1 are followed
  uint32_t until_adapt_;   // sights until the limit is looked at again
  std::vector<Entry> entries_;
};

}  // namespace cached::ssd_tier
