#include "cached/ssd_tier/entry_slabs.h"

#include <algorithm>

namespace cached::ssd_tier {

EntrySlabs::EntrySlabs(uint64_t limit_bytes) {
  for (uint32_t chunks = 1; chunks <= kMaximumChunks; ++chunks) {
    // The last place of the last size would be kNoEntry.
    const uint64_t slabs = std::min<uint64_t>(limit_bytes / slab_bytes(chunks), kMaximumSlabs - 1);
    sizes_[chunks - 1].memory = ReservedMemory(slabs * slab_bytes(chunks));
  }
}

EntryRef EntrySlabs::allocate(uint32_t chunks, uint64_t budget_bytes) {
  Size& size = sizes_[chunks - 1];
  if (size.open.empty() && !open_slab(size, chunks, budget_bytes)) return kNoEntry;
  const uint32_t number = size.open.back();
  Slab& slab = size.slabs[number];
  EntryRef ref = slab.free;
  if (ref != kNoEntry) {
    slab.free = (*this)[ref].next;
  } else {
    ref = (chunks - 1) << kPlaceBits | number << kSlabBits | slab.fresh++;
  }
  if (++slab.live == kSlabEntries) take_from_open(size, number);
  return ref;
}

void EntrySlabs::free(EntryRef ref) {
  Size& size = sizes_[ref >> kPlaceBits];
  const uint32_t number = (ref & ((1U << kPlaceBits) - 1)) >> kSlabBits;
  Slab& slab = size.slabs[number];
  if (slab.live == kSlabEntries) add_to_open(size, number);
  (*this)[ref].next = slab.free;
  slab.free = ref;
  if (--slab.live > 0) return;
  take_from_open(size, number);
  slab = Slab{};
  size.memory.give_back(number * slab_bytes(chunks(ref)), slab_bytes(chunks(ref)));
  size.closed.push_back(number);
  memory_bytes_ -= slab_bytes(chunks(ref));
}

bool EntrySlabs::open_slab(Size& size, uint32_t chunks, uint64_t budget_bytes) {
  const size_t length_bytes = slab_bytes(chunks);
  if (length_bytes > budget_bytes) return false;
  if (size.closed.empty()) {
    const size_t offset = size.slabs.size() * length_bytes;
    if (offset + length_bytes > size.memory.size() || !size.memory.commit(offset, length_bytes)) return false;
    size.closed.push_back(static_cast<uint32_t>(size.slabs.size()));
    size.slabs.emplace_back();
  }
  const uint32_t number = size.closed.back();
  size.closed.pop_back();
  memory_bytes_ += length_bytes;
  add_to_open(size, number);
  return true;
}

void EntrySlabs::add_to_open(Size& size, uint32_t number) {
  size.slabs[number].open_place = static_cast<uint32_t>(size.open.size());
  size.open.push_back(number);
}

void EntrySlabs::take_from_open(Size& size, uint32_t number) {
  const uint32_t place = size.slabs[number].open_place;
  const uint32_t last = size.open.back();
  size.open[place] = last;
  size.slabs[last].open_place = place;
  size.open.pop_back();
  size.slabs[number].open_place = kNowhere;
}

}  // namespace cached::ssd_tier
