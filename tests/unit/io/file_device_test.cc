// Tests of block devices and files: opening, refusing, locking, allocating.
#include "cached/io/file_device.h"

#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <chrono>
#include <optional>
#include <thread>

#include "base/units.h"
#include "tests/unit/io/device_fixture.h"

namespace cached::io {
namespace {

using Access = FileDevice::Access;
constexpr auto kPatience = std::chrono::seconds(30);

std::unique_ptr<FileDevice> open_device(const std::string& path, Access access = Access::kReadWrite) {
  Result<std::unique_ptr<FileDevice>> opened = FileDevice::open(path, access);
  EXPECT_TRUE(opened.ok()) << opened.status().message();
  return opened.ok() ? std::move(opened).value() : nullptr;
}

Status open_status(const std::string& path, Access access = Access::kReadWrite) {
  return FileDevice::open(path, access).status();
}

// Opens it for writing, while somebody else may have it for a moment.
std::unique_ptr<FileDevice> open_when_free(const std::string& path) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (open_status(path).error_number() == EBUSY && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return open_device(path);
}

struct stat attributes_of(const std::string& path) {
  struct stat attributes {};
  EXPECT_EQ(::stat(path.c_str(), &attributes), 0);
  return attributes;
}

uint64_t allocated_bytes(const std::string& path) {
  return static_cast<uint64_t>(attributes_of(path).st_blocks) * 512;
}

void make_sparse(const std::string& path, uint64_t size_bytes) {
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  EXPECT_EQ(::ftruncate(file.get(), static_cast<off_t>(size_bytes)), 0);
}

class FileDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!directory_.has_direct_io()) GTEST_SKIP() << directory_.path() << " has no direct I/O";
  }
  std::string make_file(uint64_t size_bytes = kMiB) {
    const std::string path = directory_.file("device");
    const Status made = preallocate_file(path, size_bytes);
    EXPECT_TRUE(made.ok()) << made.message();
    return path;
  }
  const TestDirectory directory_;
};

TEST_F(FileDeviceTest, CapacityIsTheFilesSizeInWholeBlocks) {
  const auto device = open_device(make_file(kMiB + 100));
  EXPECT_EQ(device->geometry().capacity_bytes, kMiB);
  const uint32_t block_bytes = device->geometry().block_bytes;
  EXPECT_TRUE(block_bytes >= 512 && block_bytes <= 4096) << block_bytes;
  EXPECT_EQ(device->path(), directory_.file("device"));
}

TEST_F(FileDeviceTest, BlocksOfTheSizeThatItTellsAreAccepted) {
  const auto device = open_device(make_file());
  const size_t block_bytes = device->geometry().block_bytes;
  write_text(*device, device_text(block_bytes), 3 * block_bytes);
  EXPECT_EQ(text_of(*device, 3 * block_bytes, block_bytes), device_text(block_bytes));
}

TEST_F(FileDeviceTest, SecondWriterIsRefusedWithAReason) {
  const std::string path = make_file();
  auto first = open_device(path);
  const Status second = open_status(path);
  EXPECT_EQ(second.error_number(), EBUSY);
  EXPECT_NE(second.message().find(path), std::string::npos) << second.message();
  EXPECT_NE(second.message().find("unfinished I/O of a daemon that died"), std::string::npos);
  first.reset();
  EXPECT_TRUE(open_status(path).ok());
}

TEST_F(FileDeviceTest, ReaderMayLookWhileAnotherWrites) {
  const std::string path = make_file();
  const auto writer = open_device(path);
  write_text(*writer, device_text(4096), 0);
  const auto reader = open_device(path, Access::kReadOnly);
  EXPECT_EQ(text_of(*reader, 0, 4096), device_text(4096));
}

TEST_F(FileDeviceTest, ReaderCannotWrite) {
  const auto reader = open_device(make_file(), Access::kReadOnly);
  const Memory memory(4096);
  EXPECT_EQ(reader->write_blocking(memory.data(), 4096, 0).error_number(), EBADF);
}

TEST_F(FileDeviceTest, RingThatHoldsTheFileKeepsItLocked) {
  for (const bool plain_ring : {false, true}) {
    const std::string path = make_file();
    auto reactor = make_reactor(Reactor::Options{.name = "holder", .plain_ring = plain_ring});
    reactor->start();
    auto device = open_when_free(path);
    ASSERT_NE(device, nullptr);
    reactor->post([&] { device->attach(*reactor); });
    settle(*reactor);
    device.reset();  // closes the descriptor, as the end of a process would
    EXPECT_EQ(open_status(path).error_number(), EBUSY);
    reactor.reset();
    EXPECT_NE(open_when_free(path), nullptr);
  }
}

TEST_F(FileDeviceTest, DetachedFileIsUnlockedWhenItIsClosed) {
  const std::string path = make_file();
  const auto reactor = make_reactor(Reactor::Options{.name = "holder"});
  reactor->start();
  auto device = open_device(path);
  reactor->post([&] {
    device->attach(*reactor);
    device->detach(*reactor);
  });
  settle(*reactor);
  device.reset();
  EXPECT_NE(open_when_free(path), nullptr);
}

TEST_F(FileDeviceTest, TruncatedFileReadsShort) {
  const std::string path = make_file();
  const auto device = open_device(path);
  ASSERT_EQ(::truncate(path.c_str(), 4096), 0);
  const auto reactor = make_reactor(Reactor::Options{.name = "test"});
  reactor->start();
  const Memory memory(8192);
  EXPECT_EQ(readv_on(*reactor, *device, {memory.whole()}, 0), 4096);
  EXPECT_EQ(readv_on(*reactor, *device, {memory.whole()}, 8192), 0);
  EXPECT_EQ(text_of(*device, 0, 8192).size(), 4096U);
}

TEST_F(FileDeviceTest, HolesAreAllocatedWhenItIsOpenedForWriting) {
  const std::string path = directory_.file("sparse");
  make_sparse(path, kMiB);
  ASSERT_LT(allocated_bytes(path), kMiB);
  open_device(path, Access::kReadOnly);
  EXPECT_LT(allocated_bytes(path), kMiB);
  open_device(path);
  EXPECT_GE(allocated_bytes(path), kMiB);
  EXPECT_EQ(static_cast<uint64_t>(attributes_of(path).st_size), kMiB);
}

TEST_F(FileDeviceTest, MissingFileIsAnError) {
  const Status status = open_status(directory_.file("missing"));
  EXPECT_EQ(status.error_number(), ENOENT);
  EXPECT_NE(status.message().find("missing"), std::string::npos) << status.message();
}

TEST_F(FileDeviceTest, EmptyFileIsRefused) {
  make_sparse(directory_.file("empty"), 0);
  EXPECT_EQ(open_status(directory_.file("empty")).error_number(), EINVAL);
}

TEST_F(FileDeviceTest, WhatIsNeitherFileNorBlockDeviceIsRefused) {
  const std::string fifo = directory_.file("fifo");
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  for (const std::string& path : {directory_.path(), fifo, std::string("/dev/null")}) {
    const Status status = open_status(path, Access::kReadOnly);
    EXPECT_EQ(status.error_number(), EINVAL) << path;
    EXPECT_NE(status.message().find("neither a block device nor a regular file"), std::string::npos);
  }
}

TEST_F(FileDeviceTest, FileSystemWithoutDirectIoIsRefusedWithAReason) {
  const Status status = open_status("/proc/version", Access::kReadOnly);
  EXPECT_EQ(status.error_number(), EINVAL);
  EXPECT_NE(status.message().find("cannot do direct I/O"), std::string::npos) << status.message();
}

// A loop device over a file; not there where the process may not make one.
class LoopDevice {
 public:
  explicit LoopDevice(const std::string& file) {
    const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    const int number = control.valid() ? ::ioctl(control.get(), LOOP_CTL_GET_FREE) : -1;
    if (number < 0) return;
    path_ = "/dev/loop" + std::to_string(number);
    const UniqueFd backing(::open(file.c_str(), O_RDWR | O_CLOEXEC));
    fd_.reset(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
    loop_config configuration{};
    configuration.fd = static_cast<__u32>(backing.get());
    configuration.block_size = 512;
    if (fd_.valid() && ::ioctl(fd_.get(), LOOP_CONFIGURE, &configuration) != 0) fd_.reset();
  }
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;
  ~LoopDevice() {
    if (fd_.valid()) ::ioctl(fd_.get(), LOOP_CLR_FD);
  }
  bool exists() const { return fd_.valid(); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  UniqueFd fd_;
};

TEST_F(FileDeviceTest, BlockDeviceIsUsedAtItsOwnSize) {
  const LoopDevice loop(make_file(kMiB + 512));
  if (!loop.exists()) GTEST_SKIP() << "cannot make a loop device";
  const auto device = open_when_free(loop.path());
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(device->geometry().block_bytes, 512U);
  EXPECT_EQ(device->geometry().capacity_bytes, kMiB + 512);
  write_text(*device, device_text(1024), kMiB - 512);
  EXPECT_EQ(text_of(*device, kMiB - 512, 1024), device_text(1024));
  EXPECT_TRUE(device->sync_blocking().ok());
}

TEST_F(FileDeviceTest, BlockDeviceHasOneWriter) {
  const LoopDevice loop(make_file());
  if (!loop.exists()) GTEST_SKIP() << "cannot make a loop device";
  const auto device = open_when_free(loop.path());
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(open_status(loop.path()).error_number(), EBUSY);
  EXPECT_TRUE(open_status(loop.path(), Access::kReadOnly).ok());
}

TEST_F(FileDeviceTest, BlockDeviceThatIsClaimedByTheKernelIsRefused) {
  const LoopDevice loop(make_file());
  if (!loop.exists()) GTEST_SKIP() << "cannot make a loop device";
  const UniqueFd claim(::open(loop.path().c_str(), O_RDWR | O_EXCL | O_CLOEXEC));
  ASSERT_TRUE(claim.valid());
  EXPECT_EQ(open_status(loop.path()).error_number(), EBUSY);
}

TEST(PreallocateFile, MakesAPrivateFileOfThatSize) {
  const TestDirectory directory;
  const std::string path = directory.file("device");
  ASSERT_TRUE(preallocate_file(path, kMiB).ok());
  const struct stat attributes = attributes_of(path);
  EXPECT_EQ(attributes.st_mode & 07777U, 0600U);
  EXPECT_EQ(static_cast<uint64_t>(attributes.st_size), kMiB);
  EXPECT_GE(allocated_bytes(path), kMiB);
}

TEST(PreallocateFile, FillsHolesOfAFileAndKeepsWhatItHolds) {
  const TestDirectory directory;
  const std::string path = directory.file("device");
  make_sparse(path, kMiB);
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(::pwrite(file.get(), "kept", 4, 5000), 4);
  ASSERT_TRUE(preallocate_file(path, 2 * kMiB).ok());
  EXPECT_GE(allocated_bytes(path), 2 * kMiB);
  char bytes[4];
  ASSERT_EQ(::pread(file.get(), bytes, 4, 5000), 4);
  EXPECT_EQ(std::string(bytes, 4), "kept");
}

TEST(PreallocateFile, NeverShrinksAFile) {
  const TestDirectory directory;
  const std::string path = directory.file("device");
  ASSERT_TRUE(preallocate_file(path, 2 * kMiB).ok());
  EXPECT_EQ(preallocate_file(path, kMiB).error_number(), EEXIST);
  EXPECT_EQ(static_cast<uint64_t>(attributes_of(path).st_size), 2 * kMiB);
}

TEST(PreallocateFile, RefusesAnEmptyFile) {
  const TestDirectory directory;
  EXPECT_EQ(preallocate_file(directory.file("device"), 0).error_number(), EFBIG);
}

TEST(PreallocateFile, FullFileSystemIsAnErrorThatLeavesNothingBehind) {
  const TestDirectory directory;
  std::optional<Status> status;
  bool left_behind = true;
  // In mounts of its own, which end with the thread.
  std::thread([&] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", directory.path().c_str(), "tmpfs", 0, "size=1M") != 0) {
      return;
    }
    status = preallocate_file(directory.file("device"), 8 * kMiB);
    left_behind = ::access(directory.file("device").c_str(), F_OK) == 0;
  }).join();
  if (!status) GTEST_SKIP() << "cannot mount a small file system";
  EXPECT_EQ(status->error_number(), ENOSPC);
  EXPECT_NE(status->message().find("8.00 MiB"), std::string::npos) << status->message();
  EXPECT_FALSE(left_behind);
}

}  // namespace
}  // namespace cached::io
