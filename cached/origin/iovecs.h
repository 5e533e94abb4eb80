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

}  // namespace cached::origin
