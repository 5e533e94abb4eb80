// WritePacer: how fast a shard may write to a device that is being read.
//
// Reads have somebody who waits, writes have nobody, and both share the device. While nobody reads, writes go
// as fast as the device takes them. While reads come, a write earns its turn: each byte read earns a
// sixteenth of a byte, so that readers keep over nine tenths of the device, and a small rate is granted
// besides, so that a device that is read without a pause by small commands still fills.
//
// Threads: the shard's own. The clock is the caller's.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace cached::ssd_tier {

class WritePacer {
 public:
  static constexpr uint64_t kQuietNs = 20'000'000;         // without a read: nobody reads
  static constexpr uint64_t kEarnedShare = 16;             // bytes read for one byte to write
  static constexpr uint64_t kGrantedPerSecond = 4u << 20;  // bytes
  static constexpr uint64_t kMostEarned = 8u << 20;        // bytes saved up at most

  // A read of `bytes` began at `now_ns`.
  void read_began(uint64_t bytes, uint64_t now_ns) {
    earn(now_ns);
    last_read_ns_ = now_ns;
    balance_ = std::min<int64_t>(balance_ + static_cast<int64_t>(bytes / kEarnedShare), kMostEarned);
  }

  // 0: a write may go now. Otherwise how long to wait before asking again.
  uint64_t wait_ns(uint64_t now_ns) {
    if (last_read_ns_ == 0 || now_ns - last_read_ns_ >= kQuietNs) return 0;
    earn(now_ns);
    if (balance_ >= 0) return 0;
    const uint64_t until_granted_ns =
        static_cast<uint64_t>(-balance_) * kNanosecondsPerSecond / kGrantedPerSecond;
    return std::clamp<uint64_t>(until_granted_ns, 1'000'000, kQuietNs);
  }

  // A write of `bytes` began. The balance may go below zero: the next one waits.
  void wrote(uint64_t bytes, uint64_t now_ns) {
    earn(now_ns);
    balance_ = std::max<int64_t>(balance_ - static_cast<int64_t>(bytes), -static_cast<int64_t>(kMostEarned));
  }

 private:
  void earn(uint64_t now_ns) {
    const uint64_t elapsed_ns =
        earned_at_ns_ == 0 ? 0 : std::min(now_ns - earned_at_ns_, kNanosecondsPerSecond);
    earned_at_ns_ = now_ns;
    const auto granted = static_cast<int64_t>(elapsed_ns * kGrantedPerSecond / kNanosecondsPerSecond);
    balance_ = std::min<int64_t>(balance_ + granted, kMostEarned);
  }

  int64_t balance_ = 0;  // bytes that may be written
  uint64_t last_read_ns_ = 0;
  uint64_t earned_at_ns_ = 0;
};

}  // namespace cached::ssd_tier
