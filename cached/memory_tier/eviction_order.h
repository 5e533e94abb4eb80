// EvictionOrder: the present slots of one size class in the order in which they are evicted, and how many of
// them have no pins.
//
// Two lists. The main list holds what only the origin could bring back, and is SIEVE's (sieve.h). The
// transient list holds what is cheap to lose: blocks that an SSD holds as well, and blocks that the admission
// policy did not choose to keep. It is a queue with a second chance (as the small queue of S3-FIFO): a slot
// enters at the head, and when its turn comes at the tail it goes, unless it was touched more than
// kCorrelationNs after its fill; then it moves to the head of the main list.
//
// Shares. While the transient list is longer than a tenth of the class its tail goes, so streams of cheap
// blocks pass through a tenth of the memory and the rest keeps what it has. A tenth, not nothing, because a
// block that was just read is often read again at once (requests smaller than a block, read-ahead and then
// the reader, another process on the same sample), and because a slot needs the time to show that it is hot.
// Below a tenth SIEVE chooses among the main list. Without an SSD tier nothing is transient and SIEVE is all
// there is.
//
// Where a demoted slot enters: at the head. It is demoted as soon as an SSD has it, which is soon after its
// fill, so the block's own readers are often still at it; at the tail it would be the very next to go.
// Simulated, memory a tenth and the SSD four tenths of the data set, head / tail: permuted epochs hit 48.3 /
// 48.3 % when the SSD admits 2 %, 28.5 / 27.6 % when it admits all, for a permutation does not say which of
// the blocks just read comes first; but of second reads within 400 accesses, the SSD admitting all, 59 / 43 %
// hit memory, and with a memory of a quarter 100 / 46 %.
//
// Pinned slots are passed over: SIEVE's hand leaves them where they are; at the tail of the transient list
// one goes back to the head, for somebody uses it right now, and so no search meets it again soon.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "cached/memory_tier/sieve.h"
#include "cached/memory_tier/slot_store.h"

namespace cached::memory_tier {

// The transient list gives way while it is longer than the class's slots divided by this.
inline constexpr uint64_t kTransientShare = 10;

class EvictionOrder {
 public:
  const Sieve& main() const { return main_; }
  const SlotList& transient() const { return transient_; }
  uint64_t evictable(Retention retention) const { return evictable_[index_of(retention)]; }
  uint64_t evictable() const { return evictable_[0] + evictable_[1]; }

  // A slot became present; its meta says whether it is transient and pinned.
  void insert(SlotStore& store, uint32_t slot) {
    const SlotMeta& meta = store[slot];
    if (meta.retention == Retention::kMain) {
      main_.insert(store, slot);
    } else {
      transient_.push_front(store, slot);
    }
    if (meta.pins == 0) ++evictable_[index_of(meta.retention)];
  }

  // A slot is present no longer, its pins as they were.
  void remove(SlotStore& store, uint32_t slot) {
    const SlotMeta& meta = store[slot];
    if (meta.retention == Retention::kMain) {
      main_.remove(store, slot);
    } else {
      transient_.remove(store, slot);
    }
    if (meta.pins == 0) --evictable_[index_of(meta.retention)];
  }

  // A slot of the class got its first pin, or lost its last.
  void pinned(const SlotMeta& meta) { --evictable_[index_of(meta.retention)]; }
  void unpinned(const SlotMeta& meta) { ++evictable_[index_of(meta.retention)]; }

  // A slot of the main list became cheap to lose. One that is transient already keeps its place.
  void demote(SlotStore& store, uint32_t slot) {
    if (store[slot].retention == Retention::kMain) move(store, slot, Retention::kTransient);
  }

  // See MemoryTier::forget_touches().
  void forget_touches(SlotStore& store) { main_.forget_touches(store); }

  // How many slots the transient list has beyond its share.
  uint64_t transient_surplus() const {
    const uint64_t share = (transient_.size() + main_.list().size()) / kTransientShare;
    return transient_.size() - std::min(transient_.size(), share);
  }

  // The slot to evict, which the caller removes; clears visited bits on its way. At least one slot must be
  // unpinned.
  uint32_t next_victim(SlotStore& store) {
    unsigned spared = 0;
    while (transient_is_next()) {
      const uint32_t slot = transient_.tail();
      SlotMeta& meta = store[slot];
      if (meta.pins > 0) {
        transient_.remove(store, slot);
        transient_.push_front(store, slot);
      } else if (meta.visited && spared < Sieve::kSparedPerVictim) {
        meta.visited = false;
        --store.region_of(slot).visited_count;
        move(store, slot, Retention::kMain);
        ++spared;
      } else {
        return slot;
      }
    }
    return main_.next_victim(store);
  }

  // The slot that next_victim() would take if it is near, else an unpinned one nearby; kNoSlot if there is
  // none. Changes nothing.
  uint32_t peek(const SlotStore& store) const {
    if (!transient_is_next()) return main_.peek(store);
    uint32_t unpinned = kNoSlot;
    uint32_t slot = transient_.tail();
    for (unsigned step = 0; step < Sieve::kPeekSteps && slot != kNoSlot; ++step) {
      const SlotMeta& meta = store[slot];
      if (meta.pins == 0 && !meta.visited) return slot;
      if (meta.pins == 0 && unpinned == kNoSlot) unpinned = slot;
      slot = meta.previous;
    }
    return unpinned;
  }

 private:
  static constexpr unsigned index_of(Retention retention) { return static_cast<unsigned>(retention); }

  bool transient_is_next() const {
    if (evictable(Retention::kTransient) == 0) return false;
    return transient_surplus() > 0 || evictable(Retention::kMain) == 0;
  }

  void move(SlotStore& store, uint32_t slot, Retention to) {
    remove(store, slot);
    store[slot].retention = to;
    insert(store, slot);
  }

  Sieve main_;
  SlotList transient_;
  std::array<uint64_t, 2> evictable_ = {};  // slots without pins, by retention
};

}  // namespace cached::memory_tier
