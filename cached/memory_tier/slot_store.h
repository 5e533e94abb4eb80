// SlotStore: what is known of every region and every slot, found from a page, a region number or a slot
// number in constant time; and SlotList, the intrusive lists that slots stand in.
//
// A slot number is region * kPagesPerRegion + position, so that it stays below 2^32 for any arena and needs
// no table. A region's slots are an array that is made anew when the region changes class: 64 bytes a slot,
// 0.05 % of the arena in whole blocks. Every slot stands in at most one list: free (of its class), present
// (one of the two of its class's EvictionOrder) or limbo.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cached/memory_tier/size_classes.h"
#include "shm/types.h"

namespace cached::memory_tier {

inline constexpr uint32_t kNoSlot = UINT32_MAX;
inline constexpr uint32_t kNoRegion = UINT32_MAX;

enum class SlotState : uint8_t {
  kFree,
  kFilling,
  kPresent,   // in the index
  kDetached,  // was filled, not in the index, still pinned
  kLimbo,     // left the index; free once no hazard names it
};

struct SlotMeta {
  shm::BlockKey key;
  uint64_t filled_at_ns = 0;
  uint32_t start = 0;  // in the block
  uint32_t length = 0;
  uint32_t pins = 0;
  uint32_t next = kNoSlot;
  uint32_t previous = kNoSlot;
  uint32_t index_bucket = 0;   // of its record, counted from the partition's first bucket
  uint32_t used_at_ticks = 0;  // last fill or touch that counted; Ticks of reclaim.cc
  uint8_t index_way = 0;
  SlotState state = SlotState::kFree;
  Retention retention = Retention::kMain;  // of a present slot: which list it stands in
  bool visited : 1 = false;                // touched since it was filled or last spared
  bool hazarded : 1 = false;               // true only during a scan
  bool unused_prefetch : 1 = false;        // fetched ahead, and nobody has used it yet
  bool on_ssd : 1 = false;                 // an SSD was given the same bytes
};
static_assert(sizeof(SlotMeta) == 64);

enum class RegionState : uint8_t {
  kUnused,    // belongs to no class
  kActive,    // serves its class
  kDraining,  // hands out nothing; goes to another class when its last slot is free
  kUnusable,  // no memory
};

struct Region {
  std::unique_ptr<SlotMeta[]> slots;
  uint64_t draining_since_ns = 0;
  uint32_t list_position = 0;  // in its class's list of active regions
  uint16_t slot_count = 0;
  uint16_t free_count = 0;
  uint16_t held_count = 0;  // slots filling or pinned
  uint16_t limbo_count = 0;
  uint16_t visited_count = 0;
  uint32_t kept_count = 0;  // pins that are keeps
  RegionState state = RegionState::kUnused;
  uint8_t size_class = 0;
  uint8_t target_class = 0;  // of a draining region

  bool empty() const { return free_count == slot_count; }
  // What stands in the way of emptying it.
  unsigned obstacles() const { return static_cast<unsigned>(held_count) + limbo_count; }
};

class SlotStore {
 public:
  SlotStore(uint64_t first_region, uint64_t region_count)
      : first_region_(first_region), regions_(region_count) {}

  uint32_t region_count() const { return static_cast<uint32_t>(regions_.size()); }
  Region& region(uint32_t number) { return regions_[number]; }
  const Region& region(uint32_t number) const { return regions_[number]; }
  Region& region_of(uint32_t slot) { return regions_[slot / kPagesPerRegion]; }
  const Region& region_of(uint32_t slot) const { return regions_[slot / kPagesPerRegion]; }
  SlotMeta& operator[](uint32_t slot) { return region_of(slot).slots[slot % kPagesPerRegion]; }
  const SlotMeta& operator[](uint32_t slot) const { return region_of(slot).slots[slot % kPagesPerRegion]; }

  static uint32_t slot_number(uint32_t region, unsigned position) {
    return region * kPagesPerRegion + position;
  }

  // The slot that holds arena page `page`; kNoSlot for a page of another shard, of a region without class, of
  // no slot.
  uint32_t slot_of_page(uint32_t page) const {
    const uint64_t number = page / kPagesPerRegion;
    if (number < first_region_ || number - first_region_ >= regions_.size()) return kNoSlot;
    const auto local = static_cast<uint32_t>(number - first_region_);
    const Region& region = regions_[local];
    if (region.state != RegionState::kActive && region.state != RegionState::kDraining) return kNoSlot;
    const unsigned position = page % kPagesPerRegion / pages_of_class(region.size_class);
    return position < region.slot_count ? slot_number(local, position) : kNoSlot;
  }

  // The arena page where a slot starts.
  uint32_t page_of_slot(uint32_t slot) const {
    const uint64_t region_page = (first_region_ + slot / kPagesPerRegion) * kPagesPerRegion;
    return static_cast<uint32_t>(region_page +
                                 slot % kPagesPerRegion * pages_of_class(region_of(slot).size_class));
  }

  // Gives a region without class to `size_class`, all its slots free and in no list.
  void lay_out(uint32_t number, unsigned size_class) {
    Region& region = regions_[number];
    const unsigned count = slots_per_region(size_class);
    region.slots = std::make_unique<SlotMeta[]>(count);
    region.slot_count = region.free_count = static_cast<uint16_t>(count);
    region.held_count = region.limbo_count = region.visited_count = 0;
    region.kept_count = 0;
    region.size_class = static_cast<uint8_t>(size_class);
    region.state = RegionState::kActive;
  }

 private:
  uint64_t first_region_;
  std::vector<Region> regions_;
};

// A doubly linked list through SlotMeta::next (towards the tail) and previous.
class SlotList {
 public:
  uint32_t head() const { return head_; }
  uint32_t tail() const { return tail_; }
  uint64_t size() const { return size_; }

  void push_front(SlotStore& store, uint32_t slot) {
    SlotMeta& meta = store[slot];
    meta.previous = kNoSlot;
    meta.next = head_;
    if (head_ != kNoSlot) store[head_].previous = slot;
    if (tail_ == kNoSlot) tail_ = slot;
    head_ = slot;
    ++size_;
  }

  void remove(SlotStore& store, uint32_t slot) {
    SlotMeta& meta = store[slot];
    (meta.previous == kNoSlot ? head_ : store[meta.previous].next) = meta.next;
    (meta.next == kNoSlot ? tail_ : store[meta.next].previous) = meta.previous;
    meta.next = meta.previous = kNoSlot;
    --size_;
  }

 private:
  uint32_t head_ = kNoSlot;
  uint32_t tail_ = kNoSlot;
  uint64_t size_ = 0;
};

}  // namespace cached::memory_tier
