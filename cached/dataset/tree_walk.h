// TreeWalk: the files below a place of a volume, as one user sees them: what that user could not reach, list
// or read through a mount is left out and counted.
//
// One coroutine at a time, on `home`, shard 0's reactor. Nothing is read but metadata.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "cached/dataset/access.h"
#include "cached/io/task.h"
#include "cached/volume/volume.h"

namespace cached::dataset {

struct WalkedFile {
  std::string path;  // in the volume
  shm::Handle handle;
  shm::ObjectId object;  // its content, or (`mapped`) the version that its map belongs to
  bool mapped = false;   // it lies in several objects: file_ranges.h tells which
  uint64_t layout_base = 0;
  uint64_t size = 0;
  uint16_t data_set = 0;
};

// A place as messages name it: "VOLUME:/PATH".
std::string shown_place(const volume::Volume& volume, const std::string& path);

class TreeWalk {
 public:
  // `volume` and `home` outlive the walk.
  TreeWalk(volume::Volume& volume, io::Reactor& home, Caller caller)
      : volume_(volume), home_(home), caller_(std::move(caller)) {}

  // Begins at `path` ("a/b", empty for the root): a file or a directory. ENOENT, ENOTDIR, EACCES where the
  // user may not go, EINVAL for what is neither file nor directory; messages name the path.
  io::Task<Status> begin(std::string path);
  // The next files, some hundred at most; none at the end. What cannot be listed is counted and left out.
  io::Task<std::vector<WalkedFile>> next();
  bool ended() const { return stack_.empty() && single_.empty(); }

  // Files and directories that the user may not read.
  uint64_t refused() const { return refused_; }
  // Directories that could not be listed, and why the first of them could not.
  uint64_t failed() const { return failed_; }
  const std::string& first_failure() const { return first_failure_; }

 private:
  struct Directory {
    std::string path;
    shm::Handle handle;
    uint64_t cookie = 0;
  };
  static constexpr size_t kMaximumDepth = 512;

  io::Task<bool> allowed(shm::InodeInfo inode, unsigned wanted);
  io::Task<volume::DirectoryAnswer> list(Directory* directory);
  void note_failure(const std::string& path, int error);
  static WalkedFile file_of(std::string path, const shm::InodeInfo& inode);

  volume::Volume& volume_;
  io::Reactor& home_;
  const Caller caller_;
  std::vector<Directory> stack_;
  std::vector<WalkedFile> single_;  // a walk of one file
  uint64_t refused_ = 0;
  uint64_t failed_ = 0;
  std::string first_failure_;
};

}  // namespace cached::dataset
