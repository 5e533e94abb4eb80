// FileRanges: where the bytes of a file lie, range by range, for who goes through a file without reading it:
// one object, or what the file's map says (shm/file_map.h).
//
// One coroutine at a time, on `home`, shard 0's reactor.
#pragma once

#include <vector>

#include "cached/dataset/tree_walk.h"

namespace cached::dataset {

// Bytes [begin, end) of `object`; not empty.
struct ObjectRange {
  shm::ObjectId object;
  uint64_t begin = 0;
  uint64_t end = 0;
  friend bool operator==(const ObjectRange&, const ObjectRange&) = default;
};

class FileRanges {
 public:
  // `volume` and `home` outlive it.
  FileRanges(volume::Volume& volume, io::Reactor& home, WalkedFile file)
      : volume_(volume), home_(home), file_(std::move(file)) {}

  // Appends the next ranges in the order of the file; none for what is a hole. An outcome that is not ok says
  // why they are not to be had, and is the end.
  io::Task<origin::Outcome> next(std::vector<ObjectRange>* ranges);
  bool ended() const { return position_ >= file_.size; }
  // How far it came in the file.
  uint64_t position() const { return position_; }

 private:
  volume::Volume& volume_;
  io::Reactor& home_;
  const WalkedFile file_;
  uint64_t position_ = 0;
};

}  // namespace cached::dataset
