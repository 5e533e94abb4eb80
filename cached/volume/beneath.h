// System calls on a source directory that never leave its root: the blocking half of a `dir:` volume.
//
// Every path is opened with openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS) from the
// root's descriptor, so neither "..", nor a symlink anywhere in it (however directories are swapped while we
// walk), nor a magic link leads outside. The last component may be a symlink, which is then opened itself and
// not followed.
//
// Identity. A handle is a keyed hash of file-system id, inode number and generation (the kernel's file handle
// where the file system has one, else the birth time), so it stays the same over restarts and is not reused
// when an inode number is. Every call that takes a handle checks that the path still leads to it; if it does
// not, ESTALE.
//
// Threads: any; all calls may block and belong on a BlockingPool.
#pragma once

#include <sys/stat.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "cached/origin/dir_file.h"
#include "shm/types.h"

namespace cached::volume {

// The daemon's secret for handles and object ids; kept in the state directory so that both outlive restarts.
using IdentityKey = std::array<unsigned char, 32>;
// Reads the key from `state_dir`/identity.key, or makes it (mode 0600) if there is none yet.
Result<IdentityKey> load_identity_key(const std::string& state_dir);

// An inode as found at the source.
struct FoundInode {
  int error = 0;  // a positive errno; the rest is valid only if 0
  shm::Handle handle = {};
  origin::FileVersion version = {};
  uint64_t file_system_id = 0;
  shm::Handle generation = {};  // hash of what tells reused inode numbers apart
  shm::InodeInfo info = {};     // without object id
};

class Beneath {
 public:
  // Opens the root directory. errno of the open, ENOTDIR.
  static Result<std::unique_ptr<Beneath>> open(const std::string& directory, const IdentityKey& key);

  // The inode at `path` ("" is the root).
  FoundInode find(const std::string& path) const;
  // The inode `name` in the directory at `parent_path`, which must be `parent`.
  FoundInode find_child(const std::string& parent_path, const shm::Handle& parent,
                        const std::string& name) const;
  // Every inode on the way to `path`, the root first; stops at the first error, which is the last element's.
  std::vector<FoundInode> walk(const std::string& path) const;
  // The inode behind an open descriptor.
  FoundInode inspect(int fd) const;

  // Opens the regular file at `path`, which must be `handle`, for reading. errno, ESTALE.
  Result<std::shared_ptr<origin::OpenFile>> open_file(const std::string& path,
                                                      const shm::Handle& handle) const;
  Result<std::string> read_link(const std::string& path, const shm::Handle& handle) const;
  Result<std::string> get_xattr(const std::string& path, const shm::Handle& handle,
                                const std::string& name) const;
  Result<std::string> list_xattrs(const std::string& path, const shm::Handle& handle) const;

  struct Entry {
    std::string name;
    uint64_t ino = 0;
    uint64_t next_cookie = 0;
    uint8_t type = 0;
    FoundInode inode = {};  // filled if asked for; inode.error is ENODATA otherwise
  };
  struct Listing {
    std::vector<Entry> entries;
    bool end = false;
  };
  Result<Listing> list(const std::string& path, const shm::Handle& handle, uint64_t cookie,
                       bool with_attributes, unsigned maximum_entries) const;

  // The object id of a version of a file: deterministic, or made unique by `nonce` if that is not 0.
  shm::ObjectId object_id(const FoundInode& inode, uint64_t nonce) const;

  int root_fd() const { return root_.get(); }
  // The directory at `path`, as O_PATH. errno, ENOTDIR.
  Result<UniqueFd> open_directory(const std::string& path) const;

 private:
  Beneath(UniqueFd root, const IdentityKey& key) : root_(std::move(root)), key_(key) {}
  UniqueFd open_at(int directory, const std::string& path, int flags) const;
  // Opens `path` as O_PATH and checks that it is `handle`. errno, ESTALE.
  Result<UniqueFd> open_known(const std::string& path, const shm::Handle& handle) const;
  bool allowed_file_system(uint64_t type, uint64_t device) const;

  UniqueFd root_;
  IdentityKey key_;
  mutable std::atomic<uint64_t> last_good_device_{
      UINT64_MAX};  // of a FUSE source that was found not to be ours
};

}  // namespace cached::volume
