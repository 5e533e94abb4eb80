// FileDevice: a block device or a regular file as a Device, by direct I/O.
//
// Who owns it. A device that is open for writing is locked twice over: by flock(2) on the very descriptor
// that does the I/O, and a block device also by O_EXCL, which fails for what is mounted or part of a RAID.
// Both last until the kernel drops the last reference to the open file: the descriptor, every ring that it is
// registered with (Device::attach) and every operation in the kernel. So while commands of a daemon that
// died are still under way, its successor cannot open the device, and no late write lands in what the
// successor wrote.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "base/unique_fd.h"
#include "cached/io/device.h"

namespace cached::io {

class FileDevice : public Device {
 public:
  enum class Access {
    kReadWrite,  // locked against every other kReadWrite
    kReadOnly,   // not locked, and may be opened while somebody writes: for tools that look
  };

  // Opens `path` (symbolic links are followed: /dev/disk/by-id/...). A regular file is used at the size that
  // it has, rounded down to whole blocks; with kReadWrite its holes are allocated, so that a write never
  // finds the file system full. May take as long as that allocation. Errors: EBUSY where somebody else, or a
  // dead daemon's unfinished I/O, or for a moment udev, has it (the caller may try again); EINVAL for what is
  // neither block device nor regular file, is empty, or cannot do direct I/O; ENOSPC where holes could not be
  // allocated; others from open.
  // `limit_bytes`: use no more than the first so many bytes of it; 0: all.
  static Result<std::unique_ptr<FileDevice>> open(const std::string& path, Access access,
                                                  uint64_t limit_bytes = 0);

  const std::string& path() const override { return path_; }
  DeviceGeometry geometry() const override { return geometry_; }
  Task<int> readv(Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset_bytes) override;
  Task<int> writev(Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset_bytes) override;
  Task<int> sync(Reactor& reactor) override;
  Result<size_t> read_blocking(void* buffer, size_t length_bytes, uint64_t offset_bytes) override;
  Status write_blocking(const void* buffer, size_t length_bytes, uint64_t offset_bytes) override;
  Status sync_blocking() override;
  void attach(Reactor& reactor) override;
  void detach(Reactor& reactor) override;

 private:
  FileDevice(std::string path, UniqueFd fd, DeviceGeometry geometry);
  Status check(const char* what, const void* buffer, size_t length_bytes, uint64_t offset_bytes) const;

  const std::string path_;
  const UniqueFd fd_;
  const DeviceGeometry geometry_;
};

// Makes `path` a regular file of `size_bytes`, all of it allocated: creates it (mode 0600) or, where it
// exists, fills its holes and grows it; what it holds stays. Durable when it returns. Errors: ENOSPC and
// EDQUOT where there is no room (a file that this call created is removed again), EFBIG where the file system
// has no such sizes, EOPNOTSUPP where it cannot preallocate, EEXIST where there is something else or a larger
// file.
Status preallocate_file(const std::string& path, uint64_t size_bytes);

}  // namespace cached::io
