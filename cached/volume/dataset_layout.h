// ObjectLayout: which pieces of a data object are stored, how long they are, and which checksum belongs to
// which block. Pure; immutable once made; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/status.h"
#include "cached/volume/dataset_format.h"

namespace cached::volume {

class ObjectLayout {
 public:
  // `extents` is where the data is, for an object that is not dense. EIO if the two do not fit each other.
  static Result<ObjectLayout> make(const ObjectRecord& record, std::vector<Extent> extents);

  // The layout of an object that is about to be stored; its record gets the count of checksums. `extents` as
  // above; all of it is the caller's own.
  static ObjectLayout plan(ObjectRecord record, std::vector<Extent> extents);

  const ObjectRecord& record() const { return record_; }
  const std::vector<Extent>& extents() const { return extents_; }
  uint64_t size() const { return record_.size; }
  uint64_t pieces() const { return (record_.size + kPieceBytes - 1) / kPieceBytes; }
  // Bytes of the RADOS object of `piece`, 0 if there is none; what is missing to its end is a hole.
  uint64_t stored_bytes(uint64_t piece) const;
  // Calls `visit(piece)` for each stored piece, in order, until it returns false.
  template <typename Visit>
  void for_each_piece(const Visit& visit) const {
    for (const Run& run : runs_) {
      for (uint64_t i = 0; i < run.count; ++i) {
        if (!visit(run.first + i)) return;
      }
    }
  }
  uint64_t stored_pieces() const;
  // Blocks of `piece`, stored or not.
  uint64_t blocks_of(uint64_t piece) const;
  // The place of a block's checksum among those of the object; none for blocks of pieces that are not stored.
  std::optional<uint64_t> checksum_of_block(uint64_t block) const;
  uint64_t checksums() const;

 private:
  // Neighbouring stored pieces; `before` is how many are stored in front of them.
  struct Run {
    uint64_t first = 0;
    uint64_t count = 0;
    uint64_t before = 0;
  };
  ObjectLayout(const ObjectRecord& record, std::vector<Extent> extents);
  const Run* run_of(uint64_t piece) const;

  ObjectRecord record_;
  std::vector<Extent> extents_;
  std::vector<Run> runs_;
};

// The multiple at which a file of `size` bytes begins in a pack.
uint64_t pack_alignment(uint64_t size);

}  // namespace cached::volume
