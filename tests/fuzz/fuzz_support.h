// What the fuzzers share: the device that they play, the checksums computed a second time (after FORMAT.md,
// not by the code under test) so that mutated structures get past them, and what must be true of accepted
// records.
#pragma once

#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "cached/ssd_tier/format.h"

namespace cached::ssd_tier::fuzz {

inline constexpr uint32_t kSegment = 5;

inline const Uuid& device() {
  static const Uuid uuid{{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
  return uuid;
}

inline const Layout& layout() {
  static const Layout value = layout_for(64 * kMiB, 512).value();
  return value;
}

inline void require(bool condition) {
  if (!condition) std::abort();
}

template <typename T>
T get(std::span<const std::byte> bytes, size_t at) {
  T value;
  std::memcpy(&value, &bytes[at], sizeof value);
  return value;
}

template <typename T>
void put(std::span<std::byte> bytes, size_t at, T value) {
  std::memcpy(&bytes[at], &value, sizeof value);
}

// S(kind) of FORMAT.md for the structure at `bytes`, whose sequence is at 16 and segment number at
// `number_at`.
inline uint64_t seed_of(std::span<const std::byte> bytes, size_t number_at, uint32_t kind) {
  std::vector<std::byte> place(32);
  std::memcpy(place.data(), device().bytes.data(), 16);
  put(std::span(place), 16, get<uint64_t>(bytes, 16));
  put(std::span(place), 24, get<uint32_t>(bytes, number_at));
  put(std::span(place), 28, kind);
  return XXH3_64bits(place.data(), place.size());
}

inline void require_sound(std::span<const Record> records, uint64_t begin, uint64_t end) {
  for (const Record& record : records) {
    require(record.length_bytes >= 1 && record.length_bytes <= 128 * 1024);
    require(record.offset_bytes >= begin);
    require(record.offset_bytes % (record.length_bytes < 16384 ? 512 : 4096) == 0);
    begin = uint64_t{record.offset_bytes} + record.length_bytes;
    require(begin <= end);
  }
}

}  // namespace cached::ssd_tier::fuzz
