// The table of mounts: parsing, and finding the mount under a path.
#include "cached/config/mount_table.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

namespace cached {
namespace {

constexpr const char* kTable =
    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
    "30 22 0:40 / /mnt/my\\040data rw shared:5 master:2 - fuse.cached cached rw\n"
    "31 22 0:41 / /mnt/data rw - nfs4 server:/x rw\n"
    "not a line\n"
    "32 31 0:42 / /mnt/data rw - fuse.cached cached rw\n";

TEST(MountTable, IsParsed) {
  const std::vector<MountEntry> mounts = parse_mount_table(kTable);
  ASSERT_EQ(mounts.size(), 4U);
  EXPECT_EQ(mounts[1].id, 30U);
  EXPECT_EQ(mounts[1].mount_point, "/mnt/my data");
  EXPECT_EQ(mounts[1].filesystem_type, "fuse.cached");
  EXPECT_EQ(mounts[0].device, makedev(254, 0));
}

TEST(MountTable, MountOfAPathIsTheDeepestAndTheLast) {
  const std::vector<MountEntry> mounts = parse_mount_table(kTable);
  EXPECT_EQ(mount_of_path(mounts, "/mnt/my data/a")->id, 30U);
  EXPECT_EQ(mount_of_path(mounts, "/mnt/data")->id, 32U);
  EXPECT_EQ(mount_of_path(mounts, "/mnt/database")->id, 22U);
  EXPECT_EQ(mount_of_path({}, "/mnt"), nullptr);
}

TEST(MountTable, MountOfABlockDeviceIsFound) {
  const std::vector<MountEntry> mounts = parse_mount_table(kTable);
  EXPECT_EQ(mount_of_device(mounts, makedev(254, 0))->mount_point, "/");
  EXPECT_EQ(mount_of_device(mounts, makedev(254, 1)), nullptr);
}

}  // namespace
}  // namespace cached
