// Reading: pieces that are in memory in place, the rest from the daemon.
//
// A read walks its range piece by piece: find the record that covers the position, publish the hazard, use
// the record to its end, look again. If nothing is missing, that is all: no lock, no allocation, no system
// call. If something is missing, the daemon is asked for one run of bytes from the first missing byte to the
// last, split at the edges of the object's 4 MiB extents; pieces found inside that run are let go. Two
// requests at most, so all or nothing is simple.
//
// When the attachment is lost on the way, everything found in it is let go too and the read starts over in
// the next one, so that a view never points into two arenas. A request for the same bytes goes out again
// under its old number.
//
// Each step works on a ReadState. read() takes the channel's own through all of them; AsyncReader has many
// between two steps at once. They share the queue's hazards, so a read that gets none any more asks the
// daemon, whose pins have no such limit.
#include <algorithm>
#include <string>

#include "base/units.h"
#include "shm/channel_impl.h"
#include "shm/hash.h"

namespace cached::shm {
namespace {

constexpr uint64_t kLastObjectByte = (uint64_t{UINT32_MAX} + 1) * kBlockBytes;  // block numbers have 32 bits

BlockKey key_of(const FileReference& file, uint64_t volume, uint64_t position) {
  BlockKey key;
  key.object = file.object;
  key.block = static_cast<uint32_t>(position / kBlockBytes);
  key.volume = static_cast<uint16_t>(volume);
  key.data_set = file.data_set;
  return key;
}

// A record is what the daemon wrote, and nobody guarantees that it wrote sense.
bool within_bounds(const BlockRecord& record, uint64_t arena_bytes) {
  return record.start <= kBlockBytes && record.length <= kBlockBytes - record.start &&
         record.length <= arena_bytes && record.page * kPageBytes <= arena_bytes - record.length;
}

// The first byte of a read in its object.
uint64_t object_offset(const FileReference& file, uint64_t offset) {
  return file.layout == LayoutKind::kObject ? file.layout_base + offset : offset;
}

bool range_is_possible(const FileReference& file, uint64_t offset, uint64_t length) {
  const uint64_t base = file.layout == LayoutKind::kObject ? file.layout_base : 0;
  return length <= kLastObjectByte && offset <= kLastObjectByte - length &&
         base <= kLastObjectByte - length - offset;
}

uint64_t end_of_extent(uint64_t position) {
  return (position / kExtentBytes + 1) * kExtentBytes;
}

}  // namespace

Status Channel::Impl::read(const FileReference& file, uint64_t offset, uint64_t length) {
  CACHED_RETURN_IF_ERROR(begin_read(file, offset, length, &read_));
  if (!read_.missing.empty()) return read_missing(&read_);
  return finish_read(&read_);
}

Status Channel::Impl::begin_read(const FileReference& file, uint64_t offset, uint64_t length,
                                 ReadState* read) {
  if (length > kMaximumReadBytes) {
    return Status(EINVAL, "a read of " + std::to_string(length) + " bytes; the limit is " +
                              std::to_string(kMaximumReadBytes));
  }
  if (file.layout == LayoutKind::kMap)
    return Status(ENOTSUP, "a file that lies in several objects is read by Channel::read() alone");
  if (!range_is_possible(file, offset, length)) return Status(EINVAL, "a read beyond the largest object");
  count(Counter::kReads);
  count(Counter::kReadBytes, length);
  read->file = file;
  read->range.begin = object_offset(file, offset);
  read->range.end = read->range.begin + length;
  read->request_count = 0;
  probe(read);
  return Status();
}

bool Channel::Impl::find_piece(const FileReference& file, uint64_t position, uint64_t end,
                               ReadState::Piece* piece) const {
  const Attachment& attachment = *attachment_;
  const BlockKey key = key_of(file, attachment.volume(), position);
  const auto offset_in_block = static_cast<uint32_t>(position % kBlockBytes);
  piece->hazard = free_hazards_[free_hazard_count_ - 1];
  std::atomic<uint64_t>& hazard_slot = queue_view_.hazard(piece->hazard);
  const auto& table = attachment.blocks();
  const auto record = table.reader.find(
      hash_block(key), partition_of_hash(hash_extent(key), table.partitions),
      [&](const BlockRecord& candidate) {
        return candidate.key.same_block(key) && candidate.covers(offset_in_block) &&
               within_bounds(candidate, attachment.arena_bytes());
      },
      [&](const BlockRecord& candidate) {
        hazard_slot.store(uint64_t{candidate.page} + 1, std::memory_order_seq_cst);
      },
      [&] { hazard_slot.store(0, std::memory_order_release); });
  if (!record) return false;
  piece->position = position;
  piece->page = record->page;
  piece->offset_in_record = offset_in_block - record->start;
  piece->length =
      static_cast<uint32_t>(std::min<uint64_t>(record->length - piece->offset_in_record, end - position));
  return true;
}

void Channel::Impl::probe(ReadState* read) {
  read->piece_count = 0;
  read->missing = read->file.layout == LayoutKind::kObject ? find_pieces(read) : read->range;
}

ObjectRange Channel::Impl::find_pieces(ReadState* read) {
  const uint64_t end = read->range.end;
  ObjectRange missing{end, end};
  for (uint64_t position = read->range.begin; position < end;) {
    if (free_hazard_count_ == 0) {
      missing = {std::min(missing.begin, position), end};
      break;
    }
    ReadState::Piece& piece = read->pieces[read->piece_count];
    if (find_piece(read->file, position, end, &piece)) {
      --free_hazard_count_;
      ++read->piece_count;
      position += piece.length;
      continue;
    }
    // Pieces start at chunks, so the next one cannot begin before the next chunk.
    const uint64_t next = std::min((position / kChunkBytes + 1) * kChunkBytes, end);
    missing = {std::min(missing.begin, position), next};
    position = next;
  }
  if (!missing.empty()) drop_pieces(missing, read);
  return missing;
}

void Channel::Impl::drop_pieces(const ObjectRange& range, ReadState* read) {
  unsigned kept = 0;
  for (unsigned i = 0; i < read->piece_count; ++i) {
    const ReadState::Piece& piece = read->pieces[i];
    if (piece.position >= range.begin && piece.position < range.end) {
      free_hazard(piece.hazard);
      continue;
    }
    read->pieces[kept++] = piece;
  }
  read->piece_count = kept;
}

void Channel::Impl::free_hazard(unsigned hazard) {
  queue_view_.hazard(hazard).store(0, std::memory_order_release);
  free_hazards_[free_hazard_count_++] = static_cast<uint8_t>(hazard);
}

void Channel::Impl::clear_hazards(ReadState* read) {
  if (read->left != nullptr) {
    const QueueView view = read->left->queue(queue_);
    for (unsigned i = 0; i < read->piece_count; ++i) {
      view.hazard(read->pieces[i].hazard).store(0, std::memory_order_release);
    }
  } else {
    for (unsigned i = read->piece_count; i > 0; --i) free_hazard(read->pieces[i - 1].hazard);
  }
  read->piece_count = 0;
}

Status Channel::Impl::read_missing(ReadState* read) {
  const uint64_t deadline = deadline_ns();
  while (!read->missing.empty()) {
    CACHED_RETURN_IF_ERROR(plan(deadline, read));
    if (transact(read->requests.data(), read->request_count, deadline)) break;
    clear_hazards(read);
    CACHED_RETURN_IF_ERROR(await_attachment(deadline));
    probe(read);  // others may have had the new daemon fetch it meanwhile
  }
  return finish_read(read);
}

Status Channel::Impl::plan(uint64_t deadline_ns, ReadState* read) {
  unsigned planned = 0;
  uint64_t buffer_offset = read->buffer_begin;
  for (uint64_t position = read->missing.begin; position < read->missing.end; ++planned) {
    const uint64_t length = std::min(read->missing.end, end_of_extent(position)) - position;
    const uint64_t buffer_length = length + kReadBufferSlackBytes;
    if (buffer_offset + buffer_length > read->buffer_end) {
      return Status(EINVAL, "the buffer of " + std::to_string(read->buffer_end - read->buffer_begin) +
                                " bytes is too small for this read; see ClientOptions::buffer_bytes");
    }
    Request& request = read->requests[planned];
    const bool again = planned < read->request_count && request.submission.offset == position &&
                       request.submission.length == length;
    if (!again) request = make_request(Opcode::kRead, read->file.handle, deadline_ns);
    request.answered = false;
    Submission& submission = request.submission;
    submission.object = read->file.object;
    submission.offset = position;
    submission.length = static_cast<uint32_t>(length);
    submission.buffer_offset = static_cast<uint32_t>(buffer_offset);
    submission.buffer_length = static_cast<uint32_t>(buffer_length);
    buffer_offset += align_up(buffer_length, kPageBytes);
    position += length;
  }
  read->request_count = planned;
  return Status();
}

Status Channel::Impl::finish_read(ReadState* read) {
  if (!read->missing.empty()) CACHED_RETURN_IF_ERROR(take_answers(read));
  count_use(*read);
  append_pieces({read->range.begin, read->missing.begin}, read);
  if (read->missing.empty()) return Status();
  for (unsigned i = 0; i < read->request_count; ++i) append_answer(read->requests[i], read);
  append_pieces({read->missing.end, read->range.end}, read);
  return Status();
}

Status Channel::Impl::take_answers(ReadState* read) {
  // The pins first, so that whatever is wrong with an answer they are given back.
  for (unsigned i = 0; i < read->request_count; ++i) {
    const Completion& completion = read->requests[i].completion;
    if (completion.status != 0 || (completion.flags & kCompletionPinned) == 0) continue;
    read->pins[read->pin_count++] = completion.request_number;
  }
  for (unsigned i = 0; i < read->request_count; ++i) {
    CACHED_RETURN_IF_ERROR(answer_status(read->requests[i].completion, "a read"));
    CACHED_RETURN_IF_ERROR(check_read_answer(read->requests[i]));
  }
  const ObjectRange& missing = read->missing;
  count(Counter::kMisses, (missing.end - 1) / kBlockBytes - missing.begin / kBlockBytes + 1);
  count(Counter::kMissBytes, missing.end - missing.begin);
  return Status();
}

Status Channel::Impl::check_read_answer(const Request& request) const {
  const Submission& submission = request.submission;
  const Completion& completion = request.completion;
  const Status nonsense(EIO,
                        "cached answered a read with bytes that cannot be where it says; this is a defect of "
                        "cached (request " +
                            std::to_string(submission.request_number) + ")");
  if ((completion.flags & kCompletionPinned) != 0) {
    if (completion.extent_count > kExtentsPerCompletion) return nonsense;
    uint64_t total = 0;
    for (unsigned i = 0; i < completion.extent_count; ++i) {
      const Extent& extent = completion.extents[i];
      const uint64_t arena_bytes = attachment_->arena_bytes();
      if (extent.length > arena_bytes || extent.arena_offset_bytes > arena_bytes - extent.length)
        return nonsense;
      total += extent.length;
    }
    return total == submission.length ? Status() : nonsense;
  }
  if ((completion.flags & kCompletionInBuffer) == 0 || completion.result != submission.length)
    return nonsense;
  const uint64_t begin = completion.buffer_offset;
  const uint64_t end = begin + submission.length;
  const bool inside = begin >= submission.buffer_offset &&
                      end <= uint64_t{submission.buffer_offset} + submission.buffer_length;
  return inside ? Status() : nonsense;
}

void Channel::Impl::append(const std::byte* data, uint64_t length, ReadState* read) {
  // writev() and its like take the iovec of a source without const.
  read->iovecs[read->iovec_count++] = iovec{const_cast<std::byte*>(data), length};
  read->bytes += length;
}

void Channel::Impl::append_pieces(const ObjectRange& range, ReadState* read) {
  uint64_t hits = 0;
  uint64_t hit_bytes = 0;
  for (unsigned i = 0; i < read->piece_count; ++i) {
    const ReadState::Piece& piece = read->pieces[i];
    if (piece.position < range.begin || piece.position >= range.end) continue;
    append(attachment_->arena() + piece.page * kPageBytes + piece.offset_in_record, piece.length, read);
    touch(piece.page);
    ++hits;
    hit_bytes += piece.length;
  }
  count(Counter::kHits, hits);
  count(Counter::kHitBytes, hit_bytes);
}

void Channel::Impl::append_answer(const Request& request, ReadState* read) const {
  const Completion& completion = request.completion;
  if ((completion.flags & kCompletionPinned) == 0) {
    append(queue_view_.buffer() + completion.buffer_offset, request.submission.length, read);
    return;
  }
  for (unsigned i = 0; i < completion.extent_count; ++i) {
    const Extent& extent = completion.extents[i];
    append(attachment_->arena() + extent.arena_offset_bytes, extent.length, read);
  }
}

void Channel::Impl::touch(uint32_t page) {
  if (last_touch_ == page + 1) return;
  last_touch_ = page + 1;
  queue_view_.touch(touch_head_).store(last_touch_, std::memory_order_relaxed);
  queue_view_.control().touch_head.store(++touch_head_, std::memory_order_release);
}

void Channel::Impl::give_back(ReadState* read) {
  clear_hazards(read);
  // Pins in an attachment that was left are nobody's to give back: its rings are never used again.
  for (unsigned i = 0; read->left == nullptr && i < read->pin_count; ++i) release_pin(read->pins[i]);
  read->left.reset();
  read->pin_count = 0;
  read->iovec_count = 0;
  read->bytes = 0;
  read->out = false;
  ++read->serial;
}

void Channel::Impl::take_back(ReadState* read) {
  give_back(read);
  leave();
}

bool Channel::Impl::block_is_present(const FileReference& file, uint64_t position) const {
  const BlockKey key = key_of(file, attachment_->volume(), position);
  const auto& table = attachment_->blocks();
  const auto matches = [&](const BlockRecord& record) {
    return record.key.same_block(key) && record.covers(static_cast<uint32_t>(position % kBlockBytes));
  };
  return table.reader.find(hash_block(key), partition_of_hash(hash_extent(key), table.partitions), matches)
      .has_value();
}

void Channel::Impl::prefetch(const FileReference& file, uint64_t offset, uint64_t length) {
  if (attachment_->dead() || !range_is_possible(file, offset, length)) return;
  uint64_t position = object_offset(file, offset);
  const uint64_t end = position + length;
  bool pushed = false;
  while (position < end && hint_would_fit()) {
    // What is in memory already is no reason to wake the daemon.
    if (file.layout == LayoutKind::kObject && block_is_present(file, position)) {
      position = (position / kBlockBytes + 1) * kBlockBytes;
      continue;
    }
    Submission submission;
    submission.request_number = client_->take_number();
    submission.opcode = Opcode::kPrefetch;
    submission.handle = file.handle;
    submission.object = file.object;
    submission.offset = position;
    submission.length = static_cast<uint32_t>(std::min(end, end_of_extent(position)) - position);
    if (!push(submission)) break;
    pushed = true;
    position += submission.length;
  }
  if (pushed) notify_shard();
}

}  // namespace cached::shm
