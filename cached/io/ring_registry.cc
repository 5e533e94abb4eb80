// What a ring has registered: see ring_registry.h.
#include "cached/io/ring_registry.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/log.h"

namespace cached::io {
namespace {

constexpr int kFree = -1;  // the kernel's mark of an empty slot too

bool takes_registered_file(const io_uring_sqe& entry) {
  return entry.fd >= 0 && entry.opcode != IORING_OP_STATX;
}

}  // namespace

// Files.

void RingRegistry::open(io_uring* ring, const std::string& name, bool plain) {
  ring_ = ring;
  name_ = name;
  buffers_usable_ = !plain;
  files_.fill(kFree);
  // An array of free slots instead of the sparse flag of 5.19: it is the same table, on any kernel.
  const int result = io_uring_register_files(ring_, files_.data(), kMaxFiles);
  files_usable_ = result == 0;
  if (files_usable_) return;
  log_warning("reactor {}: cannot register files with its io_uring (errno {}); I/O goes on without", name_,
              -result);
}

void RingRegistry::add_file(int fd) {
  if (!files_usable_ || slot_of(fd) >= 0) return;
  const auto* const place = std::find(files_.begin(), files_.end(), kFree);
  if (place == files_.end()) return;
  const auto slot = static_cast<unsigned>(place - files_.begin());
  if (!update_file(slot, fd)) return;
  files_[slot] = fd;
  files_end_ = std::max(files_end_, slot + 1);
  ++stats_.files;
}

void RingRegistry::remove_file(int fd) {
  const int slot = slot_of(fd);
  if (slot < 0) return;
  const auto index = static_cast<unsigned>(slot);
  update_file(index, kFree);
  files_[index] = kFree;
  --stats_.files;
}

bool RingRegistry::update_file(unsigned slot, int fd) {
  const int result = io_uring_register_files_update(ring_, slot, &fd, 1);
  if (result == 1) return true;
  files_usable_ = false;  // for further ones
  log_warning("reactor {}: cannot change its io_uring's registered files (errno {}); I/O goes on without",
              name_, -result);
  return false;
}

// -1 if it is not registered. There are a handful.
int RingRegistry::slot_of(int fd) const {
  for (unsigned slot = 0; slot < files_end_; ++slot) {
    if (files_[slot] == fd) return static_cast<int>(slot);
  }
  return -1;
}

// Memory.

void RingRegistry::add_buffers(BufferRange range) {
  if (!have_buffer_table()) return;
  const unsigned room = kMaxPieces - pieces_given_;
  size_t count = 0;
  do {
    count = (range.length_bytes + range.piece_bytes - 1) / range.piece_bytes;
    if (count > room) range.piece_bytes *= 2;
  } while (count > room && range.piece_bytes <= kGiB);
  if (count > room) {
    log_warning("reactor {}: no room to register {} more of memory; I/O with it goes on without", name_,
                format_size(range.length_bytes));
    return;
  }
  ranges_.push_back(Range{std::move(range), pieces_given_, std::vector<Piece>(count, Piece::kUntouched)});
  pieces_given_ += static_cast<unsigned>(count);
}

bool RingRegistry::have_buffer_table() {
  if (!buffers_usable_ || buffer_table_made_) return buffers_usable_;
  const int result = io_uring_register_buffers_sparse(ring_, kMaxPieces);
  if (result < 0) give_up_buffers(-result, "make its io_uring's table of buffers");
  buffer_table_made_ = result >= 0;
  return buffer_table_made_;
}

void RingRegistry::give_up_buffers(int error, const char* what) {
  buffers_usable_ = false;
  log_warning(
      "reactor {}: cannot {} (errno {}); I/O goes on from unregistered memory, at a higher cost in CPU. With "
      "ENOMEM or EPERM: raise LimitMEMLOCK or give the daemon CAP_IPC_LOCK",
      name_, what, error);
}

// The place in the table of the piece that holds all of [address, address + length); -1 if there is none.
int RingRegistry::piece_of(const void* address, size_t length_bytes) {
  const auto* const begin = static_cast<const std::byte*>(address);
  for (Range& range : ranges_) {
    const BufferRange& memory = range.memory;
    const auto distance = reinterpret_cast<uintptr_t>(begin) - reinterpret_cast<uintptr_t>(memory.base);
    if (distance >= memory.length_bytes || length_bytes > memory.length_bytes - distance) continue;
    const size_t piece = distance / memory.piece_bytes;
    if (length_bytes > memory.piece_bytes - distance % memory.piece_bytes) return -1;
    if (range.pieces[piece] != Piece::kRegistered && !register_piece(range, piece)) return -1;
    return static_cast<int>(range.first_piece + piece);
  }
  return -1;
}

bool RingRegistry::register_piece(Range& range, size_t piece) {
  if (!buffers_usable_) return false;
  const size_t offset_bytes = piece * range.memory.piece_bytes;
  const size_t length_bytes = std::min(range.memory.piece_bytes, range.memory.length_bytes - offset_bytes);
  if (!range.memory.prepared(offset_bytes, length_bytes)) return false;
  const iovec memory{range.memory.base + offset_bytes, length_bytes};
  const __u64 no_tag = 0;
  const int result = io_uring_register_buffers_update_tag(
      ring_, range.first_piece + static_cast<unsigned>(piece), &memory, &no_tag, 1);
  if (result != 1) {
    give_up_buffers(-result, "register memory with its io_uring");
    return false;
  }
  range.pieces[piece] = Piece::kRegistered;
  ++stats_.pieces;
  return true;
}

// Operations.

void RingRegistry::rewrite(io_uring_sqe* entry) {
  if (files_end_ == 0 || !takes_registered_file(*entry)) return;
  const int slot = slot_of(entry->fd);
  if (slot < 0) return;
  entry->fd = slot;
  entry->flags |= IOSQE_FIXED_FILE;
  ++stats_.fixed_file_operations;
  const bool reads = entry->opcode == IORING_OP_READV;
  if ((!reads && entry->opcode != IORING_OP_WRITEV) || entry->len != 1) return;
  const iovec transfer = *reinterpret_cast<const iovec*>(static_cast<uintptr_t>(entry->addr));
  const int piece = piece_of(transfer.iov_base, transfer.iov_len);
  if (piece < 0) return;
  entry->opcode = reads ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
  entry->addr = reinterpret_cast<uintptr_t>(transfer.iov_base);
  entry->len = static_cast<unsigned>(transfer.iov_len);
  entry->buf_index = static_cast<uint16_t>(piece);
  ++stats_.fixed_buffer_operations;
}

}  // namespace cached::io
