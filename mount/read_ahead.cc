#include "mount/read_ahead.h"

#include <algorithm>

namespace cached::mount {

// A stream that this read continues: exactly where it stopped, or, for one that is established, near enough
// to be a neighbour that was overtaken.
StreamDetector::Stream* StreamDetector::find(uint64_t offset, uint64_t size) {
  for (Stream& stream : streams_) {
    if (stream.last_used != 0 && stream.next == offset) return &stream;
  }
  for (Stream& stream : streams_) {
    if (stream.last_used == 0 || stream.window_bytes == 0) continue;
    const bool overtaken = offset + size <= stream.next && stream.next - offset <= kDisorderBytes;
    const bool overtaking = offset > stream.next && offset - stream.next <= kDisorderBytes;
    if (overtaken || overtaking) return &stream;
  }
  return nullptr;
}

// Moves the hinted part of a stream forward when less than half a window is left of it, so that hints are few
// and long.
Range StreamDetector::extend(Stream& stream, uint64_t file_size) {
  stream.hinted_until = std::max(stream.hinted_until, stream.next);
  if (stream.hinted_until - stream.next >= stream.window_bytes / 2) return {};
  const Range range{stream.hinted_until, std::min(stream.next + stream.window_bytes, file_size)};
  if (range.empty()) return {};
  stream.hinted_until = range.end;
  stream.window_bytes = std::min(stream.window_bytes * 2, kMaximumWindowBytes);
  return range;
}

Range StreamDetector::observe(uint64_t offset, uint64_t size, uint64_t file_size) {
  Stream* stream = find(offset, size);
  if (stream == nullptr) {
    stream = &*std::min_element(streams_.begin(), streams_.end(),
                                [](const Stream& a, const Stream& b) { return a.last_used < b.last_used; });
    *stream = Stream{.next = offset + size, .hinted_until = 0, .window_bytes = 0, .last_used = ++uses_};
    return {};
  }
  stream->last_used = ++uses_;
  stream->next = std::max(stream->next, offset + size);
  if (stream->window_bytes == 0) stream->window_bytes = kMinimumWindowBytes;
  return extend(*stream, file_size);
}

Range OpenFile::observe(uint64_t offset, uint64_t size, uint64_t file_size) {
  if (file_size < kReadAheadMinimumFileBytes) return {};
  const std::lock_guard lock(mutex_);
  if (!was_read_) {
    was_read_ = true;
    first_offset_ = offset;
    first_size_ = size;
    return {};
  }
  if (detector_ == nullptr) {
    detector_ = std::make_unique<StreamDetector>();
    detector_->observe(first_offset_, first_size_, file_size);
  }
  return detector_->observe(offset, size, file_size);
}

}  // namespace cached::mount
