// What was told lately about names: which directories changed, and which names the kernel believes in that no
// inode leads to.
//
// The name of an inode is found again by the inode (inode_table.h), which knows one. For names that do not
// exist, and for those of inodes with several names, there is nothing but what is kept here, until the kernel
// stops to believe it. Beyond kMaximumNames the kernel is asked to believe in no more.
//
// A lookup may be answered with what was known before a change and reach the kernel after it was told of the
// change. So a name that was validated before the last change of its directory is told with no timeout.
// kMaximumDirectories are remembered one by one; when there are more, all count as changed.
//
// Any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "shm/types.h"

namespace cached::mount {

class NameChanges {
 public:
  static constexpr size_t kMaximumDirectories = 4096;
  static constexpr size_t kMaximumNames = 65'536;

  explicit NameChanges(const Clock& clock = system_clock()) : clock_(clock) {}

  // Names in `directory` changed before `told_at_ns`.
  void changed(const shm::Handle& directory, uint64_t told_at_ns);
  // Names in any directory did.
  void all_changed(uint64_t told_at_ns);
  // Whether what was validated at `validated_at_ns` about a name in `directory` may be believed.
  bool is_current(const shm::Handle& directory, uint64_t validated_at_ns) const;

  // The kernel is about to be told of `name`, and believes it for `timeout_ns`. False: there is no room, and
  // it must not believe it at all.
  bool remember(const shm::Handle& directory, std::string name, uint64_t timeout_ns);
  // The names that are remembered of a directory, which are forgotten here.
  std::vector<std::string> take(const shm::Handle& directory);
  // Directories that have any.
  std::vector<shm::Handle> directories_of_remembered() const;

 private:
  using Names = std::unordered_map<std::string, uint64_t>;  // until when
  void drop_expired_locked();

  const Clock& clock_;
  mutable std::mutex mutex_;  // guards all below
  uint64_t all_changed_at_ns_ = 0;
  std::unordered_map<shm::Handle, uint64_t> changed_at_ns_;
  std::unordered_map<shm::Handle, Names> names_;
  size_t name_count_ = 0;
};

}  // namespace cached::mount
