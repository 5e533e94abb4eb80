// Reading a source directory: see source_tree.h.
#include "cached/import/source_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <xxhash.h>

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"

namespace cached::import {
namespace {

constexpr int64_t kNanosecondsInSecond = 1'000'000'000;
constexpr size_t kLongestPath = 3800;  // one openat2 takes 4095 bytes
constexpr unsigned kStatxMask = STATX_BASIC_STATS;

// Attributes that describe where the source keeps the file, not the file.
bool kept_xattr(std::string_view name) {
  return !name.starts_with("lustre.") && !name.starts_with("trusted.lov") && !name.starts_with("ceph.");
}

volume::Timestamp timestamp(const statx_timestamp& time) {
  return {time.tv_sec, time.tv_nsec};
}

// Whether it is worth looking. Compressing file systems have fewer blocks without holes, and small files may
// lie in the inode.
bool may_have_holes(const SourceInode& inode) {
  return S_ISREG(inode.mode) && inode.size > 4096 && inode.blocks_512 * 512 < inode.size;
}

// The path of `name` in `directory` through /proc, for calls on xattrs, which know no descriptors of
// directories.
std::string proc_path(int directory, const std::string& name) {
  return "/proc/self/fd/" + std::to_string(directory) + (name.empty() ? "" : "/" + name);
}

// Calls `read(buffer, size)` with growing buffers until what it returns fits.
template <typename Read>
Result<std::string> read_growing(const Read& read, const char* what) {
  std::string bytes(512, '\0');
  for (;;) {
    const ssize_t got = read(bytes.data(), bytes.size());
    if (got >= 0) {
      bytes.resize(static_cast<size_t>(got));
      return bytes;
    }
    if (errno != ERANGE || bytes.size() > volume::kMaximumXattrBytes) return Status::from_errno(what);
    bytes.resize(bytes.size() * 4);
  }
}

Result<std::vector<volume::Xattr>> read_xattrs(const std::string& path, bool follow) {
  std::vector<volume::Xattr> xattrs;
  const auto list = [&](char* buffer, size_t size) {
    return follow ? ::listxattr(path.c_str(), buffer, size) : ::llistxattr(path.c_str(), buffer, size);
  };
  const Result<std::string> names = read_growing(list, "its extended attributes cannot be listed");
  if (names.error_number() == EOPNOTSUPP) return xattrs;
  if (!names.ok()) return names.status();
  size_t total = 0;
  for (size_t begin = 0; begin < names->size();) {
    const std::string name(names->c_str() + begin);
    begin += name.size() + 1;
    if (!kept_xattr(name)) continue;
    const auto get = [&](char* buffer, size_t size) {
      return follow ? ::getxattr(path.c_str(), name.c_str(), buffer, size)
                    : ::lgetxattr(path.c_str(), name.c_str(), buffer, size);
    };
    Result<std::string> value = read_growing(get, "an extended attribute cannot be read");
    if (!value.ok()) return value.status().with_context(printable(name));
    total += name.size() + value->size();
    if (total > volume::kMaximumXattrBytes)
      return Status(E2BIG, "it has more than 1 MiB of extended attributes");
    xattrs.push_back({name, std::move(value).value()});
  }
  std::sort(xattrs.begin(), xattrs.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return xattrs;
}

}  // namespace

int64_t clamped_ns(const volume::Timestamp& time) {
  constexpr int64_t kFarSeconds = 9'000'000'000;
  return std::clamp(time.seconds, -kFarSeconds, kFarSeconds) * kNanosecondsInSecond + time.nanoseconds;
}

Result<std::unique_ptr<SourceTree>> SourceTree::open(const std::string& directory, int64_t settle_ns) {
  UniqueFd root(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return Status::from_errno("the directory " + printable(directory) + " cannot be opened");
  struct statx attributes {};
  if (::statx(root.get(), "", AT_EMPTY_PATH, kStatxMask, &attributes) != 0)
    return Status::from_errno("the directory " + printable(directory) + " cannot be examined");
  const uint64_t device = makedev(attributes.stx_dev_major, attributes.stx_dev_minor);
  return std::unique_ptr<SourceTree>(new SourceTree(std::move(root), device, settle_ns));
}

SourceInode SourceTree::inode_of(const struct statx& attributes) const {
  SourceInode inode;
  inode.device = makedev(attributes.stx_dev_major, attributes.stx_dev_minor);
  inode.inode = attributes.stx_ino;
  inode.mode = attributes.stx_mode;
  inode.uid = attributes.stx_uid;
  inode.gid = attributes.stx_gid;
  inode.nlink = attributes.stx_nlink;
  inode.size = attributes.stx_size;
  inode.blocks_512 = attributes.stx_blocks;
  inode.special_device = makedev(attributes.stx_rdev_major, attributes.stx_rdev_minor);
  inode.mtime = timestamp(attributes.stx_mtime);
  inode.atime = timestamp(attributes.stx_atime);
  inode.ctime = timestamp(attributes.stx_ctime);
  const int64_t now_ns = system_clock().realtime_ns();
  inode.unsettled = clamped_ns(inode.ctime) > now_ns - settle_ns_;
  return inode;
}

Result<UniqueFd> SourceTree::open_beneath(const std::string& path, int flags) const {
  UniqueFd at;
  std::string rest = path.empty() ? "." : path;
  for (;;) {
    std::string part = rest;
    if (rest.size() > kLongestPath) {
      part = rest.substr(0, rest.rfind('/', kLongestPath));
      rest = rest.substr(part.size() + 1);
    } else {
      rest.clear();
    }
    open_how how{};
    how.flags = static_cast<uint64_t>(rest.empty() ? flags : O_PATH | O_DIRECTORY | O_CLOEXEC);
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    const long fd =
        ::syscall(SYS_openat2, at.valid() ? at.get() : root_.get(), part.c_str(), &how, sizeof how);
    if (fd < 0) return Status::from_errno(printable(path) + " cannot be opened");
    at.reset(static_cast<int>(fd));
    if (rest.empty()) return at;
  }
}

Result<UniqueFd> SourceTree::open_directory(const std::string& path) const {
  return open_beneath(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

Result<UniqueFd> SourceTree::open_file(const std::string& path) const {
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  Result<UniqueFd> fd = open_beneath(path, kFlags | O_NOATIME);
  return fd.error_number() == EPERM ? open_beneath(path, kFlags) : std::move(fd);
}

Result<std::vector<std::string>> SourceTree::list(int directory) const {
  const int own = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOATIME);
  const int fd = own >= 0 ? own : ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(fd >= 0 ? ::fdopendir(fd) : nullptr, ::closedir);
  if (stream == nullptr) return Status::from_errno("it cannot be listed");
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* const entry = ::readdir(stream.get());
    if (entry == nullptr && errno != 0) return Status::from_errno("it cannot be listed");
    if (entry == nullptr) break;
    const std::string name(static_cast<const char*>(entry->d_name));
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<SourceInode> SourceTree::inspect(int directory, const std::string& name) const {
  struct statx attributes {};
  const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (name.empty() ? AT_EMPTY_PATH : 0);
  if (::statx(directory, name.c_str(), flags, kStatxMask, &attributes) != 0)
    return Status::from_errno("it cannot be examined");
  SourceInode inode = inode_of(attributes);
  if (S_ISLNK(inode.mode)) {
    const auto read = [&](char* buffer, size_t size) -> ssize_t {
      const ssize_t got = ::readlinkat(directory, name.c_str(), buffer, size);
      if (got < static_cast<ssize_t>(size)) return got;
      errno = ERANGE;  // perhaps cut off
      return -1;
    };
    Result<std::string> target = read_growing(read, "where the link leads cannot be read");
    if (!target.ok()) return target.status();
    if (target->size() > volume::kMaximumTargetBytes) return Status(ENAMETOOLONG, "its target is too long");
    inode.target = std::move(target).value();
  }
  if (may_have_holes(inode)) {
    const UniqueFd file(::openat(directory, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!file.valid()) return Status::from_errno("it cannot be opened");
    const Result<std::vector<volume::Extent>> data = extents(file.get(), inode.size);
    if (!data.ok()) return data.status();
    inode.holes = data->size() != 1 || data->front().length != inode.size;
  }
  Result<std::vector<volume::Xattr>> xattrs = read_xattrs(proc_path(directory, name), name.empty());
  if (!xattrs.ok()) return xattrs.status();
  inode.xattrs = std::move(xattrs).value();
  return inode;
}

Result<SourceInode> SourceTree::inspect_file(int fd) const {
  struct statx attributes {};
  if (::statx(fd, "", AT_EMPTY_PATH, kStatxMask, &attributes) != 0)
    return Status::from_errno("it cannot be examined");
  return inode_of(attributes);
}

Result<std::vector<volume::Extent>> SourceTree::extents(int fd, uint64_t size) const {
  std::vector<volume::Extent> extents;
  for (uint64_t at = 0; at < size;) {
    const off_t data = ::lseek(fd, static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    if (data < 0 && errno == EINVAL) return std::vector<volume::Extent>{{0, size}};
    if (data < 0) return Status::from_errno("its holes cannot be found");
    const off_t hole = ::lseek(fd, data, SEEK_HOLE);
    if (hole < 0) return Status::from_errno("its holes cannot be found");
    const auto begin = static_cast<uint64_t>(data);
    const uint64_t end = std::min(static_cast<uint64_t>(hole), size);
    if (begin >= end) break;
    // A file in too many pieces: what follows counts as data.
    if (extents.size() == volume::kMaximumExtents) {
      extents.back().length = size - extents.back().offset;
      break;
    }
    extents.push_back({begin, end - begin});
    at = end;
  }
  return extents;
}

uint64_t SourceTree::shown_inode(const SourceInode& inode) const {
  if (inode.device == device_) return inode.inode;
  const uint64_t identity[2] = {inode.device, inode.inode};
  return XXH3_64bits(&identity, sizeof identity) >> 1;
}

}  // namespace cached::import
