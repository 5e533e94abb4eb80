// Reading a file of a `dir:` volume: see dir_file.h.
#include "cached/origin/dir_file.h"

#include <fcntl.h>

#include "base/units.h"
#include "cached/origin/iovecs.h"

namespace cached::origin {
namespace {

// Shortens `iovecs` from the front by `bytes`.
void consume(std::vector<iovec>* iovecs, uint64_t bytes) {
  size_t used = 0;
  while (used < iovecs->size() && bytes >= (*iovecs)[used].iov_len) bytes -= (*iovecs)[used++].iov_len;
  iovecs->erase(iovecs->begin(), iovecs->begin() + static_cast<ptrdiff_t>(used));
  if (bytes == 0 || iovecs->empty()) return;
  iovecs->front().iov_base = static_cast<std::byte*>(iovecs->front().iov_base) + bytes;
  iovecs->front().iov_len -= bytes;
}

}  // namespace

FileVersion version_of(const struct statx& attributes) {
  FileVersion version;
  version.device = (static_cast<uint64_t>(attributes.stx_dev_major) << 32) | attributes.stx_dev_minor;
  version.inode = attributes.stx_ino;
  version.size = attributes.stx_size;
  version.mtime_s = attributes.stx_mtime.tv_sec;
  version.mtime_ns = attributes.stx_mtime.tv_nsec;
  version.ctime_s = attributes.stx_ctime.tv_sec;
  version.ctime_ns = attributes.stx_ctime.tv_nsec;
  return version;
}

DirFileReader::DirFileReader(std::shared_ptr<OpenFile> file, FileVersion version, OriginCounters* counters,
                             std::function<void()> on_changed)
    : file_(std::move(file)), version_(version), counters_(counters), on_changed_(std::move(on_changed)) {}

io::Task<Outcome> DirFileReader::check_version(io::Reactor& reactor) {
  struct statx attributes {};
  int result = 0;
  if (file_->local) {
    result = ::statx(file_->fd.get(), "", AT_EMPTY_PATH, kVersionStatxMask, &attributes) == 0 ? 0 : -errno;
  } else {
    result = co_await reactor.statx(file_->fd.get(), AT_STATX_FORCE_SYNC, kVersionStatxMask, &attributes);
  }
  if (result < 0) co_return Outcome{.error = -result};
  if (version_of(attributes) == version_) co_return Outcome{};
  on_changed_();
  co_return Outcome{.error = ESTALE, .changed = true};
}

io::Task<Outcome> DirFileReader::read_all(io::Reactor& reactor, uint64_t offset, uint64_t length,
                                          std::vector<iovec> iovecs) {
  // Direct I/O must ask for whole pages, the last one of the file included.
  limit_iovecs(&iovecs, file_->direct ? align_up(length, shm::kPageBytes) : length);
  uint64_t done = 0;
  while (done < length) {
    const int result = co_await reactor.readv(file_->fd.get(), iovecs.data(),
                                              static_cast<unsigned>(iovecs.size()), offset + done);
    if (result == -EINTR || result == -EAGAIN) continue;
    if (result < 0) co_return Outcome{.error = -result};
    counters_->reads.fetch_add(1, std::memory_order_relaxed);
    counters_->read_bytes.fetch_add(std::min<uint64_t>(static_cast<uint64_t>(result), length - done),
                                    std::memory_order_relaxed);
    // End of file before the end of the object: the file shrank, which the version check that follows will
    // see.
    if (result == 0) co_return Outcome{.error = EIO};
    done += static_cast<uint64_t>(result);
    if (done >= length) break;
    // A short direct read that does not end on a page is the end of the file as well.
    if (file_->direct && done % shm::kPageBytes != 0) co_return Outcome{.error = EIO};
    consume(&iovecs, static_cast<uint64_t>(result));
  }
  co_return Outcome{};
}

io::Task<Outcome> DirFileReader::read(io::Reactor& reactor, uint64_t offset, uint64_t length,
                                      std::vector<iovec> iovecs) {
  counters_->in_flight.fetch_add(1, std::memory_order_relaxed);
  Outcome outcome = co_await check_version(reactor);
  if (outcome.ok()) {
    const Outcome bytes = co_await read_all(reactor, offset, length, std::move(iovecs));
    outcome = co_await check_version(reactor);
    if (outcome.ok()) outcome = bytes;
    if (!file_->direct) {
      ::posix_fadvise(file_->fd.get(), static_cast<off_t>(offset), static_cast<off_t>(length),
                      POSIX_FADV_DONTNEED);
    }
  }
  if (!outcome.ok() && !outcome.changed) counters_->errors.fetch_add(1, std::memory_order_relaxed);
  counters_->in_flight.fetch_sub(1, std::memory_order_relaxed);
  co_return outcome;
}

}  // namespace cached::origin
