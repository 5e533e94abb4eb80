// A device of memory: see memory_device.h.
#include "cached/io/memory_device.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

namespace cached::io {

Result<std::unique_ptr<MemoryDevice>> MemoryDevice::create(std::string name, DeviceGeometry geometry) {
  void* const bytes = ::mmap(nullptr, geometry.capacity_bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (bytes == MAP_FAILED) return Status::from_errno("cannot map memory device " + name);
  return std::unique_ptr<MemoryDevice>(
      new MemoryDevice(std::move(name), geometry, static_cast<std::byte*>(bytes)));
}

MemoryDevice::MemoryDevice(std::string name, DeviceGeometry geometry, std::byte* bytes)
    : name_(std::move(name)), geometry_(geometry), bytes_(bytes) {}

MemoryDevice::~MemoryDevice() {
  ::munmap(bytes_, geometry_.capacity_bytes);
}

int MemoryDevice::read_now(std::span<const iovec> iovecs, uint64_t offset_bytes) {
  if (const int refused = check_transfer(geometry_, iovecs, offset_bytes); refused != 0) return refused;
  const std::shared_lock lock(mutex_);
  const std::byte* from = bytes_ + offset_bytes;
  for (const iovec& piece : iovecs) {
    std::memcpy(piece.iov_base, from, piece.iov_len);
    from += piece.iov_len;
  }
  return static_cast<int>(length_of(iovecs));
}

int MemoryDevice::write_now(std::span<const iovec> iovecs, uint64_t offset_bytes) {
  if (const int refused = check_transfer(geometry_, iovecs, offset_bytes); refused != 0) return refused;
  const std::lock_guard lock(mutex_);
  std::byte* to = bytes_ + offset_bytes;
  for (const iovec& piece : iovecs) {
    std::memcpy(to, piece.iov_base, piece.iov_len);
    to += piece.iov_len;
  }
  return static_cast<int>(length_of(iovecs));
}

Task<int> MemoryDevice::readv(Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset_bytes) {
  if (const int ended = co_await reactor.nop(); ended < 0) co_return ended;
  co_return read_now(iovecs, offset_bytes);
}

Task<int> MemoryDevice::writev(Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset_bytes) {
  if (const int ended = co_await reactor.nop(); ended < 0) co_return ended;
  co_return write_now(iovecs, offset_bytes);
}

Task<int> MemoryDevice::sync(Reactor& reactor) {
  co_return co_await reactor.nop();
}

Result<size_t> MemoryDevice::read_blocking(void* buffer, size_t length_bytes, uint64_t offset_bytes) {
  const iovec transfer{buffer, length_bytes};
  const int result = read_now({&transfer, 1}, offset_bytes);
  if (result < 0) return Status::from_errno(-result, "cannot read memory device " + name_);
  return static_cast<size_t>(result);
}

Status MemoryDevice::write_blocking(const void* buffer, size_t length_bytes, uint64_t offset_bytes) {
  const iovec transfer{const_cast<void*>(buffer), length_bytes};
  const int result = write_now({&transfer, 1}, offset_bytes);
  return result < 0 ? Status::from_errno(-result, "cannot write memory device " + name_) : Status();
}

Status MemoryDevice::sync_blocking() {
  return Status();
}

void MemoryDevice::attach(Reactor& /*reactor*/) {}
void MemoryDevice::detach(Reactor& /*reactor*/) {}

}  // namespace cached::io
