// DirectoryTotals: what was counted last below directories of a volume, each for a state of the volume, and
// which counts are going on. For volumes that count by asking their own metadata.
//
// Any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "base/log.h"
#include "base/status.h"
#include "cached/volume/lru_map.h"
#include "cached/volume/volume.h"

namespace cached::volume {

class DirectoryTotals {
 public:
  // What is known of the directory. `*count` becomes whether that is of another state than `state`, and the
  // caller is to count now: it ends that with end().
  TreeTotals find(const std::string& path, uint64_t state, bool* count) {
    const std::lock_guard lock(mutex_);
    Entry* known = directories_.get(path);
    if (known == nullptr) known = directories_.put(path, Entry{});
    *count = !known->counting && !(known->totals.counted && known->state == state);
    if (*count) known->counting = true;
    return known->totals;
  }
  // The count came to `totals`, of that state, or could not be made: then what was known stays, and the next
  // who asks counts again. `volume` is for the log.
  void end(const std::string& volume, const std::string& path, uint64_t state,
           const Result<TreeTotals>& totals) {
    const std::lock_guard lock(mutex_);
    if (totals.ok()) {
      directories_.put(path, Entry{*totals, state, false});
      return;
    }
    log_debug("volume {}: {} is not counted: {}", volume, printable(path), totals.status().message());
    if (Entry* const known = directories_.get(path)) known->counting = false;
  }

 private:
  static constexpr size_t kMaximumDirectories = 1024;  // as many as there may be data sets
  struct Entry {
    TreeTotals totals;
    uint64_t state = 0;
    bool counting = false;
  };
  std::mutex mutex_;  // guards directories_
  LruMap<std::string, Entry> directories_{kMaximumDirectories};
};

}  // namespace cached::volume
