// RingRegistry: the files and the memory that one io_uring has registered, and the rewriting of operations so
// that they use them.
//
// Why. For each operation the kernel looks a descriptor up and, for direct I/O, pins the pages that it moves;
// what is registered was looked up and pinned once. A registered file also outlives its descriptor and the
// process for as long as the ring has work, which is how the lock on a device tells that a dead daemon's
// I/O has ended (file_device.h).
//
// Memory is pinned in pieces, each at the first transfer into it, because pinning a large arena at once takes
// minutes; pages that were never touched would be allocated by it, so the owner says whether they are
// prepared. Registered memory is used only with registered files: these are devices, whose drivers all take
// it, while not every network file system does. A transfer uses it if it is one run within one piece.
//
// It degrades: without the table of files (EMFILE, a seccomp filter) nothing is rewritten; without the table
// of buffers (before Linux 5.19), or once a piece could not be pinned (the limit of locked memory, no
// memory), transfers go on from unregistered memory. Each of these is logged once.
//
// The reactor's own thread only.
#pragma once

#include <liburing.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/units.h"

namespace cached::io {

// Memory that transfers often use: a MAP_SHARED mapping whose pages are not taken away again (a hole punched
// into its file would leave the ring with the old pages, and reads would be lost).
struct BufferRange {
  std::byte* base = nullptr;  // aligned to pages
  size_t length_bytes = 0;
  // Whether these bytes of the range (offset from its base) are allocated, so that to pin them is cheap.
  // Asked again at each transfer until it says yes.
  std::function<bool(uint64_t offset_bytes, uint64_t length_bytes)> prepared;
  // How much is pinned at a time, a power of two of at least a page and at most 1 GiB; doubled where the
  // table would not have room for so many pieces. Transfers should not cross a multiple of it. Small, since
  // the reactor stands still meanwhile: 2 MiB take up to 1 ms where the pages were not in the page table yet.
  size_t piece_bytes = 2 * kMiB;
};

class RingRegistry {
 public:
  static constexpr unsigned kMaxFiles = 64;
  static constexpr unsigned kMaxPieces = 16384;  // the kernel's limit

  struct Stats {
    unsigned files = 0;                    // registered now
    unsigned pieces = 0;                   // registered now
    uint64_t fixed_file_operations = 0;    // that used a registered file
    uint64_t fixed_buffer_operations = 0;  // that used registered memory too
  };

  // Makes the table of files of `ring`, which must live as long as this and have nothing in flight yet (old
  // kernels would wait for it). `name` for the log. With `plain`, as on Linux 5.11.
  void open(io_uring* ring, const std::string& name, bool plain);

  // See Reactor::register_file, unregister_file and register_buffers.
  void add_file(int fd);
  void remove_file(int fd);
  void add_buffers(BufferRange range);

  // Makes `entry`, about to be submitted, use what is registered. Iovecs that it names are read.
  void rewrite(io_uring_sqe* entry);

  const Stats& stats() const { return stats_; }

 private:
  enum class Piece : uint8_t { kUntouched, kRegistered };
  struct Range {
    BufferRange memory;
    unsigned first_piece;  // its place in the table
    std::vector<Piece> pieces;
  };

  int slot_of(int fd) const;
  bool update_file(unsigned slot, int fd);
  bool have_buffer_table();
  int piece_of(const void* address, size_t length_bytes);
  bool register_piece(Range& range, size_t piece);
  void give_up_buffers(int error, const char* what);

  io_uring* ring_ = nullptr;
  std::string name_;
  bool files_usable_ = false;
  bool buffers_usable_ = false;
  bool buffer_table_made_ = false;
  unsigned files_end_ = 0;  // no slot from here on is in use
  std::array<int, kMaxFiles> files_{};
  std::vector<Range> ranges_;
  unsigned pieces_given_ = 0;  // of the table, to ranges
  Stats stats_;
};

}  // namespace cached::io
