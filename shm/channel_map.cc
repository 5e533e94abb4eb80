// Reading files that lie in several objects (LayoutKind::kMap): the map says which, channel_read.cc reads
// each.
//
// Most requests fall into one piece, and those are shown in place like any other. One that touches several
// pieces is put together in memory of the channel's own, since a view cannot hold the pins of several reads.
#include <algorithm>
#include <array>
#include <cstring>

#include "shm/channel_impl.h"

namespace cached::shm {
namespace {

constexpr uint64_t kZeroBytes = 64 * 1024;
constexpr std::array<std::byte, kZeroBytes> kZeros{};

FileReference object_part(const FileReference& file, const MapPiece& piece, uint64_t offset) {
  FileReference part = file;
  part.object = piece.object;
  part.layout_base = piece.object_offset + (offset - piece.file_offset);
  part.layout = LayoutKind::kObject;
  return part;
}

}  // namespace

Result<std::shared_ptr<const MapRun>> Channel::Impl::map_run(const FileReference& file, uint64_t offset) {
  if (auto known = client_->maps().find(file.handle, file.object, offset)) return known;
  const uint64_t deadline = deadline_ns();
  Request request = make_request(Opcode::kFileMap, file.handle, deadline);
  request.submission.object = file.object;
  request.submission.offset = offset;
  request.submission.buffer_length = static_cast<uint32_t>(output_room());
  CACHED_RETURN_IF_ERROR(ask(&request, deadline));
  CACHED_RETURN_IF_ERROR(answer_status(request.completion, "for a file's map"));
  Result<std::string_view> output = output_of(request);
  if (!output.ok()) return output.status();
  auto run = std::make_shared<MapRun>(output->size() / sizeof(MapPiece));
  std::memcpy(static_cast<void*>(run->data()), output->data(), run->size() * sizeof(MapPiece));
  if (output->size() % sizeof(MapPiece) != 0 || !run_is_sound(*run, offset))
    return Status(EIO,
                  "cached answered for a file's map with what cannot be one; this is a defect of cached");
  client_->maps().put(file.handle, file.object, run);
  return std::shared_ptr<const MapRun>(std::move(run));
}

Status Channel::Impl::read_mapped(const FileReference& file, uint64_t offset, uint64_t length) {
  if (length > kMaximumReadBytes || offset > UINT64_MAX - length)
    return Status(EINVAL, "a read longer than the limit");
  for (bool again = false;; again = true) {
    bool map_is_over = false;
    Status status = read_pieces(file, offset, length, &map_is_over);
    if (status.ok() || trouble_ != Trouble::kObjectChanged || map_is_over || again) return status;
    // An object that the map names is gone, and the file's bytes may lie elsewhere now.
    client_->maps().forget(file.handle, file.object);
    give_back(&read_);
    forget_trouble();
  }
}

Status Channel::Impl::read_pieces(const FileReference& file, uint64_t offset, uint64_t length,
                                  bool* map_is_over) {
  std::shared_ptr<const MapRun> run;
  for (uint64_t done = 0; done < length;) {
    const uint64_t position = offset + done;
    const MapPiece* piece = run == nullptr ? nullptr : find_piece_of(*run, position);
    if (piece == nullptr) {
      Result<std::shared_ptr<const MapRun>> found = map_run(file, position);
      *map_is_over = !found.ok();
      if (!found.ok()) return found.status();
      run = std::move(found).value();
      piece = find_piece_of(*run, position);
    }
    const uint64_t part = std::min(piece->end() - position, length - done);
    const bool whole = part == length;
    if (whole && piece->object.empty()) {
      show_zeros(length);
      return Status();
    }
    if (whole) return read(object_part(file, *piece, position), 0, length);
    if (assembled_.size() < length) assembled_.resize(length);
    if (piece->object.empty()) {
      std::memset(assembled_.data() + done, 0, part);
    } else {
      CACHED_RETURN_IF_ERROR(copy_piece(object_part(file, *piece, position), part, done));
    }
    done += part;
  }
  append(assembled_.data(), length, &read_);
  return Status();
}

void Channel::Impl::show_zeros(uint64_t length) {
  for (uint64_t shown = 0; shown < length; shown += kZeroBytes) {
    append(kZeros.data(), std::min(kZeroBytes, length - shown), &read_);
  }
}

Status Channel::Impl::copy_piece(const FileReference& part, uint64_t length, uint64_t done) {
  CACHED_RETURN_IF_ERROR(read(part, 0, length));
  for (unsigned i = 0; i < read_.iovec_count; ++i) {
    std::memcpy(assembled_.data() + done, read_.iovecs[i].iov_base, read_.iovecs[i].iov_len);
    done += read_.iovecs[i].iov_len;
  }
  give_back(&read_);
  return Status();
}

void Channel::Impl::prefetch_mapped(const FileReference& file, uint64_t offset, uint64_t length) {
  for (uint64_t done = 0; done < length;) {
    const auto run = client_->maps().find(file.handle, file.object, offset + done);
    if (run == nullptr) return;
    const MapPiece& piece = *find_piece_of(*run, offset + done);
    const uint64_t part = std::min(piece.end() - (offset + done), length - done);
    if (!piece.object.empty()) prefetch(object_part(file, piece, offset + done), 0, part);
    done += part;
  }
}

}  // namespace cached::shm
