// Which READs of a changed file to refuse, so that no read() returns bytes of two versions and no page fault
// fails.
//
// A read() of the application is many READs here, or none for pages that the kernel has. When a file changes
// in place, those that run at that moment, the *straddlers*, have copied old bytes, and must not go on with
// new ones. Nothing in a READ tells how old its read() is. What helps is that each read() begins with a
// GETATTR if the kernel's attributes have expired, and that requests carry the number of the thread that
// makes them, which does one thing at a time:
//
// - stale: the change is known, the old pages are still there. Every buffered READ is refused, and the
//   kernel's attributes are expired.
// - settling: the old pages were dropped. For a time all attributes go out with a timeout of 0, so that every
//   new read() says so by a GETATTR. A thread that asked for attributes since the pages were dropped is in no
//   read() from before: its READs are served. Those of other threads are refused. When the time is over every
//   straddler has met a READ or its end.
//
// A page fault makes no GETATTR and must not fail, for that would be SIGBUS. It differs in how often it
// tries: for a page that does not come, one thread's read() makes two READs, the read-ahead and one of the
// page alone; a fault makes a third, when it is retried without the mmap lock. So a READ passes if its first
// page was refused twice, once of these to the same thread.
//
// What remains: a straddler that gets no CPU for as long as the invalidator waits after dropping the pages,
// and then finds the pages that it lacks loaded by others; the kernel does not ask us about those.
//
// The memory is bounded; an inode that falls out of it counts as settled. Any thread; only READs of changed
// files and attributes of settling ones come here.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "base/clock.h"
#include "mount/inode_table.h"

namespace cached::mount {

// How long a changed file settles: longer than a read() takes.
inline constexpr uint64_t kSettlingNs = 10 * kNanosecondsPerSecond;
// How long a refused READ is remembered: longer than a page fault takes for its tries, shorter than the time
// until the same thread's next read() may meet the next change.
inline constexpr uint64_t kTriesNs = 1 * kNanosecondsPerSecond;

class Refusals {
 public:
  explicit Refusals(const Clock& clock = system_clock()) : clock_(clock) {}

  // The kernel's pages of `inode` were dropped: it settles from now on, and no thread is known to have asked
  // since.
  void begin_settling(Inode& inode);
  // Whether it still does. One look at the inode if not.
  bool settling(Inode& inode);
  // `thread` asked for attributes of a settling inode and gets them now.
  void note_revalidated(const Inode& inode, pid_t thread);
  // Whether READs of `thread` may be served while the inode settles.
  bool revalidated(const Inode& inode, pid_t thread);
  // Decides about a READ of [offset, offset + size) that may belong to a straddler: true if it is to be
  // refused, which is remembered; false if it is a page fault's.
  bool refuse(const Inode& inode, uint64_t offset, uint64_t size, pid_t thread);

 private:
  struct Range {
    uint64_t begin;
    uint64_t end;
    pid_t thread;
    uint64_t refused_at_ns;
  };
  struct Change {
    uint64_t settled_at_ns = 0;  // 0: its pages were not dropped yet
    std::unordered_set<pid_t> revalidated;
    std::deque<Range> refused;
  };
  static constexpr size_t kMaximumChanges = 1024;
  static constexpr size_t kMaximumRanges = 256;
  static constexpr size_t kMaximumThreads = 65'536;

  Change& change_of_locked(const Inode& inode);

  const Clock& clock_;
  std::mutex mutex_;
  std::unordered_map<shm::Handle, Change> changes_;
};

}  // namespace cached::mount
