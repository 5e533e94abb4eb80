// What a user of the control socket may do with a file: the kernel's rules of permission, for a daemon that
// has every right and must not lend them.
#pragma once

#include <sys/types.h>

#include <string_view>
#include <vector>

#include "shm/types.h"

namespace cached::dataset {

// Who asks, by SO_PEERCRED and SO_PEERGROUPS.
struct Caller {
  bool everything = false;  // root and the daemon's own uid
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups = {};  // supplementary
};

enum Permission : unsigned { kExecute = 1, kWrite = 2, kRead = 4 };

// Whether the answer needs the file's ACL: not for its owner, nor where the mode says it all.
bool needs_acl(const Caller& caller, const shm::InodeInfo& inode);

// Whether `caller` has all of `wanted` (of Permission). `acl` is the value of system.posix_acl_access as
// getxattr(2) gives it, empty if the file has none; one that is damaged grants nothing.
bool may_access(const Caller& caller, const shm::InodeInfo& inode, std::string_view acl, unsigned wanted);

}  // namespace cached::dataset
