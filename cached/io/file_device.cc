// Block devices and files by direct I/O: see file_device.h.
#include "cached/io/file_device.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "base/log.h"
#include "base/units.h"

namespace cached::io {
namespace {

constexpr uint32_t kSmallestBlockBytes = 512;
constexpr uint32_t kLargestBlockBytes = 4096;
constexpr mode_t kFileMode = 0600;

Status in_use(const std::string& path) {
  return Status(EBUSY, "device " + printable(path) +
                           " is in use: by another process (a cached daemon, a mount, RAID, LVM, or udev for "
                           "a moment), or by the kernel's unfinished I/O of a daemon that died; see who has "
                           "it with fuser or lsblk, or try again");
}

Status unfit(const std::string& path, const std::string& why) {
  return Status(EINVAL, "device " + printable(path) + " " + why);
}

Status no_direct_io(const std::string& path) {
  return unfit(path,
               "is on a file system that cannot do direct I/O; use a block device, or a file on ext4 or XFS");
}

// What kind of file `path` is, found out before it is opened: to open a FIFO may take for ever.
Result<struct stat> kind_of(const std::string& path) {
  struct stat attributes {};
  if (::stat(path.c_str(), &attributes) != 0)
    return Status::from_errno("cannot find device " + printable(path));
  if (S_ISREG(attributes.st_mode) || S_ISBLK(attributes.st_mode)) return attributes;
  return unfit(path, "is neither a block device nor a regular file");
}

Result<UniqueFd> open_direct(const std::string& path, FileDevice::Access access, bool block_device) {
  int flags = O_DIRECT | O_CLOEXEC;
  flags |= access == FileDevice::Access::kReadWrite ? O_RDWR : O_RDONLY;
  if (block_device && access == FileDevice::Access::kReadWrite) flags |= O_EXCL;
  UniqueFd fd(::open(path.c_str(), flags));
  if (fd.valid()) return fd;
  if (errno == EBUSY) return in_use(path);
  if (errno == EINVAL) return no_direct_io(path);
  return Status::from_errno("cannot open device " + printable(path));
}

Status lock(int fd, const std::string& path) {
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return Status();
  if (errno == EWOULDBLOCK) return in_use(path);
  return Status::from_errno("cannot lock device " + printable(path));
}

Result<uint64_t> capacity_of(int fd, const std::string& path) {
  struct stat attributes {};
  if (::fstat(fd, &attributes) != 0) return Status::from_errno("cannot stat device " + printable(path));
  if (S_ISREG(attributes.st_mode)) return static_cast<uint64_t>(attributes.st_size);
  uint64_t size_bytes = 0;
  if (::ioctl(fd, BLKGETSIZE64, &size_bytes) == 0) return size_bytes;
  return Status::from_errno("cannot ask device " + printable(path) + " for its size");
}

// From statx where the kernel has it (6.1). Else the logical sector of a block device, and for files 4096: no
// file system asks for more.
Result<uint32_t> block_bytes_of(int fd, const std::string& path) {
  struct statx attributes {};
  int sector_bytes = 0;
  uint32_t block_bytes = kLargestBlockBytes;
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &attributes) == 0 &&
      (attributes.stx_mask & STATX_DIOALIGN) != 0) {
    if (attributes.stx_dio_offset_align == 0) return no_direct_io(path);
    block_bytes = std::max(attributes.stx_dio_mem_align, attributes.stx_dio_offset_align);
  } else if (::ioctl(fd, BLKSSZGET, &sector_bytes) == 0) {
    block_bytes = static_cast<uint32_t>(sector_bytes);
  }
  block_bytes = std::max(block_bytes, kSmallestBlockBytes);
  if (std::has_single_bit(block_bytes) && block_bytes <= kLargestBlockBytes) return block_bytes;
  return unfit(path, "takes direct I/O in units of " + std::to_string(block_bytes) +
                         " bytes only; cached needs a power of two of at most 4096");
}

// Gives every byte below `size_bytes` a place on disk, and the file at least that size.
Status allocate(int fd, const std::string& path, uint64_t size_bytes) {
  int result = 0;
  do {
    result = ::fallocate(fd, 0, 0, static_cast<off_t>(size_bytes));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return Status();
  return Status::from_errno("cannot allocate " + format_size(size_bytes) + " for device file " +
                            printable(path));
}

Status sync_directory_of(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  const UniqueFd directory(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.valid() && ::fsync(directory.get()) == 0) return Status();
  return Status::from_errno("cannot make device file " + printable(path) + " durable");
}

struct OpenedFile {
  UniqueFd fd;
  bool created = false;
};

Result<OpenedFile> create_or_open(const std::string& path) {
  UniqueFd created(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, kFileMode));
  if (created.valid()) return OpenedFile{std::move(created), true};
  if (errno != EEXIST) return Status::from_errno("cannot create device file " + printable(path));
  const Result<struct stat> kind = kind_of(path);
  if (!kind.ok()) return kind.status();
  if (!S_ISREG(kind.value().st_mode)) {
    return Status(EEXIST, "cannot create device file " + printable(path) + ": there is a block device");
  }
  UniqueFd existing(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (existing.valid()) return OpenedFile{std::move(existing), false};
  return Status::from_errno("cannot open device file " + printable(path));
}

Status allocate_and_sync(int fd, const std::string& path, uint64_t size_bytes) {
  const Result<uint64_t> present_bytes = capacity_of(fd, path);
  if (!present_bytes.ok()) return present_bytes.status();
  if (present_bytes.value() > size_bytes) {
    return Status(EEXIST, "device file " + printable(path) + " exists with " +
                              format_size(present_bytes.value()) + ", more than the " +
                              format_size(size_bytes) + " asked for; remove it, or ask for its size");
  }
  CACHED_RETURN_IF_ERROR(allocate(fd, path, size_bytes));
  if (::fsync(fd) != 0) return Status::from_errno("cannot make device file " + printable(path) + " durable");
  return sync_directory_of(path);
}

std::string at(const std::string& path, uint64_t offset_bytes) {
  return "device " + printable(path) + " at byte " + std::to_string(offset_bytes);
}

}  // namespace

Result<std::unique_ptr<FileDevice>> FileDevice::open(const std::string& path, Access access,
                                                     uint64_t limit_bytes) {
  const Result<struct stat> kind = kind_of(path);
  if (!kind.ok()) return kind.status();
  Result<UniqueFd> opened = open_direct(path, access, S_ISBLK(kind.value().st_mode));
  if (!opened.ok()) return opened.status();
  const int fd = opened->get();
  if (access == Access::kReadWrite) CACHED_RETURN_IF_ERROR(lock(fd, path));

  const Result<uint32_t> block_bytes = block_bytes_of(fd, path);
  if (!block_bytes.ok()) return block_bytes.status();
  const Result<uint64_t> size_bytes = capacity_of(fd, path);
  if (!size_bytes.ok()) return size_bytes.status();
  const uint64_t used_bytes = limit_bytes == 0 ? *size_bytes : std::min(*size_bytes, limit_bytes);
  const DeviceGeometry geometry{align_down(used_bytes, block_bytes.value()), block_bytes.value()};
  if (geometry.capacity_bytes == 0) return unfit(path, "is empty");

  if (access == Access::kReadWrite && S_ISREG(kind.value().st_mode)) {
    const Status allocated = allocate(fd, path, size_bytes.value());
    // A file system that cannot preallocate is served as it is: a write that fails is a fault like others.
    if (!allocated.ok() && allocated.error_number() != EOPNOTSUPP) return allocated;
  }
  return std::unique_ptr<FileDevice>(new FileDevice(path, std::move(opened).value(), geometry));
}

FileDevice::FileDevice(std::string path, UniqueFd fd, DeviceGeometry geometry)
    : path_(std::move(path)), fd_(std::move(fd)), geometry_(geometry) {}

Task<int> FileDevice::readv(Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset_bytes) {
  if (const int refused = check_transfer(geometry_, iovecs, offset_bytes); refused != 0) co_return refused;
  co_return co_await reactor.readv(fd_.get(), iovecs.data(), static_cast<unsigned>(iovecs.size()),
                                   offset_bytes);
}

Task<int> FileDevice::writev(Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset_bytes) {
  if (const int refused = check_transfer(geometry_, iovecs, offset_bytes); refused != 0) co_return refused;
  co_return co_await reactor.writev(fd_.get(), iovecs.data(), static_cast<unsigned>(iovecs.size()),
                                    offset_bytes);
}

Task<int> FileDevice::sync(Reactor& reactor) {
  co_return co_await reactor.fdatasync(fd_.get());
}

Status FileDevice::check(const char* what, const void* buffer, size_t length_bytes,
                         uint64_t offset_bytes) const {
  const iovec transfer{const_cast<void*>(buffer), length_bytes};
  if (check_transfer(geometry_, {&transfer, 1}, offset_bytes) == 0) return Status();
  return Status(EINVAL, std::string("cannot ") + what + " " + std::to_string(length_bytes) + " bytes of " +
                            at(path_, offset_bytes) + ": not whole blocks of the device");
}

Result<size_t> FileDevice::read_blocking(void* buffer, size_t length_bytes, uint64_t offset_bytes) {
  CACHED_RETURN_IF_ERROR(check("read", buffer, length_bytes, offset_bytes));
  size_t done_bytes = 0;
  while (done_bytes < length_bytes) {
    const ssize_t count = ::pread(fd_.get(), static_cast<std::byte*>(buffer) + done_bytes,
                                  length_bytes - done_bytes, static_cast<off_t>(offset_bytes + done_bytes));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Status::from_errno("cannot read " + at(path_, offset_bytes + done_bytes));
    done_bytes += static_cast<size_t>(count);
    // An end within a block is the end of all.
    if (count == 0 || done_bytes % geometry_.block_bytes != 0) break;
  }
  return done_bytes;
}

Status FileDevice::write_blocking(const void* buffer, size_t length_bytes, uint64_t offset_bytes) {
  CACHED_RETURN_IF_ERROR(check("write", buffer, length_bytes, offset_bytes));
  size_t done_bytes = 0;
  while (done_bytes < length_bytes) {
    const ssize_t count = ::pwrite(fd_.get(), static_cast<const std::byte*>(buffer) + done_bytes,
                                   length_bytes - done_bytes, static_cast<off_t>(offset_bytes + done_bytes));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Status::from_errno("cannot write " + at(path_, offset_bytes + done_bytes));
    if (count == 0) return Status(EIO, "cannot write " + at(path_, offset_bytes + done_bytes) + ": it ends");
    done_bytes += static_cast<size_t>(count);
  }
  return Status();
}

Status FileDevice::sync_blocking() {
  if (::fdatasync(fd_.get()) == 0) return Status();
  return Status::from_errno("cannot sync device " + printable(path_));
}

void FileDevice::attach(Reactor& reactor) {
  reactor.register_file(fd_.get());
}

void FileDevice::detach(Reactor& reactor) {
  reactor.unregister_file(fd_.get());
}

Status preallocate_file(const std::string& path, uint64_t size_bytes) {
  if (size_bytes == 0 || size_bytes > INT64_MAX) {
    return Status(EFBIG, "cannot make device file " + printable(path) + " of " + format_size(size_bytes));
  }
  const Result<OpenedFile> file = create_or_open(path);
  if (!file.ok()) return file.status();
  const Status status = allocate_and_sync(file.value().fd.get(), path, size_bytes);
  if (!status.ok() && file.value().created) ::unlink(path.c_str());
  return status;
}

}  // namespace cached::io
