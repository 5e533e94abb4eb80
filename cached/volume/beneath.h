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
#include <cerrno>
#include <chrono>
#include <functional>
#include <future>
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
  // Opens the root directory. errno of the open, ENOTDIR. A source that does not answer for kOpenLimit is no
  // error: its root is there when it does, and until then every call fails with ETIMEDOUT at once.
  static Result<std::unique_ptr<Beneath>> open(const std::string& directory, const IdentityKey& key);

  // Who is asked to close what it can when the process has no descriptor left; on any thread, until this
  // object is gone. Before the first call. Calls then wait up to kDescriptorWait for one.
  void set_descriptors_short(std::function<void()> ask) { descriptors_short_ = std::move(ask); }

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
  // A child that open_children() opened.
  struct OpenedChild {
    std::string name;
    FoundInode inode;
    std::shared_ptr<origin::OpenFile> file;
  };
  // Opens those of `names` in the directory at `path`, which must be `handle`, that are regular files and can
  // be opened. None where the directory is another one.
  std::vector<OpenedChild> open_children(const std::string& path, const shm::Handle& handle,
                                         const std::vector<std::string>& names) const;
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
  // The names of the directory's entries of one type (DT_REG, DT_DIR) as it lists them, and of those of which
  // it does not tell the type; E2BIG if they have more than `maximum_bytes` together.
  Result<std::vector<std::string>> names_of_type(const std::string& path, const shm::Handle& handle,
                                                 unsigned char type, uint64_t maximum_bytes) const;

  // The object id of a version of a file: deterministic, or made unique by `nonce` if that is not 0.
  shm::ObjectId object_id(const FoundInode& inode, uint64_t nonce) const;

  // O_PATH, owned here; -1 with errno while it is not open.
  int root_fd() const;
  // The directory at `path`, as O_PATH. errno, ENOTDIR.
  Result<UniqueFd> open_directory(const std::string& path) const;

 private:
  static constexpr std::chrono::seconds kOpenLimit{5};
  // Longer than a connection that says nothing may keep its descriptor (server/session_server.cc).
  static constexpr std::chrono::seconds kDescriptorWait{8};
  // Also of the thread that opens, which a source that hangs keeps beyond our life.
  struct Root {
    std::promise<void> opened;
    std::atomic<int> fd{-1};
    std::atomic<int> error{ETIMEDOUT};  // why fd is -1
    ~Root();
  };

  Beneath(std::shared_ptr<Root> root, const IdentityKey& key) : root_(std::move(root)), key_(key) {}
  UniqueFd open_below_root(const std::string& path, int flags) const;
  UniqueFd open_at(int directory, const std::string& path, int flags) const;
  // The open directory, which must be `handle`.
  Result<UniqueFd> open_to_list(const std::string& path, const shm::Handle& handle) const;
  // Opens `path` as O_PATH and checks that it is `handle`. errno, ESTALE.
  Result<UniqueFd> open_known(const std::string& path, const shm::Handle& handle) const;
  bool allowed_file_system(uint64_t type, uint64_t device) const;

  std::shared_ptr<Root> root_;
  std::function<void()> descriptors_short_;
  IdentityKey key_;
  mutable std::atomic<uint64_t> last_good_device_{
      UINT64_MAX};  // of a FUSE source that was found not to be ours
};

}  // namespace cached::volume
