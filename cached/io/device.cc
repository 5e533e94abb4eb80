// What transfers a device takes: see device.h.
#include "cached/io/device.h"

#include <limits.h>

#include <cerrno>

namespace cached::io {
namespace {
constexpr uint64_t kLongestTransferBytes = 0x7ffff000;  // the kernel's limit, MAX_RW_COUNT
}

uint64_t length_of(std::span<const iovec> iovecs) {
  uint64_t length_bytes = 0;
  for (const iovec& piece : iovecs) length_bytes += piece.iov_len;
  return length_bytes;
}

int check_transfer(const DeviceGeometry& geometry, std::span<const iovec> iovecs, uint64_t offset_bytes) {
  if (iovecs.empty() || iovecs.size() > IOV_MAX) return -EINVAL;
  uint64_t misaligned = offset_bytes;
  uint64_t length_bytes = 0;
  for (const iovec& piece : iovecs) {
    if (piece.iov_len > kLongestTransferBytes) return -EINVAL;
    length_bytes += piece.iov_len;
    misaligned |= piece.iov_len | reinterpret_cast<uintptr_t>(piece.iov_base);
  }
  if (length_bytes == 0 || length_bytes > kLongestTransferBytes) return -EINVAL;
  if ((misaligned & (geometry.block_bytes - 1)) != 0) return -EINVAL;
  if (offset_bytes > geometry.capacity_bytes) return -EINVAL;
  return length_bytes > geometry.capacity_bytes - offset_bytes ? -EINVAL : 0;
}

}  // namespace cached::io
