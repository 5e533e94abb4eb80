// What the daemon tells of changes at the source: records that this mount was given are not right any more,
// and the kernel may have been told of them with a long timeout.
//
// The thread that brings a notice only marks what is known here as outdated, which costs a look-up. The
// kernel is told by the invalidator, because for that it may wait for requests under way (invalidator.h).
// What the kernel is told after the mark was set carries no timeout unless it was validated after the change,
// and what it was told before is in its caches when the invalidator comes to it: to take a name out it waits
// for the look-ups under way in that directory.
//
// A name is found by its inode, which knows one name: where hard links were found by several, the others live
// for their timeout. To find the names of a directory all inodes are looked at, in one go for all directories
// of a packet.
#include <unordered_set>

#include "base/log.h"
#include "mount/operations.h"

namespace cached::mount {

// On the client's thread: must not wait.
void Operations::take_notices(const std::vector<shm::Notice>& notices) {
  std::vector<shm::Handle> directories;
  for (const shm::Notice& notice : notices) {
    if (notice.kind == shm::NoticeKind::kEverything) {
      name_changes_.all_changed(notice.told_at_ns);
      invalidator_.run_later([this, told_at_ns = notice.told_at_ns] { outdate_everything(told_at_ns); });
      continue;
    }
    if (notice.kind == shm::NoticeKind::kEntries) {
      name_changes_.changed(notice.handle, notice.told_at_ns);
      directories.push_back(notice.handle);
    }
    if (Inode* const inode = inodes_.find(notice.handle); inode != nullptr) {
      outdate(inode, notice.told_at_ns);
      inodes_.release(inode);
    }
  }
  if (directories.empty()) return;
  invalidator_.run_later([this, changed = std::move(directories)] { forget_names(changed); });
}

void Operations::outdate(Inode* inode, uint64_t told_at_ns) {
  inode->outdate(told_at_ns);
  inodes_.retain(inode);
  invalidator_.run_later([this, inode] {
    expire(inode);
    if (!S_ISDIR(inode->attributes().mode)) forget_place(inode);
    inodes_.release(inode);
  });
}

// On the invalidator's thread, as all below.
void Operations::outdate_everything(uint64_t told_at_ns) {
  inodes_.for_each([&](Inode* inode) {
    inode->outdate(told_at_ns);
    expire(inode);
    forget_place(inode);
  });
  forget_names(name_changes_.directories_of_remembered());
}

void Operations::expire(Inode* inode) {
  notify_kernel(inodes_.nodeid(inode), Invalidator::Scope::kAttributes);
}

void Operations::forget_place(Inode* inode) {
  std::string name;
  Inode* const parent = inodes_.place_of(inode, &name);
  if (parent == nullptr) return;
  forget_name(inodes_.nodeid(parent), name);
  inodes_.release(parent);
}

void Operations::forget_names(const std::vector<shm::Handle>& directories) {
  std::unordered_set<Inode*> changed;
  for (const shm::Handle& handle : directories) {
    Inode* const directory = inodes_.find(handle);
    const std::vector<std::string> remembered = name_changes_.take(handle);
    if (directory == nullptr) continue;
    for (const std::string& name : remembered) forget_name(inodes_.nodeid(directory), name);
    if (!changed.insert(directory).second) inodes_.release(directory);
  }
  std::string name;
  inodes_.for_each([&](Inode* inode) {
    Inode* const parent = inodes_.place_of(inode, &name);
    if (parent == nullptr) return;
    if (changed.contains(parent)) forget_name(inodes_.nodeid(parent), name);
    inodes_.release(parent);
  });
  for (Inode* const directory : changed) inodes_.release(directory);
}

void Operations::forget_name(uint64_t parent_nodeid, const std::string& name) {
  const int error = fuse_lowlevel_notify_inval_entry(session_, parent_nodeid, name.data(), name.size());
  // ENOENT: the kernel does not know that name.
  if (error != 0 && error != -ENOENT) log_debug("invalidation of a name: {}", std::strerror(-error));
}

}  // namespace cached::mount
