// Version history of a file.
#include "tests/verify/history.h"

namespace cached::verify {

const char* change_name(ChangeKind kind) {
  switch (kind) {
    case ChangeKind::kInitial:
      return "initial";
    case ChangeKind::kInPlace:
      return "inplace";
    case ChangeKind::kRename:
      return "rename";
    case ChangeKind::kTruncate:
      return "truncate";
    case ChangeKind::kGrow:
      return "grow";
    case ChangeKind::kRewrite:
      return "rewrite";
    case ChangeKind::kRemove:
      return "remove";
    case ChangeKind::kCreate:
      return "create";
  }
  return "?";
}

FileState FileHistory::latest() const {
  const std::lock_guard lock(mutex_);
  return states_.back();
}

void FileHistory::begin_change(FileState next, uint64_t now_ns) {
  next.begin_ns = now_ns;
  next.made_ns = kForever;
  next.end_ns = kForever;
  const std::lock_guard lock(mutex_);
  states_.push_back(next);
}

void FileHistory::end_change(uint64_t now_ns) {
  const std::lock_guard lock(mutex_);
  states_.back().made_ns = now_ns;
  states_[states_.size() - 2].end_ns = now_ns;
}

std::vector<FileState> FileHistory::states() const {
  const std::lock_guard lock(mutex_);
  return states_;
}

}  // namespace cached::verify
