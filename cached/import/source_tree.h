// SourceTree: the directory that is imported, read without ever leaving it.
//
// Everything is opened beneath the root's descriptor with openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
// RESOLVE_NO_MAGICLINKS), as in volume/beneath.h: whatever is swapped for a symlink while the import runs, we
// do not follow it. Paths are relative to the root, "" is the root, and may be of any length.
//
// Any thread; all calls block.
#pragma once

#include <sys/stat.h>

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "cached/volume/dataset_entry.h"
#include "cached/volume/dataset_format.h"

namespace cached::import {

// All that is kept of an inode but its content.
struct SourceInode {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t nlink = 1;
  uint64_t size = 0;
  uint64_t blocks_512 = 0;
  uint64_t special_device = 0;  // st_rdev
  volume::Timestamp mtime, atime, ctime;
  bool unsettled = false;  // changed so lately that another change might not show
  bool holes = false;      // a regular file that has some
  std::string target;      // of a symbolic link
  std::vector<volume::Xattr> xattrs;

  // Whether content and attributes are what they were, as far as times tell.
  bool same_version(const SourceInode& other) const {
    return device == other.device && inode == other.inode && size == other.size && mtime == other.mtime &&
           ctime == other.ctime && mode == other.mode;
  }
};

// Nanoseconds since the epoch; times beyond what fits (years 1684 to 2255) count as its ends.
int64_t clamped_ns(const volume::Timestamp& time);

class SourceTree {
 public:
  // A file changed less than `settle_ns` ago counts as unsettled.
  static Result<std::unique_ptr<SourceTree>> open(const std::string& directory, int64_t settle_ns);

  Result<UniqueFd> open_directory(const std::string& path) const;
  // Opens a regular file for reading; neither its atime nor anything else is changed where we may choose.
  Result<UniqueFd> open_file(const std::string& path) const;
  // Names in an open directory, sorted as bytes, without "." and "..".
  Result<std::vector<std::string>> list(int directory) const;
  // `name` in an open directory, not followed; xattrs and target included. "" is the directory itself.
  Result<SourceInode> inspect(int directory, const std::string& name) const;
  // An open file, without xattrs.
  Result<SourceInode> inspect_file(int fd) const;
  // Where the data of an open file lies; one extent if the source cannot tell, or there are no holes.
  Result<std::vector<volume::Extent>> extents(int fd, uint64_t size) const;

  // The inode number to show: the source's own on the root's file system, else a hash.
  uint64_t shown_inode(const SourceInode& inode) const;
  int root_fd() const { return root_.get(); }

 private:
  SourceTree(UniqueFd root, uint64_t device, int64_t settle_ns)
      : root_(std::move(root)), device_(device), settle_ns_(settle_ns) {}
  SourceInode inode_of(const struct statx& attributes) const;
  Result<UniqueFd> open_beneath(const std::string& path, int flags) const;

  const UniqueFd root_;
  const uint64_t device_;
  const int64_t settle_ns_;
};

}  // namespace cached::import
