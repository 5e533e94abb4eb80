// Maps of files: see file_map.h.
#include "shm/file_map.h"

#include <algorithm>

namespace cached::shm {

bool run_is_sound(const MapRun& run, uint64_t offset) {
  if (run.empty() || run.front().file_offset > offset || run.back().end() <= offset) return false;
  uint64_t expected = run.front().file_offset;
  for (const MapPiece& piece : run) {
    if (piece.file_offset != expected || piece.length == 0) return false;
    if (piece.length > UINT64_MAX - piece.file_offset || piece.length > UINT64_MAX - piece.object_offset)
      return false;
    expected = piece.end();
  }
  return true;
}

const MapPiece* find_piece_of(const MapRun& run, uint64_t offset) {
  const auto after = std::upper_bound(run.begin(), run.end(), offset, [](uint64_t at, const MapPiece& piece) {
    return at < piece.file_offset;
  });
  if (after == run.begin()) return nullptr;
  const MapPiece& piece = *(after - 1);
  return offset < piece.end() ? &piece : nullptr;
}

std::shared_ptr<const MapRun> FileMapCache::find(const Handle& handle, const ObjectId& version,
                                                 uint64_t offset) {
  const std::lock_guard lock(mutex_);
  const auto found = index_.find({handle, version});
  if (found == index_.end()) return nullptr;
  files_.splice(files_.begin(), files_, found->second);
  for (const auto& run : found->second->runs) {
    if (run->front().file_offset <= offset && offset < run->back().end()) return run;
  }
  return nullptr;
}

void FileMapCache::put(const Handle& handle, const ObjectId& version, std::shared_ptr<const MapRun> run) {
  const std::lock_guard lock(mutex_);
  const Key key{handle, version};
  auto found = index_.find(key);
  if (found == index_.end()) {
    files_.push_front({key, {}, 0});
    found = index_.emplace(key, files_.begin()).first;
  }
  File& file = *found->second;
  files_.splice(files_.begin(), files_, found->second);
  const uint64_t begin = run->front().file_offset;
  const uint64_t end = run->back().end();
  // What lies within the new run is not needed any more: a file has few runs, and no place twice.
  std::erase_if(file.runs, [&](const auto& old) {
    if (old->front().file_offset < begin || old->back().end() > end) return false;
    file.pieces -= old->size();
    pieces_ -= old->size();
    return true;
  });
  file.pieces += run->size();
  pieces_ += run->size();
  const auto place =
      std::lower_bound(file.runs.begin(), file.runs.end(), begin,
                       [](const auto& old, uint64_t at) { return old->front().file_offset < at; });
  file.runs.insert(place, std::move(run));
  while (pieces_ > kMaximumPieces && files_.size() > 1) erase_locked(index_.find(files_.back().key));
  if (pieces_ > kMaximumPieces) erase_locked(index_.find(key));
}

void FileMapCache::forget(const Handle& handle, const ObjectId& version) {
  const std::lock_guard lock(mutex_);
  const auto found = index_.find({handle, version});
  if (found != index_.end()) erase_locked(found);
}

void FileMapCache::erase_locked(std::unordered_map<Key, Files::iterator, KeyHash>::iterator found) {
  pieces_ -= found->second->pieces;
  files_.erase(found->second);
  index_.erase(found);
}

size_t FileMapCache::pieces() const {
  const std::lock_guard lock(mutex_);
  return pieces_;
}

}  // namespace cached::shm
