// What the daemon tells of changes at the source: records that this mount was given are not right any more,
// and the kernel may have been told of them with a long timeout.
//
// Attributes: the inode is marked as outdated, so that nothing older is told from then on without being asked
// for again, and the invalidator makes the kernel forget what it was told before. A changed directory's
// listings go with that.
//
// Names are not taken out of the kernel. To do that it locks the directory, for which it waits for the
// look-ups under way there, whose replies may wait for the invalidator, or for the daemon; and nothing ends
// that wait if this process is killed in it. So where changes are told, the kernel believes in a name for
// kToldNameTimeoutNs only, and asks again here, where the shared table answers from which the daemon took the
// name out.
#include "mount/operations.h"

namespace cached::mount {

// On the client's thread: must not wait.
void Operations::take_notices(const std::vector<shm::Notice>& notices) {
  for (const shm::Notice& notice : notices) {
    if (notice.kind == shm::NoticeKind::kEverything) {
      inodes_.for_each([&](Inode* inode) { outdate(inode, notice.told_at_ns); });
    } else if (Inode* const inode = inodes_.find(notice.handle); inode != nullptr) {
      outdate(inode, notice.told_at_ns);
      inodes_.release(inode);
    }
  }
}

void Operations::outdate(Inode* inode, uint64_t told_at_ns) {
  inode->outdate(told_at_ns);
  invalidator_.expire_attributes(inode, std::chrono::milliseconds{0});
}

}  // namespace cached::mount
