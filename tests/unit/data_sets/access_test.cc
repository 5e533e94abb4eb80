// Permissions of a caller, with and without ACLs, as the kernel judges them.
#include "cached/dataset/access.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace cached::dataset {
namespace {

constexpr uint16_t kUserObject = 1, kUser = 2, kGroupObject = 4, kGroup = 8, kMask = 0x10, kOther = 0x20;

shm::InodeInfo inode_of(uint32_t mode) {
  shm::InodeInfo inode;
  inode.mode = mode;
  inode.uid = 100;
  inode.gid = 200;
  return inode;
}

struct Entry {
  uint16_t tag;
  uint16_t permissions;
  uint32_t id = UINT32_MAX;
};
std::string acl_of(std::initializer_list<Entry> entries) {
  const uint32_t version = 2;
  std::string value(reinterpret_cast<const char*>(&version), sizeof version);
  for (const Entry& entry : entries) value.append(reinterpret_cast<const char*>(&entry), sizeof entry);
  return value;
}

Caller user(uid_t uid, gid_t gid, std::vector<gid_t> groups = {}) {
  return {false, uid, gid, std::move(groups)};
}

TEST(Access, TheOwnersBitsCountForTheOwnerEvenIfOthersHaveMore) {
  EXPECT_FALSE(may_access(user(100, 200), inode_of(0044), "", kRead));
  EXPECT_TRUE(may_access(user(100, 1), inode_of(0400), "", kRead));
}

TEST(Access, TheGroupsBitsCountForItsMembersEvenIfOthersHaveMore) {
  EXPECT_FALSE(may_access(user(1, 200), inode_of(0604), "", kRead));
  EXPECT_TRUE(may_access(user(1, 2, {7, 200}), inode_of(0640), "", kRead));
  EXPECT_FALSE(may_access(user(1, 2, {7}), inode_of(0640), "", kRead));
}

TEST(Access, AllWantedPermissionsAreNeeded) {
  EXPECT_FALSE(may_access(user(1, 2), inode_of(0744), "", kRead | kExecute));
  EXPECT_TRUE(may_access(user(1, 2), inode_of(0745), "", kRead | kExecute));
}

TEST(Access, AnOperatorMayDoEverything) {
  EXPECT_TRUE(may_access({.everything = true}, inode_of(0), "", kRead));
}

TEST(Access, AnAclsNamedUserIsMasked) {
  const std::string acl =
      acl_of({{kUserObject, 6}, {kUser, 4, 55}, {kGroupObject, 0}, {kMask, 4}, {kOther, 0}});
  EXPECT_TRUE(may_access(user(55, 1), inode_of(0640), acl, kRead));
  EXPECT_FALSE(may_access(user(56, 1), inode_of(0640), acl, kRead));
  const std::string masked =
      acl_of({{kUserObject, 6}, {kUser, 4, 55}, {kGroupObject, 0}, {kMask, 1}, {kOther, 0}});
  EXPECT_FALSE(may_access(user(55, 1), inode_of(0610), masked, kRead));
}

TEST(Access, TheGroupBitsOfAFileWithAnAclAreItsMaskAndNotItsGroups) {
  // ls shows rw-r-----, and yet the owning group has nothing.
  const std::string acl =
      acl_of({{kUserObject, 6}, {kUser, 4, 55}, {kGroupObject, 0}, {kMask, 4}, {kOther, 0}});
  EXPECT_FALSE(may_access(user(1, 200), inode_of(0640), acl, kRead));
}

TEST(Access, AMemberOfAnAclsGroupIsNotTakenForOthers) {
  const std::string acl =
      acl_of({{kUserObject, 6}, {kGroupObject, 0}, {kGroup, 1, 9}, {kMask, 7}, {kOther, 4}});
  EXPECT_FALSE(may_access(user(1, 9), inode_of(0674), acl, kRead));
  EXPECT_TRUE(may_access(user(1, 10), inode_of(0674), acl, kRead));
}

TEST(Access, ADamagedAclGrantsNothing) {
  std::string acl = acl_of({{kUserObject, 6}, {kGroupObject, 4}, {kOther, 4}});
  acl.pop_back();
  EXPECT_FALSE(may_access(user(1, 200), inode_of(0644), acl, kRead));
  EXPECT_FALSE(may_access(user(1, 200), inode_of(0644), "x", kRead));
}

TEST(Access, AnAclIsAskedForOnlyWhereItCanMatter) {
  EXPECT_FALSE(needs_acl({.everything = true}, inode_of(0640)));
  EXPECT_FALSE(needs_acl(user(100, 1), inode_of(0640)));
  EXPECT_FALSE(needs_acl(user(1, 1), inode_of(0604)));
  EXPECT_TRUE(needs_acl(user(1, 1), inode_of(0640)));
  shm::InodeInfo plain = inode_of(0640);
  plain.flags = shm::kInodeNoXattrs;
  EXPECT_FALSE(needs_acl(user(1, 1), plain));
}

}  // namespace
}  // namespace cached::dataset
