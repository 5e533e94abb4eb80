#include "mount/refusals.h"

#include <algorithm>

namespace cached::mount {

Refusals::Change& Refusals::change_of_locked(const Inode& inode) {
  if (changes_.size() >= kMaximumChanges && changes_.count(inode.handle()) == 0)
    changes_.erase(changes_.begin());
  return changes_[inode.handle()];
}

void Refusals::begin_settling(Inode& inode) {
  const std::lock_guard lock(mutex_);
  Change& change = change_of_locked(inode);
  change.revalidated.clear();
  change.settled_at_ns = clock_.monotonic_ns() + kSettlingNs;
  inode.set_settling(true);
}

bool Refusals::settling(Inode& inode) {
  if (!inode.settling()) return false;
  const std::lock_guard lock(mutex_);
  const auto change = changes_.find(inode.handle());
  if (change != changes_.end() && clock_.monotonic_ns() < change->second.settled_at_ns) return true;
  if (change != changes_.end()) changes_.erase(change);
  inode.set_settling(false);
  return false;
}

void Refusals::note_revalidated(const Inode& inode, pid_t thread) {
  const std::lock_guard lock(mutex_);
  const auto change = changes_.find(inode.handle());
  if (change == changes_.end()) return;
  std::unordered_set<pid_t>& threads = change->second.revalidated;
  if (threads.size() >= kMaximumThreads) threads.clear();
  threads.insert(thread);
}

bool Refusals::revalidated(const Inode& inode, pid_t thread) {
  const std::lock_guard lock(mutex_);
  const auto change = changes_.find(inode.handle());
  return change == changes_.end() || change->second.revalidated.count(thread) != 0;
}

bool Refusals::refuse(const Inode& inode, uint64_t offset, uint64_t size, pid_t thread) {
  const std::lock_guard lock(mutex_);
  const uint64_t now_ns = clock_.monotonic_ns();
  std::deque<Range>& ranges = change_of_locked(inode).refused;
  while (!ranges.empty() && now_ns - ranges.front().refused_at_ns > kTriesNs) ranges.pop_front();
  unsigned refused = 0;
  unsigned refused_to_thread = 0;
  for (const Range& range : ranges) {
    if (offset < range.begin || offset >= range.end) continue;
    ++refused;
    if (range.thread == thread) ++refused_to_thread;
  }
  if (refused >= 2 && refused_to_thread >= 1) return false;
  if (ranges.size() >= kMaximumRanges) ranges.pop_front();
  ranges.push_back({offset, offset + std::max<uint64_t>(size, 1), thread, now_ns});
  return true;
}

}  // namespace cached::mount
