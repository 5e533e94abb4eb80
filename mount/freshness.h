// How old an answer may be, and how long the kernel may go on believing it.
//
// A record was validated at the origin at `validated_at_ns`. From then on it may be used for `timeout_ns`, by
// whomever: this process, or the kernel, which is told the rest of that time and never a new one. So the
// staleness that an application can see is bounded by the mount's option, however many caches stand in
// between.
#pragma once

#include <algorithm>
#include <cstdint>

#include "shm/types.h"

namespace cached::mount {

// The kernel's attribute timeout ends this much before ours (at most an eighth of the timeout). A read()
// checks it when it begins, and the READs that it causes arrive here a little later: with the margin they
// find attributes that are still fresh, so that a change of the file is met by the GETATTR at the beginning
// of a read() and hardly ever in the middle of one (refusals.h says what that costs). It also covers the
// kernel's rounding up to a jiffy.
inline constexpr uint64_t kKernelMarginNs = 25'000'000;

// What is left at `now_ns` of a record's life; 0 when it is over. A record from the future (another CPU's
// clock read between) is brand-new.
constexpr uint64_t rest_ns(uint64_t validated_at_ns, uint64_t now_ns, uint64_t timeout_ns, bool immutable) {
  if (immutable || now_ns <= validated_at_ns) return timeout_ns;
  if (validated_at_ns <= shm::kNeverValidatedNs) return 0;
  const uint64_t age_ns = now_ns - validated_at_ns;
  return age_ns >= timeout_ns ? 0 : timeout_ns - age_ns;
}

// Whether a record may still be used. With a timeout of 0 only what was validated at this very instant is
// fresh.
constexpr bool is_fresh(uint64_t validated_at_ns, uint64_t now_ns, uint64_t timeout_ns, bool immutable) {
  if (immutable || now_ns <= validated_at_ns) return true;
  return validated_at_ns > shm::kNeverValidatedNs && now_ns - validated_at_ns < timeout_ns;
}

// A timeout as the kernel wants it, in seconds.
constexpr double to_seconds(uint64_t duration_ns) {
  return static_cast<double>(duration_ns) / 1e9;
}

// The attribute timeout to tell the kernel: the rest of the record's life less the margin.
constexpr double kernel_attribute_seconds(uint64_t validated_at_ns, uint64_t now_ns, uint64_t timeout_ns,
                                          bool immutable) {
  const uint64_t rest = rest_ns(validated_at_ns, now_ns, timeout_ns, immutable);
  if (immutable) return to_seconds(rest);
  const uint64_t margin = std::min(kKernelMarginNs, timeout_ns / 8);
  return to_seconds(rest > margin ? rest - margin : 0);
}

}  // namespace cached::mount
