// `cachedctl device`: what is made ready, and above all what is refused and left as it was.
#include "cached/ctl/device_tools.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "cached/io/file_device.h"

namespace cached::ctl {
namespace {

using ssd_tier::DeviceContent;
using testing::HasSubstr;

constexpr uint64_t kSizeBytes = 16 * kMiB;

class DeviceTools : public testing::Test {
 protected:
  DeviceTools() {
    std::string name = "/tmp/cached_device_test.XXXXXX";
    directory_ = ::mkdtemp(name.data());
    path_ = directory_ + "/ssd";
  }
  ~DeviceTools() override { std::filesystem::remove_all(directory_); }

  Status init(uint64_t size_bytes, bool force = false) {
    return init_device({.path = path_, .size_bytes = size_bytes, .force = force}).status();
  }
  // Puts `content` at the start of a sparse file.
  void make_file(const std::string& content) {
    std::ofstream(path_) << content;
    std::filesystem::resize_file(path_, kSizeBytes);
  }
  std::string first_bytes(size_t count) const {
    std::string bytes(count, '\0');
    std::ifstream(path_).read(bytes.data(), static_cast<std::streamsize>(count));
    return bytes;
  }
  ssd_tier::Inspection inspect() const {
    const Result<ssd_tier::Inspection> inspection = inspect_device_at(path_, false);
    EXPECT_TRUE(inspection.ok()) << inspection.status().message();
    return inspection.ok() ? *inspection : ssd_tier::Inspection();
  }

  std::string directory_;
  std::string path_;
};

TEST_F(DeviceTools, MissingFileIsCreatedAllocatedAndReady) {
  const Status status = init(kSizeBytes);
  ASSERT_TRUE(status.ok()) << status.message();
  struct stat attributes {};
  ASSERT_EQ(::stat(path_.c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_size, static_cast<off_t>(kSizeBytes));
  EXPECT_GE(attributes.st_blocks * 512, static_cast<off_t>(kSizeBytes));
  const ssd_tier::Inspection inspection = inspect();
  EXPECT_EQ(inspection.survey.content, DeviceContent::kOurs);
  EXPECT_EQ(inspection.survey.superblock.layout.capacity_bytes, kSizeBytes);
  EXPECT_EQ(inspection.total.records, 0U);
}

TEST_F(DeviceTools, MissingFileNeedsASize) {
  const Status status = init(0);
  EXPECT_EQ(status.error_number(), EINVAL);
  EXPECT_THAT(status.message(), HasSubstr("--size"));
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(DeviceTools, BlankFileIsTakenAsItIsOrGrown) {
  make_file("");
  ASSERT_TRUE(init(0).ok());
  EXPECT_EQ(inspect().survey.superblock.layout.capacity_bytes, kSizeBytes);
  std::filesystem::remove(path_);
  make_file("");
  ASSERT_TRUE(init(2 * kSizeBytes).ok());
  EXPECT_EQ(inspect().survey.superblock.layout.capacity_bytes, 2 * kSizeBytes);
}

TEST_F(DeviceTools, ForeignContentIsRefusedAndLeftAlone) {
  make_file("precious");
  const Status status = init(2 * kSizeBytes);
  EXPECT_EQ(status.error_number(), EEXIST);
  EXPECT_THAT(status.message(), HasSubstr("--force"));
  EXPECT_EQ(first_bytes(8), "precious");
  EXPECT_EQ(std::filesystem::file_size(path_), kSizeBytes) << "not grown either";
  EXPECT_EQ(inspect().survey.content, DeviceContent::kForeign);
}

TEST_F(DeviceTools, ForeignContentGoesByForce) {
  make_file("precious");
  ASSERT_TRUE(init(0, true).ok());
  EXPECT_EQ(inspect().survey.content, DeviceContent::kOurs);
}

TEST_F(DeviceTools, FileSystemIsNamed) {
  make_file(std::string(1080, '\0') + "\x53\xef");
  EXPECT_THAT(init(0).message(), HasSubstr("holds an ext4 file system"));
}

TEST_F(DeviceTools, CacheIsEmptiedOnlyByForce) {
  ASSERT_TRUE(init(kSizeBytes).ok());
  const ssd_tier::Uuid uuid = inspect().survey.superblock.uuid;
  const Status status = init(0);
  EXPECT_EQ(status.error_number(), EEXIST);
  EXPECT_THAT(status.message(), HasSubstr("a cache already, " + to_string(uuid)));
  EXPECT_EQ(inspect().survey.superblock.uuid, uuid);
  ASSERT_TRUE(init(0, true).ok());
  EXPECT_NE(inspect().survey.superblock.uuid, uuid);
}

TEST_F(DeviceTools, DeviceInUseIsRefusedEvenByForceAndCanBeInspected) {
  ASSERT_TRUE(init(kSizeBytes).ok());
  const ssd_tier::Uuid uuid = inspect().survey.superblock.uuid;
  const Result<std::unique_ptr<io::FileDevice>> user =
      io::FileDevice::open(path_, io::FileDevice::Access::kReadWrite);
  ASSERT_TRUE(user.ok()) << user.status().message();
  const Status status = init(0, true);
  EXPECT_EQ(status.error_number(), EBUSY);
  EXPECT_THAT(status.message(), HasSubstr("in use"));
  EXPECT_EQ(init(2 * kSizeBytes, true).error_number(), EBUSY);
  EXPECT_EQ(std::filesystem::file_size(path_), kSizeBytes) << "not grown either";
  EXPECT_EQ(inspect().survey.superblock.uuid, uuid);
}

TEST_F(DeviceTools, FileIsNotMadeSmaller) {
  make_file("");
  EXPECT_EQ(init(kSizeBytes - 1).error_number(), EINVAL);
  EXPECT_EQ(std::filesystem::file_size(path_), kSizeBytes);
}

TEST_F(DeviceTools, WhatIsNoDeviceIsRefused) {
  for (const std::string& path : {directory_, std::string("/dev/null")}) {
    EXPECT_EQ(init_device({.path = path, .size_bytes = 0, .force = true}).error_number(), EINVAL) << path;
    EXPECT_FALSE(inspect_device_at(path, false).ok());
  }
}

TEST_F(DeviceTools, NothingIsCreatedBelowDev) {
  const Status status =
      init_device({.path = "/dev/nvme77n1", .size_bytes = kSizeBytes, .force = true}).status();
  EXPECT_EQ(status.error_number(), ENOENT);
  EXPECT_FALSE(std::filesystem::exists("/dev/nvme77n1"));
}

TEST_F(DeviceTools, FileThatIsTooSmallIsRefused) {
  std::ofstream(path_) << "";
  std::filesystem::resize_file(path_, kSizeBytes - 4096);
  EXPECT_EQ(init(0).error_number(), ENOSPC);
}

}  // namespace
}  // namespace cached::ctl
