// What the daemon's counters say about a pass: how much of what was asked of cached came from the origin.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/status.h"

namespace cached::bench {

// Counters since the daemon's start, in bytes.
struct CacheCounters {
  uint64_t memory_bytes = 0;  // found in memory by the clients
  uint64_t missed_bytes = 0;  // asked of the daemon
  uint64_t origin_bytes = 0;  // read from the sources, ahead of the readers too
};

struct CacheUse {
  double hit_ratio = 0;         // of bytes asked for, what memory and SSDs kept from the origin
  double memory_hit_ratio = 0;  // of bytes asked for, what was in memory when it was asked for
  uint64_t asked_bytes = 0;
  uint64_t origin_bytes = 0;
};

// Asks the daemon at this control socket.
Result<CacheCounters> read_cache_counters(const std::string& control_socket);

// What happened between two readings; nothing if nothing was asked of cached: the kernel had it all.
std::optional<CacheUse> cache_use_between(const CacheCounters& before, const CacheCounters& after);

}  // namespace cached::bench
