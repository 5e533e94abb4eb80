// MemoryTier: one shard's part of the memory tier: its regions of the arena, their slots, and the shard's
// partition of the shared block index, of which it is the one writer.
//
// Slots. The arena is cut into regions of 2 MiB; a region serves one size class at a time (slab), so that
// files of any size waste little (over 85 % useful bytes for 100 KB files). A slot's life:
//   free -> filling (allocate) -> present (publish) -> limbo (evicted: out of the index, perhaps still read)
//   -> free
// A filling slot has I/O in flight and is nobody's to take, whatever timed out, until publish() or abandon().
// A present slot with pins stays. A slot in limbo is reused only when no hazard of any session names one of
// its pages.
//
// Eviction is SIEVE within a class: new slots enter at the head, a hand walks from the tail and takes the
// first slot that was not touched since it last passed. A touch counts only when it comes more than
// kCorrelationNs after the fill, so that one scan's several reads of a block (requests smaller than a block,
// read-ahead and then the reader) do not look like reuse: that makes it scan-resistant. Above an SSD tier,
// what is cheap to lose (Retention::kTransient) goes first and has a tenth of the class to itself
// (eviction_order.h). Classes compete for regions by the age of what they would evict.
//
// Pieces. A block is present whole or as pieces, which may overlap: all are of the same immutable bytes. What
// another piece covers entirely does not stay beside it.
//
// Threads: the shard's own, throughout.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "cached/memory_tier/data_set_use.h"
#include "shm/index_layout.h"
#include "shm/types.h"

namespace cached::memory_tier {

inline constexpr uint64_t kRegionBytes = 2 * 1024 * 1024;
inline constexpr uint64_t kCorrelationNs = 1'000'000'000;

// Names a slot: the arena page where it starts.
struct SlotId {
  uint32_t page = 0;
  friend bool operator==(const SlotId&, const SlotId&) = default;
};

// What losing a piece would cost.
enum class Retention : uint8_t {
  kMain,       // a fetch from the origin
  kTransient,  // little: an SSD has the block as well, or the admission policy chose not to keep it
};

// Appends all pages (+1 removed) that any session's hazards name now; loads must be seq_cst. See SeqTable's
// argument.
using HazardScan = std::function<void(std::vector<uint32_t>* pages)>;
// Makes region `region` (index in the whole arena) usable: allocates its memory. False: no memory; the tier
// skips it.
using PrepareRegion = std::function<bool(uint64_t region)>;

struct MemoryTierStats {
  uint64_t regions = 0;
  uint64_t regions_used = 0;
  uint64_t slots_present = 0;
  uint64_t bytes_present = 0;   // bytes of content
  uint64_t bytes_reserved = 0;  // bytes of slots that hold content or are filling
  uint64_t slots_limbo = 0;
  uint64_t slots_pinned = 0;
  uint64_t evictions = 0;
  uint64_t insertions = 0;
  uint64_t index_displacements = 0;    // records lost because both their buckets were full
  uint64_t regions_moved = 0;          // from one size class to another
  uint64_t prefetch_used_bytes = 0;    // of pieces that were marked as prefetched: used by somebody since,
  uint64_t prefetch_wasted_bytes = 0;  // or out of the index before anybody did
};

class MemoryTier {
 public:
  struct Options {
    std::byte* arena = nullptr;  // the daemon's writable mapping of the whole arena
    uint64_t first_region = 0;   // this shard's regions: [first_region, first_region + region_count)
    uint64_t region_count = 0;
    HazardScan scan_hazards;
    PrepareRegion prepare_region;
    const Clock* clock = &system_clock();
  };
  // A present piece of a block.
  struct Piece {
    SlotId slot;
    uint32_t start = 0;   // in the block
    uint32_t length = 0;  // bytes of content
    const std::byte* data = nullptr;
  };

  MemoryTier(Options options, shm::SeqTableWriter<shm::BlockRecord> index);
  ~MemoryTier();

  // Of the present pieces of `key` that cover byte `offset_in_block` the one that reaches furthest, or
  // nothing.
  std::optional<Piece> find(const shm::BlockKey& key, uint32_t offset_in_block) const;

  // Takes a slot for `length_bytes` (1...kBlockBytes), evicting if need be; the slot is filling. Nothing:
  // everything is pinned, filling or under hazards right now; try again after an unpin, a publish or a while.
  std::optional<SlotId> allocate(uint32_t length_bytes);
  // Whether one more piece of `length_bytes` (1...kBlockBytes) that is to stay (kMain) costs another of
  // those: no region is unused, and the class has no slots that are free or held by transient pieces beyond
  // their share, but for the few that evictions in batches leave ahead of need. For the admission policy: as
  // long as it is false, what the SSD does not take may be published as kMain at no cost.
  bool full(uint32_t length_bytes) const;
  // Where a filling slot's bytes go, and how many fit (a multiple of 4 KiB, at least what was asked for).
  std::byte* slot_data(SlotId slot) const;
  uint32_t slot_capacity(SlotId slot) const;

  // The I/O into a filling slot is complete: the piece, bytes [start, start + length) of the block (within
  // kBlockBytes), is present and in the index, with one pin that the caller owns. Present pieces of the block
  // that it covers entirely, or equals, are evicted. The piece stays out of the index if a present one covers
  // it and more, and seldom for want of a place (both its buckets are full of pinned slots, or its region is
  // going to another size class): find() does not find it, and its last unpin frees it.
  void publish(SlotId slot, const shm::BlockKey& key, uint32_t start, uint32_t length,
               Retention retention = Retention::kMain);
  // The piece that was just published in this slot was fetched ahead and nobody waits for it: its bytes count
  // as used with the first touch() or note_use(), and as wasted if it leaves the index before.
  void mark_prefetched(SlotId slot);
  // A reader was given the piece in this slot.
  void note_use(SlotId slot);
  // An SSD has the piece in this slot now: it is cheap to lose from here on, unless it was used again since
  // it was filled. Does nothing if the slot no longer holds a piece of `key`; any value of `slot` is safe.
  void demote(SlotId slot, const shm::BlockKey& key);
  // For accounting: an SSD has the piece as well; the piece belongs to `key.data_set` now. The same holds.
  void note_on_ssd(SlotId slot, const shm::BlockKey& key);
  void retag(SlotId slot, const shm::BlockKey& key);
  // The I/O into a filling slot is over and failed: the slot is free again.
  void abandon(SlotId slot);

  // A slot with pins keeps its place and its bytes. Eviction leaves it in the index; publishing a
  // piece that covers its own, or the draining of its region, takes it out, and then its last unpin frees it.
  void pin(SlotId slot);
  void unpin(SlotId slot);
  // The slot that holds arena page `page` was used by a client. Any value is safe.
  void touch(uint32_t page);

  // The main list's blocks lose the protection that touches gave them, the oldest first: for a change of what
  // is used, which eviction alone is slow to follow. Walks all slots: a few milliseconds for 25 GiB.
  void forget_touches();

  // Pins a slot for as long as an operator wants: like pin(), and its region stays with its size class, so
  // that the piece stays in the index. Each keep() is taken back by an unkeep().
  void keep(SlotId slot);
  void unkeep(SlotId slot);

  struct Evicted {
    uint64_t pieces = 0;
    uint64_t bytes = 0;
  };
  // For how long a piece was not used as far as is known: hits in shared memory tell when blocks come in, and
  // not all do.
  using Matches = std::function<bool(const shm::BlockKey&, uint64_t idle_ns)>;
  // Takes pieces for which `matches` holds out of memory unless they are pinned; with `dry_run` only counts
  // them. Looks at `count` of the tier's regions from number `first` on, so that a walk of all need not stop
  // the shard.
  Evicted evict_if(const Matches& matches, bool dry_run = false, uint64_t first = 0,
                   uint64_t count = UINT64_MAX);
  // The same for all pieces of a block.
  Evicted evict_block(const shm::BlockKey& key, bool dry_run);

  MemoryTierStats stats() const;
  // What is present of each data set.
  const DataSetUse& use() const;
  // Walks all its structures and returns what contradicts, empty if nothing does. For tests.
  std::string check() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cached::memory_tier
