// The sizes that slots come in: every 4 KiB up to 64 KiB, then every 8 KiB up to a whole block of 128 KiB.
//
// A piece wastes half a step on average: from 32 KiB on at most 6 % of its slot (2 of 36 KiB, 4 of 72 KiB).
// What a region cannot fill with whole slots is at most 3.5 % more. Steps of 8 KiB from 32 KiB on would waste
// 10 % there; steps of 4 KiB everywhere would make more classes than a small arena has regions.
#pragma once

#include <array>
#include <cstdint>

#include "cached/memory_tier/memory_tier.h"
#include "shm/types.h"

namespace cached::memory_tier {

inline constexpr unsigned kPagesPerRegion = kRegionBytes / shm::kPageBytes;
inline constexpr unsigned kPagesPerBlock = shm::kBlockBytes / shm::kPageBytes;
inline constexpr unsigned kFineClasses = 16;  // in steps of one page
inline constexpr unsigned kSizeClasses = kFineClasses + (kPagesPerBlock - kFineClasses) / 2;

constexpr unsigned pages_of_class(unsigned size_class) {
  return size_class < kFineClasses ? size_class + 1 : kFineClasses + 2 * (size_class - kFineClasses + 1);
}

constexpr unsigned slots_per_region(unsigned size_class) {
  return kPagesPerRegion / pages_of_class(size_class);
}

// The smallest class that holds `length_bytes`, 1...kBlockBytes.
constexpr unsigned class_of_length(uint32_t length_bytes) {
  const unsigned pages = (length_bytes + shm::kPageBytes - 1) / shm::kPageBytes;
  return pages <= kFineClasses ? pages - 1 : kFineClasses + (pages - kFineClasses + 1) / 2 - 1;
}

static_assert(pages_of_class(kSizeClasses - 1) == kPagesPerBlock);
static_assert(class_of_length(shm::kBlockBytes) == kSizeClasses - 1 && class_of_length(1) == 0);
static_assert(pages_of_class(class_of_length(100'000)) == 26);

}  // namespace cached::memory_tier
