// The mount table and what a mount point must be.
#include "mount/kernel_tuning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace cached::mount {
namespace {

constexpr const char* kMountinfo =
    "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
    "31 22 0:40 / /mnt/with\\040space ro,nosuid,nodev shared:9 master:1 - fuse.cached cached:vol "
    "ro,user_id=0\n"
    "32 22 0:41 / /mnt/plain ro - fuse.cached cached:one ro\n"
    "33 32 0:42 / /mnt/plain rw - tmpfs tmpfs rw\n"
    "garbage\n";

TEST(Mountinfo, FindsTheUppermostMount) {
  EXPECT_EQ(find_mount(kMountinfo, "/mnt/plain")->type, "tmpfs");
  EXPECT_EQ(find_mount(kMountinfo, "/mnt/plain")->device, "0:42");
  EXPECT_EQ(find_mount(kMountinfo, "/")->type, "ext4");
  EXPECT_FALSE(find_mount(kMountinfo, "/mnt").has_value());
}

TEST(Mountinfo, UndoesEscapes) {
  const std::optional<MountEntry> entry = find_mount(kMountinfo, "/mnt/with space");
  ASSERT_TRUE(entry.has_value());
  EXPECT_EQ(entry->type, "fuse.cached");
  EXPECT_EQ(entry->source, "cached:vol");
}

class MountpointTest : public ::testing::Test {
 protected:
  MountpointTest() {
    char name[] = "/tmp/cached_mountpoint_XXXXXX";
    folder_ = std::filesystem::canonical(::mkdtemp(name)).string();
  }
  ~MountpointTest() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(MountpointTest, ResolvesDirectoriesAndLinks) {
  std::filesystem::create_directory_symlink(folder_, folder_ + "/link");
  EXPECT_EQ(*check_mountpoint(folder_), folder_);
  EXPECT_EQ(*check_mountpoint(folder_ + "//"), folder_);
  EXPECT_EQ(*check_mountpoint(folder_ + "/link/"), folder_);
  EXPECT_EQ(*check_mountpoint(folder_ + "/link/."), folder_);
  EXPECT_EQ(*check_mountpoint("/"), "/");
}

TEST_F(MountpointTest, SaysWhatIsWrong) {
  std::ofstream(folder_ + "/file") << "x";
  EXPECT_EQ(check_mountpoint(folder_ + "/file").error_number(), ENOTDIR);
  const Result<std::string> missing = check_mountpoint(folder_ + "/missing");
  EXPECT_EQ(missing.error_number(), ENOENT);
  EXPECT_THAT(missing.status().message(), ::testing::HasSubstr("/missing"));
  EXPECT_EQ(check_mountpoint(folder_ + "/missing/deeper").error_number(), ENOENT);
}

}  // namespace
}  // namespace cached::mount
