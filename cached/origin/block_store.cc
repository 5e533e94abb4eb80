// Reading blocks: see block_store.h.
#include "cached/origin/block_store.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unique_fd.h"
#include "cached/origin/iovecs.h"

namespace cached::origin {
namespace {

uint64_t bytes_of(const std::vector<iovec>& iovecs) {
  uint64_t bytes = 0;
  for (const iovec& piece : iovecs) bytes += piece.iov_len;
  return bytes;
}

Result<uint64_t> read_file(const std::string& path, uint64_t offset, std::vector<iovec> iovecs) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return Status::from_errno("the block " + printable(path) + " cannot be opened");
  uint64_t total = 0;
  for (iovec& piece : iovecs) {
    while (piece.iov_len > 0) {
      const ssize_t got =
          ::pread(fd.get(), piece.iov_base, piece.iov_len, static_cast<off_t>(offset + total));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Status::from_errno("the block " + printable(path) + " cannot be read");
      if (got == 0) return total;
      total += static_cast<uint64_t>(got);
      piece.iov_base = static_cast<char*>(piece.iov_base) + got;
      piece.iov_len -= static_cast<size_t>(got);
    }
  }
  return total;
}

// The first `length` bytes of what `iovecs` hold, which lose them.
std::vector<iovec> take_front(std::vector<iovec>* iovecs, uint64_t length) {
  std::vector<iovec> front;
  size_t used = 0;
  while (length > 0) {
    iovec& piece = (*iovecs)[used];
    const size_t taken = std::min<uint64_t>(piece.iov_len, length);
    front.push_back({piece.iov_base, taken});
    length -= taken;
    piece.iov_base = static_cast<char*>(piece.iov_base) + taken;
    piece.iov_len -= taken;
    if (piece.iov_len == 0) ++used;
  }
  iovecs->erase(iovecs->begin(), iovecs->begin() + static_cast<ptrdiff_t>(used));
  return front;
}

}  // namespace

FileBlockStore::FileBlockStore(std::string directory, unsigned threads)
    : directory_(std::move(directory)), pool_("blocks", threads) {}

io::Task<Result<uint64_t>> FileBlockStore::read(io::Reactor& reactor, std::string name, uint64_t offset,
                                                std::vector<iovec> iovecs) {
  const auto work = [&] { return read_file(directory_ + "/" + name, offset, iovecs); };
  co_return co_await pool_.run(reactor, work);
}

io::Task<Result<uint64_t>> RadosBlockStore::read(io::Reactor& reactor, std::string name, uint64_t offset,
                                                 std::vector<iovec> iovecs) {
  // Blocks may be longer than what the store reads at once.
  uint64_t total = 0;
  for (uint64_t left = bytes_of(iovecs); left > 0;) {
    const uint64_t length = std::min(left, kMaximumReadBytes);
    std::vector<iovec> part = take_front(&iovecs, length);
    ObjectName object{Pool::kData, name};
    Call<uint64_t> call = store_->read(std::move(object), offset + total, std::move(part));
    const Result<uint64_t> got = co_await std::move(call).on(reactor);
    if (!got.ok()) co_return got.status();
    total += *got;
    left -= length;
    if (*got < length) break;
  }
  co_return total;
}

}  // namespace cached::origin
