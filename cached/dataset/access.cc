// Permissions as the kernel's generic_permission() and posix_acl_permission() judge them: see access.h.
#include "cached/dataset/access.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>

namespace cached::dataset {
namespace {

constexpr uint32_t kAclVersion = 2;
enum AclTag : uint16_t {
  kUserObject = 0x01,
  kUser = 0x02,
  kGroupObject = 0x04,
  kGroup = 0x08,
  kMask = 0x10,
  kOther = 0x20,
};
struct AclEntry {
  uint16_t tag;
  uint16_t permissions;
  uint32_t id;
};
static_assert(sizeof(AclEntry) == 8);

bool in_group(const Caller& caller, gid_t gid) {
  return caller.gid == gid || std::ranges::find(caller.groups, gid) != caller.groups.end();
}

bool grants(unsigned permissions, unsigned wanted) {
  return (permissions & wanted) == wanted;
}

// Nothing if it is not such a value.
std::optional<std::vector<AclEntry>> parse_acl(std::string_view value) {
  uint32_t version = 0;
  if (value.size() < sizeof version || (value.size() - sizeof version) % sizeof(AclEntry) != 0)
    return std::nullopt;
  std::memcpy(&version, value.data(), sizeof version);
  if (version != kAclVersion) return std::nullopt;
  value.remove_prefix(sizeof version);
  std::vector<AclEntry> entries(value.size() / sizeof(AclEntry));
  std::memcpy(entries.data(), value.data(), value.size());
  return entries;
}

// Entries stand in the order of their tags, as the kernel writes them.
bool acl_grants(const Caller& caller, const shm::InodeInfo& inode, const std::vector<AclEntry>& entries,
                unsigned wanted) {
  const auto mask = std::ranges::find(entries, kMask, &AclEntry::tag);
  const unsigned masked = mask == entries.end() ? kRead | kWrite | kExecute : mask->permissions;
  bool group_matched = false;
  for (const AclEntry& entry : entries) {
    const bool group_entry = (entry.tag == kGroupObject && in_group(caller, inode.gid)) ||
                             (entry.tag == kGroup && in_group(caller, entry.id));
    if (entry.tag == kUserObject && caller.uid == inode.uid) return grants(entry.permissions, wanted);
    if (entry.tag == kUser && caller.uid == entry.id) return grants(entry.permissions & masked, wanted);
    if (group_entry) {
      group_matched = true;
      if (grants(entry.permissions, wanted)) return grants(entry.permissions & masked, wanted);
    }
    if (entry.tag == kOther) return !group_matched && grants(entry.permissions, wanted);
  }
  return false;
}

}  // namespace

bool needs_acl(const Caller& caller, const shm::InodeInfo& inode) {
  return !caller.everything && caller.uid != inode.uid && (inode.mode & S_IRWXG) != 0 &&
         (inode.flags & shm::kInodeNoXattrs) == 0;
}

bool may_access(const Caller& caller, const shm::InodeInfo& inode, std::string_view acl, unsigned wanted) {
  if (caller.everything) return true;
  if (caller.uid == inode.uid) return grants(inode.mode >> 6, wanted);
  if (!acl.empty() && (inode.mode & S_IRWXG) != 0) {
    const auto entries = parse_acl(acl);
    return entries && acl_grants(caller, inode, *entries, wanted);
  }
  return grants(in_group(caller, inode.gid) ? inode.mode >> 3 : inode.mode, wanted);
}

}  // namespace cached::dataset
