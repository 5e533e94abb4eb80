// The origin as the read path sees it: something that opens objects and reads their bytes.
//
// A volume implements Source with what its kind of origin needs (dir_file.h for directories). Objects are
// immutable: a reader either delivers bytes of the object that was asked for or says that the origin no
// longer has it.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>

#include "cached/io/reactor.h"
#include "cached/io/task.h"
#include "shm/types.h"

namespace cached::origin {

// How an attempt to open or read ended.
struct Outcome {
  int error = 0;                // 0 or a positive errno: the origin's own, or EIO
  bool changed = false;         // ESTALE: the file is another object now
  bool handle_unknown = false;  // ESTALE: the handle must be resolved by path first
  bool ok() const { return error == 0; }
};

// An object that was opened, on any shard.
class ObjectReader {
 public:
  virtual ~ObjectReader() = default;
  // Length of the object in bytes. Any thread.
  virtual uint64_t size() const = 0;
  // How many bytes of neighbouring blocks one read should ask for at most. Any thread.
  virtual uint64_t run_bytes() const { return 1024 * 1024; }
  // Reads bytes [offset, offset + length) into `iovecs`, on `reactor` (the calling coroutine's). `offset` is
  // a multiple of 4 KiB, so is every buffer, and their sum is at least `length` rounded up to 4 KiB: direct
  // I/O may write that far. Either all `length` bytes are of this object or the outcome is an error. `iovecs`
  // is consumed as scratch space.
  virtual io::Task<Outcome> read(io::Reactor& reactor, uint64_t offset, uint64_t length,
                                 std::vector<iovec> iovecs) = 0;
};

struct OpenedObject {
  Outcome outcome;
  std::shared_ptr<ObjectReader> reader = nullptr;  // set if outcome.ok()
  uint16_t data_set = 0;                           // that the inode belongs to; 0: not told
};

class Source {
 public:
  virtual ~Source() = default;
  // Opens `object`, which is the content of the inode `handle`. Called on any shard; ends on `reactor`, the
  // caller's.
  virtual io::Task<OpenedObject> open(io::Reactor& reactor, shm::Handle handle, shm::ObjectId object) = 0;
};

}  // namespace cached::origin
