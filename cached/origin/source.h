// The origin as the read path sees it: something that opens objects and reads their bytes.
//
// A volume implements Source with what its kind of origin needs (dir_file.h for directories). Objects are
// immutable: a reader either delivers bytes of the object that was asked for or says that the origin no
// longer has it.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <vector>

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
  // Whether small files lie in it one after another: then who reads them in order reads a stream, although
  // each file is opened by itself. Any thread.
  virtual bool is_pack() const { return false; }
  // Bytes of the aligned units that one read brings in whatever part of them is asked for, or 0: the rest of
  // a unit is worth keeping then. Any thread.
  virtual uint64_t unit_bytes() const { return 0; }
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
  bool files_follow = false;                       // files_ahead() is worth asking
};

// For whom an object is opened: who reads it now, or somebody who fetches it before it is read.
enum class Opener : uint8_t { kReader, kAhead };

// An object that is read after another one by who reads a tree in order.
struct FollowingObject {
  shm::ObjectId object;
  uint64_t size = 0;
};

// A small file that is read after others by who reads a directory in order.
struct FollowingFile {
  shm::Handle handle;
  shm::ObjectId object;
  uint64_t offset = 0;  // where it begins in the object; it ends in the object's first extent
  uint64_t size = 0;    // at least 1
  uint16_t data_set = 0;
};

class Source {
 public:
  virtual ~Source() = default;
  // Opens `object`, which is the content of the inode `handle`. Called on any shard; ends on `reactor`, the
  // caller's.
  virtual io::Task<OpenedObject> open(io::Reactor& reactor, shm::Handle handle, shm::ObjectId object,
                                      Opener opener) = 0;
  // Some of the files that follow `handle` in its directory, as open() said they do: open and known by name
  // now. None: that was all for now. Called on any shard; ends on `reactor`, the caller's.
  virtual io::Task<std::vector<FollowingFile>> files_ahead(io::Reactor& reactor, shm::Handle handle);
  // Up to `count` packs that follow the pack `object`, which holds the content of `handle`, in the order of
  // the tree; open() knows them for a while whatever the handle. None if the source cannot tell. Called on
  // any shard; ends on `reactor`, the caller's.
  virtual io::Task<std::vector<FollowingObject>> following(io::Reactor& reactor, shm::Handle handle,
                                                           shm::ObjectId object, unsigned count);
};

inline io::Task<std::vector<FollowingObject>> Source::following(io::Reactor&, shm::Handle, shm::ObjectId,
                                                                unsigned) {
  co_return std::vector<FollowingObject>();
}

inline io::Task<std::vector<FollowingFile>> Source::files_ahead(io::Reactor&, shm::Handle) {
  co_return std::vector<FollowingFile>();
}

}  // namespace cached::origin
