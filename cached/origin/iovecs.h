// Lists of buffers that a read fills one after another.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cached::origin {

// Shortens `iovecs` from the back so that they hold at most `bytes`.
inline void limit_iovecs(std::vector<iovec>* iovecs, uint64_t bytes) {
  size_t kept = 0;
  while (kept < iovecs->size() && bytes > 0) {
    iovec& piece = (*iovecs)[kept++];
    piece.iov_len = std::min<uint64_t>(piece.iov_len, bytes);
    bytes -= piece.iov_len;
  }
  iovecs->resize(kept);
}

// The part [skip, skip + length) of what `iovecs` hold.
inline std::vector<iovec> part_of(const std::vector<iovec>& iovecs, uint64_t skip, uint64_t length) {
  std::vector<iovec> part;
  for (const iovec& piece : iovecs) {
    if (length == 0) break;
    if (skip >= piece.iov_len) {
      skip -= piece.iov_len;
      continue;
    }
    const uint64_t taken = std::min<uint64_t>(piece.iov_len - skip, length);
    part.push_back({static_cast<char*>(piece.iov_base) + skip, taken});
    length -= taken;
    skip = 0;
  }
  return part;
}

}  // namespace cached::origin
