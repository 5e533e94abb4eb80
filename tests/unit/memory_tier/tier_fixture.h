// A MemoryTier over private memory, with a clock and hazards that the test sets.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "base/clock.h"
#include "cached/memory_tier/memory_tier.h"
#include "shm/seq_table.h"

namespace cached::memory_tier {

inline constexpr uint32_t kBlock = shm::kBlockBytes;
inline constexpr unsigned kBlocksPerRegion = kRegionBytes / shm::kBlockBytes;

// Any number names a block of its own.
inline shm::BlockKey key_of(uint64_t number) {
  return {{0x1234, number + 1}, 0, 1, 0};
}

struct TierSettings {
  uint64_t regions = 4;
  uint64_t first_region = 0;
  uint64_t index_buckets = 4096;  // a power of two
};

class TierFixture {
 public:
  explicit TierFixture(TierSettings settings)
      : arena_bytes_((settings.first_region + settings.regions) * kRegionBytes),
        buckets_(std::make_unique<shm::SeqBucket<shm::BlockRecord>[]>(settings.index_buckets)) {
    void* memory = ::mmap(nullptr, arena_bytes_, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    EXPECT_NE(memory, MAP_FAILED);
    arena_ = static_cast<std::byte*>(memory);
    MemoryTier::Options options;
    options.arena = arena_;
    options.first_region = settings.first_region;
    options.region_count = settings.regions;
    options.clock = &clock;
    options.scan_hazards = [this](std::vector<uint32_t>* pages) {
      ++scans;
      pages->insert(pages->end(), hazards.begin(), hazards.end());
    };
    options.prepare_region = [this](uint64_t region) { return !without_memory.contains(region); };
    tier_ = std::make_unique<MemoryTier>(
        options, shm::SeqTableWriter<shm::BlockRecord>(buckets_.get(), settings.index_buckets, 0));
  }
  ~TierFixture() {
    tier_.reset();
    ::munmap(arena_, arena_bytes_);
  }
  TierFixture(const TierFixture&) = delete;
  TierFixture& operator=(const TierFixture&) = delete;

  MemoryTier& operator*() { return *tier_; }
  MemoryTier* operator->() { return tier_.get(); }
  std::byte* arena() const { return arena_; }

  // Fills a slot with block `number`; the caller owns its pin. Nothing: no slot.
  std::optional<SlotId> fill_pinned(uint64_t number, uint32_t length_bytes = kBlock,
                                    Retention retention = Retention::kMain) {
    const auto slot = tier_->allocate(length_bytes);
    if (slot) tier_->publish(*slot, key_of(number), 0, length_bytes, retention);
    return slot;
  }
  // The same without the pin.
  std::optional<SlotId> fill(uint64_t number, uint32_t length_bytes = kBlock,
                             Retention retention = Retention::kMain) {
    const auto slot = fill_pinned(number, length_bytes, retention);
    if (slot) tier_->unpin(*slot);
    return slot;
  }
  std::optional<MemoryTier::Piece> find(uint64_t number, uint32_t offset_in_block = 0) const {
    return tier_->find(key_of(number), offset_in_block);
  }
  bool has(uint64_t number) const { return find(number).has_value(); }
  void touch(uint64_t number) {
    if (const auto piece = find(number)) tier_->touch(piece->slot.page);
  }
  void advance_ms(uint64_t elapsed_ms) { clock.advance_ns(elapsed_ms * kNanosecondsPerMillisecond); }

  ManualClock clock;
  std::vector<uint32_t> hazards;      // pages
  std::set<uint64_t> without_memory;  // regions that cannot be prepared
  uint64_t scans = 0;

 private:
  uint64_t arena_bytes_;
  std::unique_ptr<shm::SeqBucket<shm::BlockRecord>[]> buckets_;
  std::byte* arena_ = nullptr;
  std::unique_ptr<MemoryTier> tier_;
};

}  // namespace cached::memory_tier
