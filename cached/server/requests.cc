// What a shard does for each kind of request: see shard.h.
//
// A coroutine starts and ends on the shard that serves the queue; in between it may be on others. It holds
// the session, so the memory it writes to is mapped even if the client is gone by then.
#include <cstring>

#include "base/units.h"
#include "cached/server/shard.h"

namespace cached::server {
namespace {

constexpr size_t kPathMaximum = 4096;
constexpr unsigned kItemsWithAttributes = 256;
constexpr unsigned kItemsPlain = 2048;

// The request's input, copied once. The length was checked against the buffer.
std::string input_of(const Session& session, unsigned queue, const shm::Submission& submission) {
  const size_t length = std::min<size_t>(submission.input_length, kPathMaximum + 1);
  return {reinterpret_cast<const char*>(session.queue(queue).buffer() + submission.buffer_offset), length};
}

shm::Completion completion_of(const shm::Submission& submission, const origin::Outcome& outcome) {
  shm::Completion completion;
  completion.request_number = submission.request_number;
  completion.status = -outcome.error;
  if (outcome.changed) completion.flags |= shm::kCompletionObjectChanged;
  if (outcome.handle_unknown) completion.flags |= shm::kCompletionHandleUnknown;
  return completion;
}

// Writes `size` bytes to the request's buffer; ERANGE if they do not fit.
void put_output(const Session& session, unsigned queue, const shm::Submission& submission, const void* data,
                size_t size, shm::Completion* completion) {
  if (size > submission.buffer_length) {
    completion->status = -ERANGE;
    return;
  }
  std::memcpy(session.queue(queue).buffer() + submission.buffer_offset, data, size);
  completion->result = size;
}

// Lays out one entry at `at`; false if it does not fit before `end`.
bool put_directory_record(const volume::DirectoryItem& item, std::byte* at, const std::byte* end,
                          size_t* used) {
  const size_t bytes = align_up(sizeof(shm::DirectoryRecord) + item.name.size(), 8);
  if (static_cast<size_t>(end - at) < bytes) return false;
  shm::DirectoryRecord record;
  record.record_bytes = static_cast<uint32_t>(bytes);
  record.name_length = static_cast<uint16_t>(item.name.size());
  record.type = item.type;
  record.has_info = item.has_info ? 1 : 0;
  record.ino = item.ino;
  record.next_cookie = item.next_cookie;
  record.info = item.info;
  std::memcpy(at, &record, sizeof record);
  std::memcpy(at + sizeof record, item.name.data(), item.name.size());
  *used = bytes;
  return true;
}

}  // namespace

Shard& Shard::owner_of(const Session& session, const shm::Submission& submission) const {
  const shm::BlockKey key{submission.object, static_cast<uint32_t>(submission.offset / shm::kBlockBytes),
                          session.volume()->id(), 0};
  return server::owner_of(peers_, key);
}

readpath::ReadRequest Shard::read_request(const Attached& attached, unsigned queue,
                                          const shm::Submission& submission) const {
  readpath::ReadRequest request;
  request.volume = attached.session->volume()->id();
  request.data_set = attached.session->volume()->data_sets()->root().tag;
  request.source = attached.session->volume();
  request.handle = submission.handle;
  request.object = submission.object;
  request.offset = submission.offset;
  request.length = submission.length;
  request.buffer = attached.session->queue(queue).buffer() + submission.buffer_offset;
  request.buffer_bytes = submission.buffer_length;
  return request;
}

io::Task<void> Shard::serve(AttachedPointer attached, unsigned queue, shm::Submission submission) {
  switch (submission.opcode) {
    case shm::Opcode::kRead:
      co_await serve_read(attached, queue, submission);
      break;
    case shm::Opcode::kLookup:
    case shm::Opcode::kGetAttributes:
    case shm::Opcode::kResolve: {
      const shm::Completion completion = co_await serve_inode(attached, queue, submission);
      complete(attached, queue, completion);
      break;
    }
    case shm::Opcode::kReadDirectory: {
      const shm::Completion completion = co_await serve_directory(attached, queue, submission);
      complete(attached, queue, completion);
      break;
    }
    case shm::Opcode::kFileMap: {
      const shm::Completion completion = co_await serve_map(attached, queue, submission);
      complete(attached, queue, completion);
      break;
    }
    default: {
      const shm::Completion completion = co_await serve_bytes(attached, queue, submission);
      complete(attached, queue, completion);
      break;
    }
  }
  --running_;
}

io::Task<void> Shard::serve_read(AttachedPointer attached, unsigned queue_index, shm::Submission submission) {
  Shard& owner = owner_of(*attached->session, submission);
  co_await owner.reactor().hop();
  const readpath::ReadRequest request = read_request(*attached, queue_index, submission);
  readpath::ReadResult result = co_await owner.read_path_->read(request);
  const auto pieces = static_cast<int64_t>(result.pieces.size());
  if (attached->session->pins().load(std::memory_order_relaxed) + pieces > options_.pins_per_session)
    owner.read_path_->move_to_buffer(request, &result);
  co_await reactor_->hop();

  shm::Completion completion = completion_of(submission, result.outcome);
  if (result.in_buffer) {
    completion.flags |= shm::kCompletionInBuffer;
    completion.buffer_offset = submission.buffer_offset + static_cast<uint32_t>(result.buffer_offset);
    completion.result = submission.length;
  } else if (result.outcome.ok()) {
    completion.flags |= shm::kCompletionPinned;
    completion.extent_count = static_cast<uint32_t>(result.pieces.size());
    PinnedRead pinned{&owner, {}};
    for (size_t i = 0; i < result.pieces.size(); ++i) {
      completion.extents[i] = result.pieces[i].extent;
      completion.result += result.pieces[i].extent.length;
      pinned.slots.push_back(result.pieces[i].slot);
    }
    attached->session->pins().fetch_add(static_cast<int64_t>(pinned.slots.size()), std::memory_order_relaxed);
    if (attached->session->serving()) {
      attached->queues[queue_index].pinned.emplace(submission.request_number, std::move(pinned));
    } else {
      give_back(std::move(pinned), *attached->session);
    }
  }
  complete(attached, queue_index, completion);
}

io::Task<void> Shard::serve_prefetch(AttachedPointer attached, unsigned queue_index,
                                     shm::Submission submission) {
  Shard& owner = owner_of(*attached->session, submission);
  co_await owner.reactor().hop();
  co_await owner.read_path_->prefetch(read_request(*attached, queue_index, submission));
  co_await reactor_->hop();
  --attached->queues[queue_index].prefetches;
  --running_;
}

io::Task<shm::Completion> Shard::serve_inode(AttachedPointer attached, unsigned queue,
                                             shm::Submission submission) {
  volume::Volume& volume = *attached->session->volume();
  std::string input = input_of(*attached->session, queue, submission);
  volume::InodeAnswer answer;
  if (submission.opcode == shm::Opcode::kLookup) {
    answer = co_await volume.lookup(*reactor_, submission.handle, std::move(input));
  } else if (submission.opcode == shm::Opcode::kResolve) {
    answer = co_await volume.resolve(*reactor_, std::move(input));
  } else {
    answer = co_await volume.attributes(*reactor_, submission.handle);
  }
  shm::Completion completion = completion_of(submission, answer.outcome);
  if (answer.outcome.ok()) {
    put_output(*attached->session, queue, submission, &answer.info, sizeof answer.info, &completion);
  }
  co_return completion;
}

io::Task<shm::Completion> Shard::serve_bytes(AttachedPointer attached, unsigned queue,
                                             shm::Submission submission) {
  volume::Volume& volume = *attached->session->volume();
  std::string input = input_of(*attached->session, queue, submission);
  volume::BytesAnswer answer;
  if (submission.opcode == shm::Opcode::kReadLink) {
    answer = co_await volume.read_link(*reactor_, submission.handle);
  } else if (submission.opcode == shm::Opcode::kGetXattr) {
    answer = co_await volume.get_xattr(*reactor_, submission.handle, std::move(input));
  } else if (submission.opcode == shm::Opcode::kListXattr) {
    answer = co_await volume.list_xattrs(*reactor_, submission.handle);
  } else {
    const volume::StatisticsAnswer counted = co_await volume.statistics(*reactor_);
    answer.outcome = counted.outcome;
    answer.bytes.assign(reinterpret_cast<const char*>(&counted.statistics), sizeof counted.statistics);
  }
  shm::Completion completion = completion_of(submission, answer.outcome);
  if (answer.outcome.ok()) {
    put_output(*attached->session, queue, submission, answer.bytes.data(), answer.bytes.size(), &completion);
  }
  co_return completion;
}

io::Task<shm::Completion> Shard::serve_map(AttachedPointer attached, unsigned queue,
                                           shm::Submission submission) {
  const volume::MapAnswer answer = co_await attached->session->volume()->file_map(
      *reactor_, submission.handle, submission.object, submission.offset);
  shm::Completion completion = completion_of(submission, answer.outcome);
  if (!answer.outcome.ok()) co_return completion;
  const size_t fit = std::min<size_t>(answer.pieces.size(), submission.buffer_length / sizeof(shm::MapPiece));
  if (fit == 0) completion.status = -ERANGE;
  put_output(*attached->session, queue, submission, answer.pieces.data(), fit * sizeof(shm::MapPiece),
             &completion);
  co_return completion;
}

io::Task<shm::Completion> Shard::serve_directory(AttachedPointer attached, unsigned queue,
                                                 shm::Submission submission) {
  const bool with_attributes = (submission.flags & shm::kSubmissionWithAttributes) != 0;
  const unsigned limit = with_attributes ? kItemsWithAttributes : kItemsPlain;
  const unsigned wanted = submission.length == 0 ? limit : std::min(limit, submission.length);
  const volume::DirectoryAnswer answer = co_await attached->session->volume()->read_directory(
      *reactor_, submission.handle, submission.offset, with_attributes, wanted);
  shm::Completion completion = completion_of(submission, answer.outcome);
  if (!answer.outcome.ok()) co_return completion;
  std::byte* const begin = attached->session->queue(queue).buffer() + submission.buffer_offset;
  const std::byte* const end = begin + submission.buffer_length;
  std::byte* at = begin;
  size_t written = 0;
  for (size_t used = 0; written < answer.items.size(); ++written, at += used) {
    if (!put_directory_record(answer.items[written], at, end, &used)) break;
  }
  const bool all = written == answer.items.size();
  if (!all && written == 0) completion.status = -ERANGE;
  if (all && answer.end) completion.flags |= shm::kCompletionEndOfDirectory;
  completion.result = static_cast<uint64_t>(at - begin);
  co_return completion;
}

}  // namespace cached::server
