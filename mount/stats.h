// The mount's own counters and their text for `.stats` (Prometheus exposition format).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "shm/session_layout.h"

namespace cached::mount {

enum class Operation : unsigned {
  kLookup,
  kForget,
  kGetAttributes,
  kReadLink,
  kOpen,
  kRead,
  kRelease,
  kOpenDirectory,
  kReadDirectory,
  kReadDirectoryPlus,
  kStatFs,
  kGetXattr,
  kListXattr,
  kRefusedChange,  // anything that would change something
  kCount
};
inline constexpr unsigned kOperations = static_cast<unsigned>(Operation::kCount);

// As `.stats` and `.accesslog` call it.
const char* name_of(Operation operation);

// Requests by operation, of one worker thread: written by it alone, read by anybody.
struct OperationCounters {
  std::array<std::atomic<uint64_t>, kOperations> values{};
  void count(Operation operation) {
    std::atomic<uint64_t>& value = values[static_cast<unsigned>(operation)];
    value.store(value.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
};

// Everything that `.stats` shows, at one moment.
struct StatsSnapshot {
  std::string volume;
  bool attached = false;
  uint64_t inodes = 0;
  uint64_t workers = 0;
  uint64_t page_invalidations = 0;
  uint64_t refused_reads = 0;
  uint64_t access_log_dropped = 0;
  std::array<uint64_t, kOperations> operations{};
  std::array<uint64_t, static_cast<unsigned>(shm::Counter::kCount)> counters{};
};

std::string render_stats(const StatsSnapshot& snapshot);

}  // namespace cached::mount
