// Where free slots come from: unused regions, eviction, limbo, and regions of other size classes.
//
// allocate() takes, in this order: a free slot of the class; a region that no class has; slots of its own
// class, evicted in a batch; a region of another class.
//
// Limbo. An evicted slot may still be read by a client whose hazard names it, and looking costs a load for
// each hazard of each session, up to 75,000. So a batch is evicted and looked for with one scan, which
// resolves the limbo of all classes. A slot whose hazard stands stays; if all of a batch do, a larger batch
// follows, a few times: clients that hold hazards can slow the tier, not stop the shard. When nothing is left
// to evict, hazards are looked at again only after a while: callers who wait will ask often.
//
// Competition. A class that evicts looks once for each region's worth of evictions whether another class has
// older content than its own: it compares what each would evict next. Twice as old, and a region moves. The
// factor is the hysteresis: a move makes the giver's candidates younger and the taker's older, so after it
// neither side has reason to take it back. A class that has nothing to evict takes from the oldest at any
// age, so every class can always start. A transient slot counts as kTransientShare times its age: it is as
// cheap to lose between classes as it is within one. A class that turns over only its transient tenth is so
// measured as if it turned over whole, and a class of nothing but chunks from an SSD gets a tenth of what it
// would take from blocks that only the origin has.
//
// Draining. A region that moves is emptied: free slots leave the free list, present ones the index. It
// changes class when its last slot is free, usually within the same call. Pins, fills and hazards delay that;
// if they last and a region with fewer of them turned up, or if they last long, the drain is cancelled in
// favour of another region, so that a stuck reader does not starve a class. Each class waits for at most one
// region.
#include <algorithm>
#include <tuple>

#include "cached/memory_tier/impl.h"
#include "cached/memory_tier/invariant.h"

namespace cached::memory_tier {
namespace {

constexpr unsigned kReclaimAttempts = 4;  // each with twice the batch of the one before
constexpr uint64_t kRescanNs = 200'000;   // before hazards are looked at again without anything new in limbo
constexpr uint64_t kDrainPatienceNs = 5'000'000;   // before a region with fewer obstacles is drained instead
constexpr uint64_t kDrainTimeoutNs = 100'000'000;  // before any other region is
constexpr unsigned kPreparationsPerCall = 4;       // failing ones: a full machine must not stop the shard
constexpr unsigned kRegionsCompared = 64;          // in the search for a cheap one
constexpr uint64_t kAgeFactor = 2;

// How many slots a class of `slots` evicts for one scan: free slots are idle memory, so a small class affords
// few, and a class of many slots as many as make the scan cheap.
uint64_t batch_of(uint64_t slots) {
  return std::clamp<uint64_t>(slots / 8, 1, std::clamp<uint64_t>(slots / 256, 16, 128));
}

}  // namespace

std::optional<SlotId> MemoryTier::Impl::allocate(uint32_t length_bytes) {
  CACHED_INVARIANT(length_bytes > 0 && length_bytes <= shm::kBlockBytes,
                   "allocate() of no bytes or more than a block");
  const unsigned size_class = class_of_length(length_bytes);
  uint32_t slot = take(size_class);
  if (slot == kNoSlot) slot = reclaim(size_class);
  if (slot == kNoSlot) return std::nullopt;
  return SlotId{store_.page_of_slot(slot)};
}

bool MemoryTier::Impl::full(uint32_t length_bytes) const {
  if (!unused_regions_.empty() || fresh_region_ < store_.region_count()) return false;
  const unsigned size_class = class_of_length(length_bytes);
  const SizeClass& c = classes_[size_class];
  // What one batch frees and the next arrivals take must not look like room, or it would come and go.
  const uint64_t batch = batch_of(c.regions.size() * slots_per_region(size_class));
  return c.free.size() + c.order.transient_surplus() <= 2 * batch;
}

uint32_t MemoryTier::Impl::take(unsigned size_class) {
  const uint32_t slot = take_free(size_class);
  if (slot != kNoSlot || !add_region(size_class)) return slot;
  return take_free(size_class);
}

uint32_t MemoryTier::Impl::take_free(unsigned size_class) {
  SizeClass& c = classes_[size_class];
  const uint32_t slot = c.free.head();
  if (slot == kNoSlot) return kNoSlot;
  c.free.remove(store_, slot);
  Region& region = store_.region_of(slot);
  if (region.empty()) --c.empty_regions;
  --region.free_count;
  ++region.held_count;
  store_[slot].state = SlotState::kFilling;
  stats_.bytes_reserved += capacity_of(slot);
  return slot;
}

uint32_t MemoryTier::Impl::reclaim(unsigned size_class) {
  SizeClass& c = classes_[size_class];
  const uint64_t now_ns = options_.clock->monotonic_ns();
  if (c.order.evictable() == 0 && c.unscanned > 0) {
    resolve_limbo(now_ns);
    if (const uint32_t slot = take(size_class); slot != kNoSlot) return slot;
  }
  if (c.order.evictable() == 0 || c.evictions_since_look >= slots_per_region(size_class))
    compete(size_class, now_ns);
  const uint64_t batch = batch_of(c.regions.size() * slots_per_region(size_class));
  for (unsigned attempt = 0; attempt < kReclaimAttempts; ++attempt) {
    // Slots that wait for their first scan count for the batch; a region that compete() emptied is such.
    if (c.free.size() == 0) evict_batch(size_class, batch << attempt);
    const bool may_rescan = limbo_.size() > 0 && now_ns - last_scan_ns_ >= kRescanNs;
    if (c.unscanned > 0 || may_rescan) resolve_limbo(now_ns);
    if (const uint32_t slot = take(size_class); slot != kNoSlot) return slot;
    if (c.order.evictable() == 0) return kNoSlot;
  }
  return kNoSlot;
}

// Evicts until `wanted` slots of the class wait for a scan, or nothing is left to evict.
void MemoryTier::Impl::evict_batch(unsigned size_class, uint64_t wanted) {
  SizeClass& c = classes_[size_class];
  while (c.unscanned < wanted && c.order.evictable() > 0) {
    evict(c.order.next_victim(store_));
    ++c.evictions_since_look;
  }
}

// For a slot with content, out of the index and without pins.
void MemoryTier::Impl::send_to_limbo(uint32_t slot) {
  Region& region = store_.region_of(slot);
  store_[slot].state = SlotState::kLimbo;
  limbo_.push_front(store_, slot);
  ++region.limbo_count;
  ++stats_.slots_limbo;
  stats_.bytes_reserved -= capacity_of(slot);
  ++classes_[region.state == RegionState::kDraining ? region.target_class : region.size_class].unscanned;
}

// For a slot in no list and without content.
void MemoryTier::Impl::make_free(uint32_t slot) {
  Region& region = store_.region_of(slot);
  store_[slot].state = SlotState::kFree;
  ++region.free_count;
  if (region.state == RegionState::kActive) class_of(slot).free.push_front(store_, slot);
  if (region.empty()) region_emptied(slot / kPagesPerRegion);
}

// One scan for everything in limbo. What a hazard names stays. A hazard may hold any value, also of pages
// that are no slot's or no longer the slot's that the client meant: at worst a slot stays in limbo for
// longer.
void MemoryTier::Impl::resolve_limbo(uint64_t now_ns) {
  hazards_.clear();
  options_.scan_hazards(&hazards_);
  last_scan_ns_ = now_ns;
  for (SizeClass& c : classes_) c.unscanned = 0;
  for (const uint32_t page : hazards_) {
    const uint32_t slot = store_.slot_of_page(page);
    if (slot != kNoSlot && store_[slot].state == SlotState::kLimbo) store_[slot].hazarded = true;
  }
  for (uint32_t slot = limbo_.head(), next = kNoSlot; slot != kNoSlot; slot = next) {
    SlotMeta& meta = store_[slot];
    next = meta.next;
    if (meta.hazarded) {
      meta.hazarded = false;
      continue;
    }
    limbo_.remove(store_, slot);
    --store_.region_of(slot).limbo_count;
    --stats_.slots_limbo;
    make_free(slot);
  }
}

// Gives the class a region that no class has; false if there is none.
bool MemoryTier::Impl::add_region(unsigned size_class) {
  if (!unused_regions_.empty()) {
    const uint32_t region = unused_regions_.back();
    unused_regions_.pop_back();
    ++stats_.regions_used;
    assign(region, size_class);
    return true;
  }
  for (unsigned tries = 0; tries < kPreparationsPerCall && fresh_region_ < store_.region_count(); ++tries) {
    const uint32_t region = fresh_region_++;
    if (options_.prepare_region(options_.first_region + region)) {
      ++stats_.regions_used;
      assign(region, size_class);
      return true;
    }
    store_.region(region).state = RegionState::kUnusable;
    if (!warned_of_no_memory_) {
      log_warning(
          "memory tier: no memory for region {} of the arena; going on with a smaller cache. Lower the "
          "arena's "
          "size in the configuration or free memory and restart",
          options_.first_region + region);
    }
    warned_of_no_memory_ = true;
  }
  return false;
}

void MemoryTier::Impl::assign(uint32_t region, unsigned size_class) {
  store_.lay_out(region, size_class);
  ++classes_[size_class].empty_regions;
  enlist(region);
}

// An active region joins its class: its free slots are there to take.
void MemoryTier::Impl::enlist(uint32_t number) {
  Region& region = store_.region(number);
  SizeClass& c = classes_[region.size_class];
  region.list_position = static_cast<uint32_t>(c.regions.size());
  c.regions.push_back(number);
  for (unsigned position = region.slot_count; position-- > 0;) {
    if (region.slots[position].state == SlotState::kFree)
      c.free.push_front(store_, SlotStore::slot_number(number, position));
  }
}

// A region leaves its class.
void MemoryTier::Impl::delist(uint32_t number) {
  Region& region = store_.region(number);
  SizeClass& c = classes_[region.size_class];
  const uint32_t last = c.regions.back();
  c.regions[region.list_position] = last;
  store_.region(last).list_position = region.list_position;
  c.regions.pop_back();
  for (unsigned position = 0; position < region.slot_count; ++position) {
    if (region.slots[position].state == SlotState::kFree)
      c.free.remove(store_, SlotStore::slot_number(number, position));
  }
}

// The last slot of a region in use became free: a draining one goes where it is awaited, any other to those
// without class.
void MemoryTier::Impl::region_emptied(uint32_t number) {
  Region& region = store_.region(number);
  if (region.state == RegionState::kDraining) {
    classes_[region.target_class].incoming_region = kNoRegion;
    ++stats_.regions_moved;
    assign(number, region.target_class);
    return;
  }
  delist(number);
  region.state = RegionState::kUnused;
  region.slots.reset();
  unused_regions_.push_back(number);
  --stats_.regions_used;
}

// Looks for a region of another class, and starts to empty it.
void MemoryTier::Impl::compete(unsigned size_class, uint64_t now_ns) {
  SizeClass& c = classes_[size_class];
  c.evictions_since_look = 0;
  if (take_empty_region(size_class)) return;
  uint64_t age_ticks = 0;
  const unsigned giver = oldest_class(size_class, &age_ticks, now_ns);
  if (giver == kSizeClasses) return;
  if (c.order.evictable() > 0) {
    const uint64_t own_age_ticks = std::max<uint64_t>(candidate_age_ticks(size_class, now_ns), 1);
    if (age_ticks < kAgeFactor * own_age_ticks) return;
  }
  const uint32_t number = cheapest_region(giver);
  if (store_.region(number).kept_count > 0) return;
  const unsigned obstacles = store_.region(number).obstacles();
  if (obstacles > 0 && c.order.evictable() > 0) return;  // not worth the wait
  if (c.incoming_region != kNoRegion) {
    const Region& incoming = store_.region(c.incoming_region);
    const uint64_t waited_ns = now_ns - incoming.draining_since_ns;
    const bool better = waited_ns >= kDrainPatienceNs && obstacles < incoming.obstacles();
    if (!better && waited_ns < kDrainTimeoutNs) return;
    cancel_drain(c.incoming_region);
  }
  start_drain(number, size_class, now_ns);
}

// A region that was delivered to a class which did not come back for it.
bool MemoryTier::Impl::take_empty_region(unsigned size_class) {
  for (unsigned giver = 0; giver < kSizeClasses; ++giver) {
    SizeClass& g = classes_[giver];
    if (giver == size_class || g.empty_regions == 0) continue;
    const auto found = std::find_if(g.regions.rbegin(), g.regions.rend(),
                                    [&](uint32_t r) { return store_.region(r).empty(); });
    CACHED_INVARIANT(found != g.regions.rend(), "a class counts empty regions and has none");
    const uint32_t region = *found;
    delist(region);
    --g.empty_regions;
    ++stats_.regions_moved;
    assign(region, size_class);
    return true;
  }
  return false;
}

// The class whose next victim is oldest, and how old that is; kSizeClasses if no other class has anything to
// evict.
unsigned MemoryTier::Impl::oldest_class(unsigned except, uint64_t* age_ticks, uint64_t now_ns) const {
  unsigned oldest = kSizeClasses;
  for (unsigned candidate = 0; candidate < kSizeClasses; ++candidate) {
    if (candidate == except || classes_[candidate].order.evictable() == 0) continue;
    const uint64_t candidate_ticks = candidate_age_ticks(candidate, now_ns);
    if (oldest != kSizeClasses && candidate_ticks <= *age_ticks) continue;
    oldest = candidate;
    *age_ticks = candidate_ticks;
  }
  return oldest;
}

// How long ago the class's next victim was filled or touched, a transient one's age weighted; 0 if pins stand
// where the next victim would be.
uint64_t MemoryTier::Impl::candidate_age_ticks(unsigned size_class, uint64_t now_ns) const {
  const uint32_t slot = classes_[size_class].order.peek(store_);
  if (slot == kNoSlot) return 0;
  const SlotMeta& meta = store_[slot];
  const uint64_t age_ticks = ticks_of_ns(now_ns) - meta.used_at_ticks;
  return meta.retention == Retention::kMain ? age_ticks : age_ticks * kTransientShare;
}

// Of some regions of the class, the next victim's first, the one with the fewest obstacles and then visited
// slots.
uint32_t MemoryTier::Impl::cheapest_region(unsigned size_class) {
  SizeClass& c = classes_[size_class];
  const auto cost = [this](uint32_t number) {
    const Region& region = store_.region(number);
    return std::tuple{region.kept_count, region.obstacles(), unsigned{region.visited_count}};
  };
  const uint32_t victim = c.order.peek(store_);
  uint32_t best = victim == kNoSlot ? c.regions.front() : victim / kPagesPerRegion;
  for (unsigned tries = std::min<size_t>(kRegionsCompared, c.regions.size()); tries > 0; --tries) {
    const uint32_t number = c.regions[c.region_cursor++ % c.regions.size()];
    if (cost(number) < cost(best)) best = number;
  }
  return best;
}

void MemoryTier::Impl::start_drain(uint32_t number, unsigned target_class, uint64_t now_ns) {
  Region& region = store_.region(number);
  delist(number);
  region.state = RegionState::kDraining;
  region.target_class = static_cast<uint8_t>(target_class);
  region.draining_since_ns = now_ns;
  classes_[target_class].incoming_region = number;
  for (unsigned position = 0; position < region.slot_count; ++position) {
    if (region.slots[position].state == SlotState::kPresent) evict(SlotStore::slot_number(number, position));
  }
}

void MemoryTier::Impl::cancel_drain(uint32_t number) {
  Region& region = store_.region(number);
  classes_[region.target_class].incoming_region = kNoRegion;
  region.state = RegionState::kActive;
  enlist(number);
}

}  // namespace cached::memory_tier
