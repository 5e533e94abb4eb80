// Recognises sequential reading of one open file and says what to fetch ahead of it.
//
// The kernel's own read-ahead turns sequential reads into READs of up to 1 MiB, not more, and the daemon does
// not see hits: so the mount tells it what will be read soon. Data loaders read several parts of one file at
// a time through one descriptor, therefore up to four streams are followed. Several threads handle the READs
// of one stream, so they may come a little out of order.
//
// Memory: an open file costs an OpenFile of a few words; the streams are allocated at the second READ of a
// file that is long enough to be worth it, so half a million small files cost nothing.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>

namespace cached::mount {

inline constexpr uint64_t kReadAheadMinimumFileBytes =
    1024 * 1024;  // hints are given for files of at least this size
inline constexpr uint64_t kMinimumWindowBytes = 1024 * 1024;
inline constexpr uint64_t kMaximumWindowBytes = 32 * 1024 * 1024;
inline constexpr uint64_t kMaximumHintBytes = 4 * 1024 * 1024;  // one hint; also the extent it must not leave

// A range [begin, end) of a file; empty if there is nothing to do.
struct Range {
  uint64_t begin = 0;
  uint64_t end = 0;
  bool empty() const { return begin >= end; }
  friend bool operator==(const Range&, const Range&) = default;
};

// Follows up to kStreams interleaved sequential streams. One thread at a time.
class StreamDetector {
 public:
  static constexpr unsigned kStreams = 4;

  // Notes a read of [offset, offset + size) of a file of `file_size` bytes and returns what to fetch now:
  // beyond what was read and not returned for this stream before.
  Range observe(uint64_t offset, uint64_t size, uint64_t file_size);

 private:
  struct Stream {
    uint64_t next = 0;          // where the stream goes on
    uint64_t hinted_until = 0;  // returned before
    uint64_t window_bytes = 0;  // 0: no second read yet
    uint64_t last_used = 0;     // 0: free
  };
  // A READ may be overtaken by later ones of its stream by this much.
  static constexpr uint64_t kDisorderBytes = 2 * 1024 * 1024;

  Stream* find(uint64_t offset, uint64_t size);
  static Range extend(Stream& stream, uint64_t file_size);

  std::array<Stream, kStreams> streams_;
  uint64_t uses_ = 0;
};

// Calls `hint(begin, length)` for the pieces of `range` that one hint each may cover: at most
// kMaximumHintBytes and within one extent of the object, in which the file begins at `layout_base`.
template <typename Hint>
void for_each_hint(const Range& range, uint64_t layout_base, const Hint& hint) {
  for (uint64_t begin = range.begin; begin < range.end;) {
    const uint64_t in_extent = kMaximumHintBytes - (layout_base + begin) % kMaximumHintBytes;
    const uint64_t length = range.end - begin < in_extent ? range.end - begin : in_extent;
    hint(begin, length);
    begin += length;
  }
}

// An open file: what `fh` points to. Any thread.
class OpenFile {
 public:
  // As StreamDetector::observe(); costs a lock that is contended only when one file is read by several
  // threads.
  Range observe(uint64_t offset, uint64_t size, uint64_t file_size);

 private:
  std::mutex mutex_;
  bool was_read_ = false;
  uint64_t first_offset_ = 0;
  uint64_t first_size_ = 0;
  std::unique_ptr<StreamDetector> detector_;
};

}  // namespace cached::mount
