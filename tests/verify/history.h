// FileHistory: which states a file went through, and when, so that a read can be judged afterwards.
//
// A state is what one inode holds between two changes. A change is not instantaneous: it takes effect at some
// time between its begin and its end. So a state counts as current from the begin of the change that made it
// to the end of the change that replaced it, and two states may be current at one time. All times are
// CLOCK_MONOTONIC nanoseconds.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

namespace cached::verify {

inline constexpr uint64_t kForever = UINT64_MAX;

enum class ChangeKind : uint8_t {
  kInitial,   // not a change: how the file was when the run began
  kInPlace,   // one pwrite of the whole file, same size
  kRename,    // a new file was renamed over it
  kTruncate,  // ftruncate to a smaller size
  kGrow,      // bytes appended in place
  kRewrite,   // truncated to nothing; the new content follows as kGrow, as cp does it
  kRemove,    // unlinked
  kCreate,    // made anew after kRemove
};

const char* change_name(ChangeKind kind);

struct FileState {
  uint64_t version = 0;  // of the content
  uint64_t size = 0;
  uint64_t inode = 0;  // counts the inodes that the name has led to; an open file keeps its own
  bool present = true;
  ChangeKind made_by = ChangeKind::kInitial;
  uint64_t begin_ns = 0;       // the change that made it began
  uint64_t made_ns = 0;        // that change ended; kForever while it is under way
  uint64_t end_ns = kForever;  // the change that replaced it ended
};

class FileHistory {
 public:
  FileHistory() = default;
  explicit FileHistory(const FileState& initial) : states_{initial} {}
  FileHistory(FileHistory&& other) noexcept : states_(std::move(other.states_)) {}

  // The newest state. Any thread, but only the file's one changer may conclude that it stays the newest.
  FileState latest() const;
  // Records that a change to `next` begins at `now_ns`; call it before the first system call of the change.
  void begin_change(FileState next, uint64_t now_ns);
  // Records that the change is complete; call it after the last system call.
  void end_change(uint64_t now_ns);
  // All states from the first to the last, in order.
  std::vector<FileState> states() const;

 private:
  mutable std::mutex mutex_;
  std::vector<FileState> states_;
};

}  // namespace cached::verify
