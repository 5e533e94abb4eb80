// Cookies of a listing: what the kernel hands back to go on with readdir().
//
// They are the source's own 64-bit values and can be anything: small counters, hashes, 2^63-1 for the end.
// "." and "..", which the source does not list, come first and need two cookies that no source uses; 0 means
// the beginning. Small numbers and the largest ones are taken (ext4 and btrfs end with 2^63-1, Lustre with
// 2^64-2), so the two are arbitrary positive 63-bit numbers: a source that hashes names meets one of them
// with probability 2^-62 for each entry.
#pragma once

#include <cstdint>

namespace cached::mount {

inline constexpr uint64_t kAfterDot = 0x5CA1AB1E0DDBA11DULL;  // "." was taken, ".." comes next
inline constexpr uint64_t kAfterDotDot =
    0x5CA1AB1E0DDBA11EULL;  // both were taken, the source's first entry is next

// Where a listing goes on.
struct ListingPosition {
  bool dot = false;      // emit "."
  bool dot_dot = false;  // emit ".."
  uint64_t source_cookie = 0;
};

constexpr ListingPosition listing_position(uint64_t cookie) {
  if (cookie == 0) return {.dot = true, .dot_dot = true, .source_cookie = 0};
  if (cookie == kAfterDot) return {.dot = false, .dot_dot = true, .source_cookie = 0};
  if (cookie == kAfterDotDot) return {.dot = false, .dot_dot = false, .source_cookie = 0};
  return {.dot = false, .dot_dot = false, .source_cookie = cookie};
}

}  // namespace cached::mount
