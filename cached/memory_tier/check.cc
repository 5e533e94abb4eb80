// The consistency walk: recounts from slots and index everything that the tier keeps in counters and lists.
#include <string>

#include "cached/memory_tier/impl.h"
#include "shm/hash.h"

namespace cached::memory_tier {

// What the walk counted so far, and what it found wrong.
struct MemoryTier::Impl::Walk {
  struct ClassCount {
    uint64_t free = 0;
    std::array<uint64_t, 2> present = {};  // by retention
    std::array<uint64_t, 2> evictable = {};
    uint64_t regions = 0;
    uint64_t empty_regions = 0;
  };
  // What one region should say of itself.
  struct RegionCount {
    unsigned free = 0;
    unsigned held = 0;
    unsigned limbo = 0;
    unsigned visited = 0;
  };
  std::array<ClassCount, kSizeClasses> classes;
  RegionCount region;
  MemoryTierStats stats;
  DataSetUse use;
  std::string problems;

  void expect(bool condition, const char* what, uint64_t where) {
    if (!condition) problems += std::string(what) + " (at " + std::to_string(where) + ")\n";
  }
};

std::string MemoryTier::Impl::check() const {
  Walk walk;
  for (uint32_t number = 0; number < store_.region_count(); ++number) check_region(number, &walk);
  for (unsigned size_class = 0; size_class < kSizeClasses; ++size_class) check_class(size_class, &walk);
  check_list(limbo_, SlotState::kLimbo, walk.stats.slots_limbo, &walk);
  check_index(&walk);
  check_stats(&walk);
  return walk.problems;
}

void MemoryTier::Impl::check_region(uint32_t number, Walk* walk) const {
  const Region& region = store_.region(number);
  if (region.state == RegionState::kUnused || region.state == RegionState::kUnusable) return;
  const bool active = region.state == RegionState::kActive;
  Walk::ClassCount& count = walk->classes[region.size_class];
  ++walk->stats.regions_used;
  walk->region = {};
  for (unsigned position = 0; position < region.slot_count; ++position) {
    check_slot(SlotStore::slot_number(number, position), walk);
  }
  if (active) {
    count.free += walk->region.free;
    ++count.regions;
    if (region.empty()) ++count.empty_regions;
    const auto& regions = classes_[region.size_class].regions;
    walk->expect(region.list_position < regions.size() && regions[region.list_position] == number,
                 "active region is not in its class's list", number);
  } else {
    walk->expect(classes_[region.target_class].incoming_region == number,
                 "nobody waits for a draining region", number);
    walk->expect(!region.empty(), "drained region was not handed over", number);
  }
  walk->expect(region.free_count == walk->region.free, "region's count of free slots", number);
  walk->expect(region.held_count == walk->region.held, "region's count of held slots", number);
  walk->expect(region.limbo_count == walk->region.limbo, "region's count of slots in limbo", number);
  walk->expect(region.visited_count == walk->region.visited, "region's count of visited slots", number);
}

void MemoryTier::Impl::check_slot(uint32_t slot, Walk* walk) const {
  const SlotMeta& meta = store_[slot];
  const bool present = meta.state == SlotState::kPresent;
  walk->expect(!meta.hazarded, "mark of a hazard outlived its scan", slot);
  walk->expect(present || !meta.visited, "slot that is not present is visited", slot);
  walk->expect(store_.slot_of_page(store_.page_of_slot(slot)) == slot, "page does not lead back to its slot",
               slot);
  if (meta.state == SlotState::kFree) ++walk->region.free;
  if (meta.state == SlotState::kLimbo) ++walk->region.limbo, ++walk->stats.slots_limbo;
  if (meta.visited) ++walk->region.visited;
  if (meta.state == SlotState::kFilling || present || meta.state == SlotState::kDetached) {
    walk->stats.bytes_reserved += capacity_of(slot);
  }
  const bool may_be_pinned = present || meta.state == SlotState::kDetached;
  if (may_be_pinned && meta.pins > 0) ++walk->stats.slots_pinned;
  if (meta.state == SlotState::kFilling || (may_be_pinned && meta.pins > 0)) ++walk->region.held;
  walk->expect(meta.state != SlotState::kDetached || meta.pins > 0, "detached slot without pins", slot);
  if (!present) return;

  ++walk->stats.slots_present;
  walk->stats.bytes_present += meta.length;
  walk->use.add(meta.key.data_set, count_of(meta));
  Walk::ClassCount& count = walk->classes[store_.region_of(slot).size_class];
  const auto retention = static_cast<unsigned>(meta.retention);
  ++count.present[retention];
  if (meta.pins == 0) ++count.evictable[retention];
  walk->expect(store_.region_of(slot).state == RegionState::kActive, "present slot in a draining region",
               slot);
  const shm::BlockRecord record = index_.payload_at(position_of(meta));
  walk->expect(index_.occupied(position_of(meta)) && record.page == store_.page_of_slot(slot) &&
                   record.key.same_block(meta.key) && record.start == meta.start &&
                   record.length == meta.length,
               "record differs from its slot", slot);
  const auto found = index_.find(shm::hash_block(meta.key),
                                 [&](const shm::BlockRecord& r) { return r.page == record.page; });
  walk->expect(found.has_value(), "present slot is not found by its key", slot);
  const auto covering = index_.find(shm::hash_block(meta.key), [&](const shm::BlockRecord& r) {
    return r.page != record.page && r.key.same_block(meta.key) && r.start <= meta.start &&
           r.start + r.length >= meta.start + meta.length;
  });
  walk->expect(!covering.has_value(), "present slot is covered by another", slot);
}

void MemoryTier::Impl::check_class(unsigned size_class, Walk* walk) const {
  const SizeClass& c = classes_[size_class];
  const Walk::ClassCount& count = walk->classes[size_class];
  check_list(c.free, SlotState::kFree, count.free, walk);
  for (const Retention retention : {Retention::kMain, Retention::kTransient}) {
    const bool main = retention == Retention::kMain;
    const SlotList& list = main ? c.order.main().list() : c.order.transient();
    check_list(list, SlotState::kPresent, count.present[static_cast<unsigned>(retention)], walk);
    walk->expect(c.order.evictable(retention) == count.evictable[static_cast<unsigned>(retention)],
                 "class's count of evictable slots", size_class);
  }
  walk->expect(c.regions.size() == count.regions, "class's list of regions", size_class);
  walk->expect(c.empty_regions == count.empty_regions, "class's count of empty regions", size_class);
  const uint32_t hand = c.order.main().hand();
  walk->expect(hand == kNoSlot ||
                   (store_[hand].state == SlotState::kPresent && store_[hand].retention == Retention::kMain),
               "hand at a slot that is not in the main list", size_class);
}

// A list has `size` slots, all in `state`, linked both ways.
void MemoryTier::Impl::check_list(const SlotList& list, SlotState state, uint64_t size, Walk* walk) const {
  uint64_t walked = 0;
  uint32_t previous = kNoSlot;
  for (uint32_t slot = list.head(); slot != kNoSlot && walked <= size; slot = store_[slot].next) {
    walk->expect(store_[slot].state == state, "slot in a list of another state", slot);
    walk->expect(store_[slot].previous == previous, "list is not linked backwards", slot);
    previous = slot;
    ++walked;
  }
  walk->expect(walked == size && list.size() == size, "list has not the slots of its state", size);
  walk->expect(list.tail() == previous, "list ends elsewhere than at its tail", previous);
}

void MemoryTier::Impl::check_index(Walk* walk) const {
  uint64_t records = 0;
  for (uint64_t bucket = 0; bucket < index_.bucket_count(); ++bucket) {
    for (unsigned way = 0; way < shm::kRecordsPerBucket; ++way) {
      if (index_.occupied({index_.first_bucket() + bucket, way})) ++records;
    }
  }
  walk->expect(records == walk->stats.slots_present, "index has other records than the present slots",
               records);
}

void MemoryTier::Impl::check_stats(Walk* walk) const {
  const MemoryTierStats& seen = walk->stats;
  walk->expect(stats_.regions_used == seen.regions_used, "regions_used", stats_.regions_used);
  walk->expect(stats_.slots_present == seen.slots_present, "slots_present", stats_.slots_present);
  walk->expect(stats_.bytes_present == seen.bytes_present, "bytes_present", stats_.bytes_present);
  walk->expect(stats_.bytes_reserved == seen.bytes_reserved, "bytes_reserved", stats_.bytes_reserved);
  walk->expect(stats_.slots_limbo == seen.slots_limbo, "slots_limbo", stats_.slots_limbo);
  walk->expect(stats_.slots_pinned == seen.slots_pinned, "slots_pinned", stats_.slots_pinned);
  for (size_t tag = 0; tag < use_.by_tag().size(); ++tag) {
    const bool seen_any = tag < walk->use.by_tag().size();
    walk->expect(use_.by_tag()[tag] == (seen_any ? walk->use.by_tag()[tag] : DataSetCount{}),
                 "use of a data set", tag);
  }
}

}  // namespace cached::memory_tier
