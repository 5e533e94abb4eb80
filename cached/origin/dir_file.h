// Reading a file of a `dir:` volume: direct I/O where the source can, drop-behind where it cannot, and the
// proof that the bytes are of one version.
//
// The proof is FileVersion, taken with statx on the same descriptor before and after each read: if either
// differs from the version that the object id was made from, the bytes are thrown away. ctime cannot be set
// by users, so a change that hides its mtime is still seen.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "base/unique_fd.h"
#include "cached/origin/source.h"

namespace cached::origin {

// What identifies a version of a file's content.
struct FileVersion {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size = 0;
  int64_t mtime_s = 0;
  int64_t ctime_s = 0;
  uint32_t mtime_ns = 0;
  uint32_t ctime_ns = 0;
  friend bool operator==(const FileVersion&, const FileVersion&) = default;
};

inline constexpr unsigned kVersionStatxMask = STATX_TYPE | STATX_INO | STATX_SIZE | STATX_MTIME | STATX_CTIME;

FileVersion version_of(const struct statx& attributes);

// An open regular file of the source. Shared by all readers of the inode; the descriptor closes with the
// last.
struct OpenFile {
  UniqueFd fd;
  bool direct = false;  // O_DIRECT: nothing stays in the kernel's page cache
  bool local =
      false;  // the file system answers statx from memory: no need to leave the reactor's thread for it
};

// Counts of what is read from sources; shards add to their own.
struct OriginCounters {
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> read_bytes{0};
  std::atomic<uint64_t> errors{0};
  std::atomic<uint64_t> in_flight{0};
};

class DirFileReader : public ObjectReader {
 public:
  // `on_changed` is called, on the reading reactor's thread, when the file turns out to be another version.
  DirFileReader(std::shared_ptr<OpenFile> file, FileVersion version, OriginCounters* counters,
                std::function<void()> on_changed);
  uint64_t size() const override { return version_.size; }
  io::Task<Outcome> read(io::Reactor& reactor, uint64_t offset, uint64_t length,
                         std::vector<iovec> iovecs) override;

 private:
  io::Task<Outcome> check_version(io::Reactor& reactor);
  io::Task<Outcome> read_all(io::Reactor& reactor, uint64_t offset, uint64_t length,
                             std::vector<iovec> iovecs);

  std::shared_ptr<OpenFile> file_;
  FileVersion version_;
  OriginCounters* counters_;
  std::function<void()> on_changed_;
};

}  // namespace cached::origin
