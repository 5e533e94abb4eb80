// TreeCounter: bytes and files of a source directory, for statfs: counted by walking the tree in the
// background.
//
// The walk starts when somebody first asks, and again when somebody asks and the last count is older than
// kRecountNs; it runs on a thread of its own at low priority, so it neither delays the volume nor uses its
// pool. Any thread.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <thread>

#include "base/clock.h"
#include "shm/types.h"

namespace cached::volume {

class TreeCounter {
 public:
  static constexpr uint64_t kRecountNs = 300 * kNanosecondsPerSecond;

  // `root_fd` (O_PATH) must outlive the counter.
  explicit TreeCounter(int root_fd) : root_fd_(root_fd) {}
  // Stops a walk that is going on.
  ~TreeCounter();

  // Starts a walk if one is due.
  void refresh();
  // The last complete count, or what the first walk has counted so far.
  shm::VolumeStatistics known() const;
  // Of it, what is a regular file.
  uint64_t regular_files() const { return regular_files_; }

 private:
  void walk();

  const int root_fd_;
  std::mutex mutex_;  // guards thread_ and started_at_ns_
  std::thread thread_;
  uint64_t started_at_ns_ = 0;
  std::atomic<bool> walking_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> complete_{false};
  std::atomic<uint64_t> bytes_{0};
  std::atomic<uint64_t> files_{0};
  std::atomic<uint64_t> regular_files_{0};
};

}  // namespace cached::volume
