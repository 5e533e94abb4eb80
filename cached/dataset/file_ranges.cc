// Where the bytes of a file lie: see file_ranges.h.
#include "cached/dataset/file_ranges.h"

#include <algorithm>
#include <cerrno>

namespace cached::dataset {

io::Task<origin::Outcome> FileRanges::next(std::vector<ObjectRange>* ranges) {
  if (!file_.mapped) {
    if (file_.size > 0) ranges->push_back({file_.object, file_.layout_base, file_.layout_base + file_.size});
    position_ = file_.size;
    co_return origin::Outcome{};
  }
  const volume::MapAnswer answer = co_await volume_.file_map(home_, file_.handle, file_.object, position_);
  if (!answer.outcome.ok()) co_return answer.outcome;
  if (!shm::run_is_sound(answer.pieces, position_)) co_return origin::Outcome{.error = EIO};
  for (const shm::MapPiece& piece : answer.pieces) {
    const uint64_t end = std::min(piece.end(), file_.size);
    if (end <= position_) continue;
    if (!piece.object.empty()) {
      const uint64_t begin = piece.object_offset + (position_ - piece.file_offset);
      ranges->push_back({piece.object, begin, begin + (end - position_)});
    }
    position_ = end;
  }
  co_return origin::Outcome{};
}

}  // namespace cached::dataset
