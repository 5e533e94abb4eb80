// What callers do with slots: find, fill, publish, pin, touch, evict by key. How free slots are won is in
// reclaim.cc.
//
// Leaving the index. A slot's record is removed, or replaced by another slot's, before the slot goes to
// limbo; both change the record's sequence, which is the writer's half of the hazard argument
// (shm/seq_table.h). The other half, the scan, comes later and once for many (reclaim.cc).
//
// Pins and the index. A pinned slot leaves the index in two cases: a piece that covers its own is published
// in another slot, or its region is wanted by another class. It is then detached: whoever pinned it keeps its
// bytes, nobody new finds them, and the last unpin sends it to limbo, for a client may have found it before.
//
// Pieces. All records of a block lie in the two buckets of its hash, so whoever looks for one meets the
// others and there are fourteen at most. publish() compares with each: what the new piece covers leaves the
// index, after the new record stands, so that no reader misses in between; a new piece that adds nothing
// stays out. For a block without pieces that is the same look at tags that finds a place.
#include "cached/memory_tier/memory_tier.h"

#include "cached/memory_tier/impl.h"
#include "cached/memory_tier/invariant.h"
#include "shm/hash.h"

namespace cached::memory_tier {
namespace {

// Where a piece ends in its block; for a BlockRecord or a SlotMeta.
template <typename Extent>
uint32_t end_of(const Extent& piece) {
  return piece.start + piece.length;
}

template <typename Outer, typename Inner>
bool covers(const Outer& outer, const Inner& inner) {
  return outer.start <= inner.start && end_of(outer) >= end_of(inner);
}

}  // namespace

// What is present of the block of a piece that is about to be published.
struct MemoryTier::Impl::SamePieces {
  bool more_is_present = false;  // one covers the new piece and more
  unsigned covered_count = 0;
  std::array<uint32_t, 2 * shm::kRecordsPerBucket> covered;  // slots whose pieces the new one covers
};

std::optional<MemoryTier::Piece> MemoryTier::Impl::find(const shm::BlockKey& key,
                                                        uint32_t offset_in_block) const {
  std::optional<shm::BlockRecord> best;
  index_.find(shm::hash_block(key), [&](const shm::BlockRecord& record) {
    if (!record.key.same_block(key) || !record.covers(offset_in_block)) return false;
    if (!best || end_of(record) > end_of(*best)) best = record;
    return end_of(*best) == shm::kBlockBytes;  // none reaches further
  });
  if (!best) return std::nullopt;
  return Piece{
      {best->page}, best->start, best->length, options_.arena + uint64_t{best->page} * shm::kPageBytes};
}

uint32_t MemoryTier::Impl::number_of(SlotId id) const {
  const uint32_t slot = store_.slot_of_page(id.page);
  CACHED_INVARIANT(slot != kNoSlot && store_.page_of_slot(slot) == id.page, "no slot starts at this page");
  return slot;
}

void MemoryTier::Impl::publish(uint32_t slot, const shm::BlockKey& key, uint32_t start, uint32_t length,
                               Retention retention) {
  SlotMeta& meta = store_[slot];
  CACHED_INVARIANT(meta.state == SlotState::kFilling, "publish() of a slot that is not filling");
  CACHED_INVARIANT(length > 0 && length <= capacity_of(slot), "publish() of more bytes than the slot holds");
  CACHED_INVARIANT(start <= shm::kBlockBytes - length, "publish() of bytes past the end of the block");
  meta.key = key;
  meta.start = start;
  meta.length = length;
  meta.pins = 1;
  meta.retention = retention;
  meta.visited = false;
  meta.unused_prefetch = false;
  meta.on_ssd = false;
  meta.filled_at_ns = options_.clock->monotonic_ns();
  meta.used_at_ticks = ticks_of_ns(meta.filled_at_ns);
  ++stats_.slots_pinned;
  ++stats_.insertions;
  // A draining region takes nothing in: the piece lives for its pins, and an older copy of it stays.
  meta.state = SlotState::kDetached;
  if (store_.region_of(slot).state == RegionState::kDraining) return;
  const uint64_t hash = shm::hash_block(key);
  const SamePieces same = same_pieces(hash, meta);
  if (same.more_is_present) return;
  if (same.covered_count == 0) {
    if (const auto place = place_for(hash)) enter_index(slot, hash, *place);
    return;
  }
  enter_index(slot, hash, position_of(store_[same.covered[0]]));
  for (unsigned i = 1; i < same.covered_count; ++i) evict(same.covered[i]);
}

MemoryTier::Impl::SamePieces MemoryTier::Impl::same_pieces(uint64_t hash, const SlotMeta& piece) const {
  SamePieces same;
  index_.find(hash, [&](const shm::BlockRecord& record) {
    if (!record.key.same_block(piece.key)) return false;
    if (covers(piece, record)) {
      same.covered[same.covered_count++] = store_.slot_of_page(record.page);
    } else if (covers(record, piece)) {
      same.more_is_present = true;
    }
    return same.more_is_present;
  });
  return same;
}

// Where the record of a block goes. What stands there may be overwritten. Nothing: all is pinned.
std::optional<shm::SeqPosition> MemoryTier::Impl::place_for(uint64_t hash) {
  if (const auto position = index_.free_place(hash)) return position;
  ++stats_.index_displacements;
  return displaceable_place(hash);
}

// Of the records in both buckets of `hash` that of the slot that was longest unused, pinned ones excepted.
std::optional<shm::SeqPosition> MemoryTier::Impl::displaceable_place(uint64_t hash) const {
  const uint32_t now_ticks = ticks_of_ns(options_.clock->monotonic_ns());
  std::optional<shm::SeqPosition> best;
  uint32_t best_age_ticks = 0;
  for (unsigned choice = 0; choice < 2 * shm::kRecordsPerBucket; ++choice) {
    const shm::SeqPosition position = index_.victim_place(hash, choice);
    const SlotMeta& meta = store_[slot_at(position)];
    const uint32_t age_ticks = now_ticks - meta.used_at_ticks;
    if (meta.pins > 0 || (best && age_ticks <= best_age_ticks)) continue;
    best = position;
    best_age_ticks = age_ticks;
  }
  return best;
}

// Writes the record of a slot that was just filled; what stood at `position` loses its own by that.
void MemoryTier::Impl::enter_index(uint32_t slot, uint64_t hash, const shm::SeqPosition& position) {
  const uint32_t displaced = index_.occupied(position) ? slot_at(position) : kNoSlot;
  SlotMeta& meta = store_[slot];
  shm::BlockRecord record;
  record.key = meta.key;
  record.page = store_.page_of_slot(slot);
  record.start = meta.start;
  record.length = meta.length;
  index_.put(position, hash, record);
  if (displaced != kNoSlot) leave_index(displaced);

  meta.index_bucket = static_cast<uint32_t>(position.bucket - index_.first_bucket());
  meta.index_way = static_cast<uint8_t>(position.way);
  meta.state = SlotState::kPresent;
  class_of(slot).order.insert(store_, slot);
  ++stats_.slots_present;
  stats_.bytes_present += meta.length;
  use_.add(meta.key.data_set, count_of(meta));
}

// The books of a present slot whose record is gone already.
void MemoryTier::Impl::leave_index(uint32_t slot) {
  SlotMeta& meta = store_[slot];
  class_of(slot).order.remove(store_, slot);
  if (meta.visited) --store_.region_of(slot).visited_count;
  meta.visited = false;
  if (meta.unused_prefetch) stats_.prefetch_wasted_bytes += meta.length;
  meta.unused_prefetch = false;
  --stats_.slots_present;
  stats_.bytes_present -= meta.length;
  use_.remove(meta.key.data_set, count_of(meta));
  ++stats_.evictions;
  meta.state = SlotState::kDetached;
  if (meta.pins == 0) send_to_limbo(slot);
}

void MemoryTier::Impl::evict(uint32_t slot) {
  index_.remove(position_of(store_[slot]));
  leave_index(slot);
}

// The slot may have lost the block, its place in a region of another class included, since the caller saw it.
uint32_t MemoryTier::Impl::holder_of(SlotId id, const shm::BlockKey& key) const {
  const uint32_t slot = store_.slot_of_page(id.page);
  if (slot == kNoSlot || store_.page_of_slot(slot) != id.page) return kNoSlot;
  const SlotMeta& meta = store_[slot];
  return meta.state == SlotState::kPresent && meta.key.same_block(key) ? slot : kNoSlot;
}

DataSetCount MemoryTier::Impl::count_of(const SlotMeta& meta) {
  const bool head = meta.key.block == 0 && meta.start == 0;
  return {1, meta.length, head ? 1U : 0U, meta.on_ssd ? 0U : meta.length};
}

void MemoryTier::Impl::demote(SlotId id, const shm::BlockKey& key) {
  const uint32_t slot = holder_of(id, key);
  if (slot == kNoSlot) return;
  note_on_ssd(id, key);
  if (!store_[slot].visited) class_of(slot).order.demote(store_, slot);
}

void MemoryTier::Impl::note_on_ssd(SlotId id, const shm::BlockKey& key) {
  const uint32_t slot = holder_of(id, key);
  if (slot == kNoSlot) return;
  SlotMeta& meta = store_[slot];
  use_.remove(meta.key.data_set, count_of(meta));
  meta.on_ssd = true;
  use_.add(meta.key.data_set, count_of(meta));
}

void MemoryTier::Impl::retag(SlotId id, const shm::BlockKey& key) {
  const uint32_t slot = holder_of(id, key);
  if (slot == kNoSlot) return;
  SlotMeta& meta = store_[slot];
  use_.remove(meta.key.data_set, count_of(meta));
  meta.key.data_set = key.data_set;
  use_.add(meta.key.data_set, count_of(meta));
}

void MemoryTier::Impl::abandon(uint32_t slot) {
  CACHED_INVARIANT(store_[slot].state == SlotState::kFilling, "abandon() of a slot that is not filling");
  --store_.region_of(slot).held_count;
  stats_.bytes_reserved -= capacity_of(slot);
  make_free(slot);  // it was in no record since it was last free: nobody can read it
}

void MemoryTier::Impl::pin(uint32_t slot) {
  SlotMeta& meta = store_[slot];
  CACHED_INVARIANT(meta.state == SlotState::kPresent || meta.state == SlotState::kDetached,
                   "pin() of a slot without content");
  if (meta.pins++ > 0) return;
  class_of(slot).order.pinned(meta);
  ++store_.region_of(slot).held_count;
  ++stats_.slots_pinned;
}

void MemoryTier::Impl::unpin(uint32_t slot) {
  SlotMeta& meta = store_[slot];
  CACHED_INVARIANT(meta.pins > 0, "unpin() of a slot without pins");
  if (--meta.pins > 0) return;
  --store_.region_of(slot).held_count;
  --stats_.slots_pinned;
  if (meta.state == SlotState::kPresent) {
    class_of(slot).order.unpinned(meta);
  } else {
    send_to_limbo(slot);
  }
}

void MemoryTier::Impl::touch(uint32_t page) {
  const uint32_t slot = store_.slot_of_page(page);
  if (slot == kNoSlot) return;
  SlotMeta& meta = store_[slot];
  if (meta.state != SlotState::kPresent) return;
  note_use(slot);
  const uint64_t now_ns = options_.clock->monotonic_ns();
  if (now_ns - meta.filled_at_ns <= kCorrelationNs) return;
  meta.used_at_ticks = ticks_of_ns(now_ns);
  if (meta.visited) return;
  meta.visited = true;
  ++store_.region_of(slot).visited_count;
}

void MemoryTier::Impl::note_use(uint32_t slot) {
  SlotMeta& meta = store_[slot];
  if (meta.unused_prefetch) stats_.prefetch_used_bytes += meta.length;
  meta.unused_prefetch = false;
}

void MemoryTier::Impl::keep(uint32_t slot) {
  pin(slot);
  ++store_.region_of(slot).kept_count;
}

void MemoryTier::Impl::unkeep(uint32_t slot) {
  --store_.region_of(slot).kept_count;
  unpin(slot);
}

MemoryTier::Evicted MemoryTier::Impl::evict_if(const Matches& matches, bool dry_run, uint64_t first,
                                               uint64_t count) {
  Evicted evicted;
  const uint32_t now_ticks = ticks_of_ns(options_.clock->monotonic_ns());
  const uint64_t end = count < store_.region_count()
                           ? std::min<uint64_t>(first + count, store_.region_count())
                           : store_.region_count();
  for (auto number = static_cast<uint32_t>(first); number < end; ++number) {
    const Region& region = store_.region(number);
    if (region.state != RegionState::kActive) continue;
    for (unsigned position = 0; position < region.slot_count; ++position) {
      const SlotMeta& meta = region.slots[position];
      if (meta.state != SlotState::kPresent || meta.pins > 0) continue;
      const uint64_t idle_ns = ns_of_ticks(now_ticks - meta.used_at_ticks);
      if (!matches(meta.key, idle_ns)) continue;
      ++evicted.pieces;
      evicted.bytes += meta.length;
      if (!dry_run) evict(SlotStore::slot_number(number, position));
    }
  }
  if (evicted.pieces > 0 && !dry_run) resolve_limbo(options_.clock->monotonic_ns());
  return evicted;
}

MemoryTier::Evicted MemoryTier::Impl::evict_block(const shm::BlockKey& key, bool dry_run) {
  std::array<uint32_t, 2 * shm::kRecordsPerBucket> slots;
  unsigned found = 0;
  index_.find(shm::hash_block(key), [&](const shm::BlockRecord& record) {
    if (record.key.same_block(key)) slots[found++] = store_.slot_of_page(record.page);
    return false;
  });
  Evicted evicted;
  for (unsigned i = 0; i < found; ++i) {
    const SlotMeta& meta = store_[slots[i]];
    if (meta.pins > 0) continue;
    ++evicted.pieces;
    evicted.bytes += meta.length;
    if (!dry_run) evict(slots[i]);
  }
  return evicted;
}

MemoryTier::MemoryTier(Options options, shm::SeqTableWriter<shm::BlockRecord> index)
    : impl_(std::make_unique<Impl>(std::move(options), index)) {}
MemoryTier::~MemoryTier() = default;

std::optional<MemoryTier::Piece> MemoryTier::find(const shm::BlockKey& key, uint32_t offset_in_block) const {
  return impl_->find(key, offset_in_block);
}
std::optional<SlotId> MemoryTier::allocate(uint32_t length_bytes) {
  return impl_->allocate(length_bytes);
}
std::byte* MemoryTier::slot_data(SlotId slot) const {
  return impl_->data_of(impl_->number_of(slot));
}
uint32_t MemoryTier::slot_capacity(SlotId slot) const {
  return impl_->capacity_of(impl_->number_of(slot));
}
bool MemoryTier::full(uint32_t length_bytes) const {
  return impl_->full(length_bytes);
}
void MemoryTier::publish(SlotId slot, const shm::BlockKey& key, uint32_t start, uint32_t length,
                         Retention retention) {
  impl_->publish(impl_->number_of(slot), key, start, length, retention);
}
void MemoryTier::demote(SlotId slot, const shm::BlockKey& key) {
  impl_->demote(slot, key);
}
void MemoryTier::note_on_ssd(SlotId slot, const shm::BlockKey& key) {
  impl_->note_on_ssd(slot, key);
}
void MemoryTier::retag(SlotId slot, const shm::BlockKey& key) {
  impl_->retag(slot, key);
}
void MemoryTier::abandon(SlotId slot) {
  impl_->abandon(impl_->number_of(slot));
}
void MemoryTier::pin(SlotId slot) {
  impl_->pin(impl_->number_of(slot));
}
void MemoryTier::unpin(SlotId slot) {
  impl_->unpin(impl_->number_of(slot));
}
void MemoryTier::touch(uint32_t page) {
  impl_->touch(page);
}
void MemoryTier::mark_prefetched(SlotId slot) {
  impl_->mark_prefetched(impl_->number_of(slot));
}
void MemoryTier::note_use(SlotId slot) {
  impl_->note_use(impl_->number_of(slot));
}
void MemoryTier::forget_touches() {
  impl_->forget_touches();
}
void MemoryTier::keep(SlotId slot) {
  impl_->keep(impl_->number_of(slot));
}
void MemoryTier::unkeep(SlotId slot) {
  impl_->unkeep(impl_->number_of(slot));
}
MemoryTier::Evicted MemoryTier::evict_if(const Matches& matches, bool dry_run, uint64_t first,
                                         uint64_t count) {
  return impl_->evict_if(matches, dry_run, first, count);
}
MemoryTier::Evicted MemoryTier::evict_block(const shm::BlockKey& key, bool dry_run) {
  return impl_->evict_block(key, dry_run);
}
MemoryTierStats MemoryTier::stats() const {
  return impl_->stats();
}
const DataSetUse& MemoryTier::use() const {
  return impl_->use();
}
std::string MemoryTier::check() const {
  return impl_->check();
}

}  // namespace cached::memory_tier
