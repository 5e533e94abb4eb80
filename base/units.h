// Sizes as people write them: "64MiB", "512GiB", "128KiB", "1073741824".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace cached {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;
inline constexpr uint64_t kTiB = 1024 * kGiB;

// Parses a whole number with an optional unit: B, K/KiB, M/MiB, G/GiB, T/TiB (powers of 1024; letter case is
// free) or KB, MB, GB, TB (powers of 1000). EINVAL with a message for anything else, negative numbers
// included; ERANGE for more than 2^64 bytes.
Result<uint64_t> parse_size(std::string_view text);

// "1.5 GiB", "640 KiB", "17 B": three digits that matter.
std::string format_size(uint64_t size_bytes);

// Rounds up to a multiple of `alignment`, a power of two.
constexpr uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}
constexpr uint64_t align_down(uint64_t value, uint64_t alignment) {
  return value & ~(alignment - 1);
}

}  // namespace cached
