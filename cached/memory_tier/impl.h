// MemoryTier::Impl: the state of a memory tier and the division of its work.
//
//   memory_tier.cc  what callers do with slots: find, fill, publish, pin, touch
//   reclaim.cc      where free slots come from: regions, eviction, limbo, competition of size classes
//   check.cc        the consistency walk
#pragma once

#include <array>
#include <string>
#include <vector>

#include "cached/memory_tier/eviction_order.h"
#include "cached/memory_tier/memory_tier.h"
#include "cached/memory_tier/size_classes.h"
#include "cached/memory_tier/slot_store.h"

namespace cached::memory_tier {

// One size class.
struct SizeClass {
  SlotList free;
  EvictionOrder order;                   // its present slots
  std::vector<uint32_t> regions;         // active ones
  uint64_t unscanned = 0;                // slots sent to limbo for its sake since the last scan of hazards
  uint64_t evictions_since_look = 0;     // at other classes' ages
  uint32_t empty_regions = 0;            // active regions of which no slot is in use
  uint32_t incoming_region = kNoRegion;  // draining in another class for this one
  uint32_t region_cursor = 0;            // where the search for a cheap region goes on
};

struct MemoryTier::Impl {
 public:
  Impl(Options options, shm::SeqTableWriter<shm::BlockRecord> index)
      : options_(std::move(options)), index_(index), store_(options_.first_region, options_.region_count) {
    stats_.regions = options_.region_count;
  }

  std::optional<Piece> find(const shm::BlockKey& key, uint32_t offset_in_block) const;
  std::optional<SlotId> allocate(uint32_t length_bytes);
  uint32_t number_of(SlotId id) const;
  std::byte* data_of(uint32_t slot) const {
    return options_.arena + uint64_t{store_.page_of_slot(slot)} * shm::kPageBytes;
  }
  uint32_t capacity_of(uint32_t slot) const {
    return static_cast<uint32_t>(pages_of_class(store_.region_of(slot).size_class) * shm::kPageBytes);
  }
  bool full(uint32_t length_bytes) const;
  void publish(uint32_t slot, const shm::BlockKey& key, uint32_t start, uint32_t length, Retention retention);
  void demote(SlotId id, const shm::BlockKey& key);
  void note_on_ssd(SlotId id, const shm::BlockKey& key);
  void retag(SlotId id, const shm::BlockKey& key);
  void abandon(uint32_t slot);
  void pin(uint32_t slot);
  void unpin(uint32_t slot);
  void touch(uint32_t page);
  void mark_prefetched(uint32_t slot) { store_[slot].unused_prefetch = true; }
  void note_use(uint32_t slot);
  void forget_touches() {
    for (SizeClass& c : classes_) c.order.forget_touches(store_);
  }
  void keep(uint32_t slot);
  void unkeep(uint32_t slot);
  Evicted evict_if(const Matches& matches, bool dry_run, uint64_t first, uint64_t count);
  Evicted evict_block(const shm::BlockKey& key, bool dry_run);
  const MemoryTierStats& stats() const { return stats_; }
  const DataSetUse& use() const { return use_; }
  std::string check() const;

 private:
  // memory_tier.cc
  uint32_t holder_of(SlotId id, const shm::BlockKey& key) const;
  static DataSetCount count_of(const SlotMeta& meta);
  struct SamePieces;
  SamePieces same_pieces(uint64_t hash, const SlotMeta& piece) const;
  std::optional<shm::SeqPosition> place_for(uint64_t hash);
  std::optional<shm::SeqPosition> displaceable_place(uint64_t hash) const;
  shm::SeqPosition position_of(const SlotMeta& meta) const {
    return {index_.first_bucket() + meta.index_bucket, meta.index_way};
  }
  uint32_t slot_at(const shm::SeqPosition& position) const {
    return store_.slot_of_page(index_.payload_at(position).page);
  }
  void enter_index(uint32_t slot, uint64_t hash, const shm::SeqPosition& position);
  void leave_index(uint32_t slot);
  void evict(uint32_t slot);
  SizeClass& class_of(uint32_t slot) { return classes_[store_.region_of(slot).size_class]; }

  // reclaim.cc: regions
  bool add_region(unsigned size_class);
  void assign(uint32_t region, unsigned size_class);
  void enlist(uint32_t region);
  void delist(uint32_t region);
  void region_emptied(uint32_t region);
  // reclaim.cc: slots
  uint32_t take(unsigned size_class);
  uint32_t take_free(unsigned size_class);
  uint32_t reclaim(unsigned size_class);
  void evict_batch(unsigned size_class, uint64_t wanted);
  void send_to_limbo(uint32_t slot);
  void make_free(uint32_t slot);
  void resolve_limbo(uint64_t now_ns);
  // reclaim.cc: competition
  void compete(unsigned size_class, uint64_t now_ns);
  bool take_empty_region(unsigned size_class);
  unsigned oldest_class(unsigned except, uint64_t* age_ticks, uint64_t now_ns) const;
  uint64_t candidate_age_ticks(unsigned size_class, uint64_t now_ns) const;
  uint32_t cheapest_region(unsigned size_class);
  void start_drain(uint32_t region, unsigned target_class, uint64_t now_ns);
  void cancel_drain(uint32_t region);

  // check.cc
  struct Walk;
  void check_region(uint32_t number, Walk* walk) const;
  void check_slot(uint32_t slot, Walk* walk) const;
  void check_class(unsigned size_class, Walk* walk) const;
  void check_list(const SlotList& list, SlotState state, uint64_t size, Walk* walk) const;
  void check_index(Walk* walk) const;
  void check_stats(Walk* walk) const;

  Options options_;
  shm::SeqTableWriter<shm::BlockRecord> index_;
  SlotStore store_;
  std::array<SizeClass, kSizeClasses> classes_;
  SlotList limbo_;                        // of all classes
  std::vector<uint32_t> unused_regions_;  // prepared, without class
  uint32_t fresh_region_ = 0;             // the first region that was never asked for
  bool warned_of_no_memory_ = false;
  std::vector<uint32_t> hazards_;  // kept for its memory
  uint64_t last_scan_ns_ = 0;
  MemoryTierStats stats_;
  DataSetUse use_;
};

// The unit of ages: about a millisecond, so that 32 bits last for 52 days.
constexpr uint32_t ticks_of_ns(uint64_t time_ns) {
  return static_cast<uint32_t>(time_ns >> 20);
}
constexpr uint64_t ns_of_ticks(uint32_t ticks) {
  return uint64_t{ticks} << 20;
}

}  // namespace cached::memory_tier
