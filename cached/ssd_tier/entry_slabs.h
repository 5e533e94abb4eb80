// EntrySlabs: the memory of SsdIndex's entries. A part of SsdIndex, for its files only.
//
// An entry is 20 bytes and 4 for each of its chunks' checksums, so there are eight sizes. Each has address
// space of its own, as much as all entries of the index could take, divided into slabs of whole pages. A slab
// that has become empty is given back: when the cache turns from large blocks to small files, the memory
// follows. A slab is filled again before another is taken.
//
// One thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cached/ssd_tier/format.h"
#include "cached/ssd_tier/reserved_memory.h"

namespace cached::ssd_tier {

// Names an entry: 3 bits of size (chunks less one), 29 of place.
using EntryRef = uint32_t;
inline constexpr EntryRef kNoEntry = ~EntryRef{0};

struct IndexEntry {
  uint32_t fingerprint_low;  // 48 bits of the key's hash
  uint16_t fingerprint_high;
  uint16_t data_set;
  uint32_t position_low;  // 38 bits: offset on the device in kUnitBytes
  uint32_t position_high : 6;
  uint32_t device : 6;
  uint32_t length_less_one : 17;  // bytes
  uint32_t removed : 1;           // only its segment's chain still knows it
  uint32_t head : 1;              // of its object's first block
  uint32_t spare : 1;
  EntryRef next;  // in its segment's chain, or in its slab's list of free entries
  // uint32_t checksums[chunks] follow.

  uint64_t fingerprint() const { return uint64_t{fingerprint_high} << 32 | fingerprint_low; }
  uint64_t offset_bytes() const { return (uint64_t{position_high} << 32 | position_low) * kUnitBytes; }
  uint32_t length_bytes() const { return length_less_one + 1; }
};
static_assert(sizeof(IndexEntry) == 20 && alignof(IndexEntry) == 4);
static_assert(kMaximumDeviceBytes / kUnitBytes <= uint64_t{1} << 38 && kMaximumEntryBytes <= 1U << 17);

class EntrySlabs {
 public:
  // For entries that take `limit_bytes` at most, all sizes together.
  explicit EntrySlabs(uint64_t limit_bytes);

  // An entry for so many chunks (1..8), its content undefined. kNoEntry if that needs more than
  // `budget_bytes` of new memory, or the references of the size are used up.
  EntryRef allocate(uint32_t chunks, uint64_t budget_bytes);
  void free(EntryRef ref);

  IndexEntry& operator[](EntryRef ref) { return *reinterpret_cast<IndexEntry*>(address(ref)); }
  const IndexEntry& operator[](EntryRef ref) const {
    return *reinterpret_cast<const IndexEntry*>(address(ref));
  }
  uint32_t* checksums(EntryRef ref) { return reinterpret_cast<uint32_t*>(address(ref) + sizeof(IndexEntry)); }
  const uint32_t* checksums(EntryRef ref) const {
    return reinterpret_cast<const uint32_t*>(address(ref) + sizeof(IndexEntry));
  }
  static uint32_t chunks(EntryRef ref) { return (ref >> kPlaceBits) + 1; }
  void prefetch(EntryRef ref) const { __builtin_prefetch(address(ref)); }

  uint64_t memory_bytes() const { return memory_bytes_; }

 private:
  static constexpr unsigned kPlaceBits = 29;
  static constexpr unsigned kSlabBits = 12;
  static constexpr uint32_t kSlabEntries = 1U << kSlabBits;
  static constexpr uint32_t kMaximumSlabs = 1U << (kPlaceBits - kSlabBits);
  static constexpr uint32_t kNowhere = ~0U;

  struct Slab {
    EntryRef free = kNoEntry;  // chain of freed entries
    uint16_t fresh = 0;        // entries from here on were never used
    uint16_t live = 0;
    uint32_t open_place = kNowhere;  // in Size::open
  };
  struct Size {
    ReservedMemory memory;
    std::vector<Slab> slabs;
    std::vector<uint32_t> open;    // slabs with room
    std::vector<uint32_t> closed;  // slabs whose memory was given back
  };

  static size_t slab_bytes(uint32_t chunks) { return size_t{kSlabEntries} * stride_bytes(chunks); }
  static uint32_t stride_bytes(uint32_t chunks) {
    return static_cast<uint32_t>(sizeof(IndexEntry)) + 4 * chunks;
  }
  std::byte* address(EntryRef ref) const {
    const Size& size = sizes_[ref >> kPlaceBits];
    const uint32_t place = ref & ((1U << kPlaceBits) - 1);
    return size.memory.data() + size_t{place} * stride_bytes(chunks(ref));
  }
  bool open_slab(Size& size, uint32_t chunks, uint64_t budget_bytes);
  void add_to_open(Size& size, uint32_t number);
  void take_from_open(Size& size, uint32_t number);

  std::array<Size, kMaximumChunks> sizes_;
  uint64_t memory_bytes_ = 0;
};

}  // namespace cached::ssd_tier
