// Sieve: the order in which the slots of one list are evicted: of the main list of a size class.
//
// New slots enter at the head. A hand walks from the tail to the head and around; it clears the visited bit
// of a slot that has one, and takes the first slot without. Against LRU this spares the hot set: a scan's
// slots enter at the head, are not touched again, and are taken when the hand comes by, while hot slots stay
// where they are. (Zhang et al., NSDI 2024.) Pinned slots are passed over with their bits as they are.
//
// Laps. During a pure scan each eviction moves the hand one slot towards a head that moves away by one: the
// hand never comes around, and what it spared once stays for ever, long after its last use (a data set whose
// training ended). So a lap ends after kLapEvictions times as many evictions as there are slots, and the hand
// starts again at the tail. The number decides how rarely a slot may be used and still be kept: permuted
// epochs over five times the cache use a slot every 4.5 cache sizes on average, every 9 at most. Simulated,
// hit % at cached fractions .2 and .5: no bound 9.8 and 38.9, 16 sizes 7.8 and 38.8, 8 sizes 4.1 and 37.7.
#pragma once

#include <cstdint>

#include "cached/memory_tier/slot_store.h"

namespace cached::memory_tier {

class Sieve {
 public:
  // Clearing bits is paid for by the touches that set them, but not at once: a shard must not stand still
  // while the hand crosses a hot set of millions. After this many a hot slot goes.
  static constexpr unsigned kSparedPerVictim = 4096;
  // How far a search that may change nothing looks.
  static constexpr unsigned kPeekSteps = 8;

  const SlotList& list() const { return list_; }
  uint32_t hand() const { return hand_; }

  void insert(SlotStore& store, uint32_t slot) { list_.push_front(store, slot); }

  void remove(SlotStore& store, uint32_t slot) {
    if (hand_ == slot) {
      hand_ = store[slot].previous;
      if (hand_ == kNoSlot) start_lap();
    }
    list_.remove(store, slot);
  }

  // The slot to evict, which the caller removes; clears visited bits on its way. At least one slot must be
  // unpinned.
  uint32_t next_victim(SlotStore& store) {
    if (++lap_evictions_ > kLapEvictions * list_.size()) start_lap();
    unsigned spared = 0;
    for (uint32_t slot = at_hand();; slot = advance(store, slot)) {
      SlotMeta& meta = store[slot];
      if (meta.pins > 0) continue;
      if (!meta.visited || spared == kSparedPerVictim) {
        hand_ = slot;
        return slot;
      }
      meta.visited = false;
      --store.region_of(slot).visited_count;
      ++spared;
    }
  }

  // What was touched until now counts no more: the hand starts again at the oldest slot.
  void forget_touches(SlotStore& store) {
    for (uint32_t slot = list_.tail(); slot != kNoSlot; slot = store[slot].previous) {
      SlotMeta& meta = store[slot];
      if (!meta.visited) continue;
      meta.visited = false;
      --store.region_of(slot).visited_count;
    }
    start_lap();
  }

  // The slot that next_victim() would take if it is near, else an unpinned one near the hand; kNoSlot if
  // there is none. Changes nothing.
  uint32_t peek(const SlotStore& store) const {
    uint32_t unpinned = kNoSlot;
    uint32_t slot = at_hand();
    for (unsigned step = 0; step < kPeekSteps && slot != kNoSlot; ++step, slot = towards_head(store, slot)) {
      const SlotMeta& meta = store[slot];
      if (meta.pins > 0) continue;
      if (!meta.visited) return slot;
      if (unpinned == kNoSlot) unpinned = slot;
    }
    return unpinned;
  }

 private:
  static constexpr uint64_t kLapEvictions = 16;

  uint32_t at_hand() const { return hand_ == kNoSlot ? list_.tail() : hand_; }
  uint32_t towards_head(const SlotStore& store, uint32_t slot) const {
    const uint32_t previous = store[slot].previous;
    return previous == kNoSlot ? list_.tail() : previous;
  }

  uint32_t advance(const SlotStore& store, uint32_t slot) {
    if (store[slot].previous == kNoSlot) start_lap();
    return towards_head(store, slot);
  }
  void start_lap() {
    hand_ = kNoSlot;
    lap_evictions_ = 0;
  }

  SlotList list_;
  uint64_t lap_evictions_ = 0;  // in this lap of the hand
  uint32_t hand_ = kNoSlot;
};

}  // namespace cached::memory_tier
