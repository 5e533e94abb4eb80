// System calls that never leave a source's root: see beneath.h.
#include "cached/volume/beneath.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sodium.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "base/state_file.h"

namespace cached::volume {
namespace {

constexpr unsigned kStatxMask = STATX_BASIC_STATS | STATX_BTIME;
constexpr size_t kXattrMaximum = 64 * 1024;

struct HashInput {
  uint64_t words[12] = {};
  size_t count = 0;
  void add(uint64_t word) { words[count++] = word; }
};

// 128 bits of BLAKE2b under the identity key.
void keyed_hash(const IdentityKey& key, const void* data, size_t size, uint64_t* high, uint64_t* low) {
  unsigned char output[16];
  static_assert(sizeof output >= crypto_generichash_BYTES_MIN);
  crypto_generichash(output, sizeof output, static_cast<const unsigned char*>(data), size, key.data(),
                     key.size());
  std::memcpy(high, output, 8);
  std::memcpy(low, output + 8, 8);
}

bool is_local_file_system(uint64_t type) {
  switch (type) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case TMPFS_MAGIC:
    case F2FS_SUPER_MAGIC:
    case 0x2FC12FC1:  // zfs, which has no name in linux/magic.h
      return true;
    default:
      return false;
  }
}

shm::InodeInfo info_of(const struct statx& s) {
  shm::InodeInfo info;
  info.ino = s.stx_ino;
  info.size = s.stx_size;
  info.blocks_512 = s.stx_blocks;
  info.atime_s = s.stx_atime.tv_sec;
  info.atime_ns = s.stx_atime.tv_nsec;
  info.mtime_s = s.stx_mtime.tv_sec;
  info.mtime_ns = s.stx_mtime.tv_nsec;
  info.ctime_s = s.stx_ctime.tv_sec;
  info.ctime_ns = s.stx_ctime.tv_nsec;
  info.mode = s.stx_mode;
  info.nlink = s.stx_nlink;
  info.uid = s.stx_uid;
  info.gid = s.stx_gid;
  info.rdev = static_cast<uint32_t>(makedev(s.stx_rdev_major, s.stx_rdev_minor));
  return info;
}

std::string proc_path(int fd) {
  return "/proc/self/fd/" + std::to_string(fd);
}

// What tells apart two inodes that had the same number: the kernel's file handle, which has the generation in
// it, or the time of birth.
shm::Handle generation_of(const IdentityKey& key, int fd, const struct statx& attributes) {
  struct {
    file_handle header;
    unsigned char bytes[MAX_HANDLE_SZ];
  } handle{};
  handle.header.handle_bytes = MAX_HANDLE_SZ;
  int mount_id = 0;
  shm::Handle generation;
  if (::name_to_handle_at(fd, "", &handle.header, &mount_id, AT_EMPTY_PATH) == 0) {
    keyed_hash(key, &handle, sizeof handle.header + handle.header.handle_bytes, &generation.high,
               &generation.low);
  } else if (attributes.stx_mask & STATX_BTIME) {
    generation.high = static_cast<uint64_t>(attributes.stx_btime.tv_sec);
    generation.low = attributes.stx_btime.tv_nsec;
  }
  return generation;
}

// Bytes of the names of its attributes; -1 with errno. A descriptor that is only a place needs the way by
// /proc.
ssize_t list_xattrs_of(int fd) {
  const ssize_t bytes = ::flistxattr(fd, nullptr, 0);
  return bytes < 0 && errno == EBADF ? ::listxattr(proc_path(fd).c_str(), nullptr, 0) : bytes;
}

constexpr size_t kEntryBufferBytes = 32 * 1024;

// Gives `take` the entries of a directory from where `fd` stands, without "." and "..", until it returns
// false. Whether the end was reached. `buffer_bytes`: to read at once, about.
Result<bool> for_each_entry(int fd, size_t buffer_bytes, const std::function<bool(const dirent64&)>& take) {
  alignas(dirent64) char buffer[kEntryBufferBytes];
  const size_t read_bytes = std::clamp(buffer_bytes, sizeof buffer / 32, sizeof buffer);
  for (;;) {
    const ssize_t length = ::getdents64(fd, buffer, read_bytes);
    if (length < 0) return Status::from_errno("getdents64");
    if (length == 0) return true;
    for (ssize_t at = 0; at < length;) {
      const auto& entry = *reinterpret_cast<const dirent64*>(buffer + at);
      at += entry.d_reclen;
      const std::string_view name(entry.d_name);
      if (name != "." && name != ".." && !take(entry)) return false;
    }
  }
}

// Whether /proc/self/mountinfo calls the file system of `device` one of our mounts.
bool is_own_mount(uint64_t device_major, uint64_t device_minor) {
  std::ifstream mounts("/proc/self/mountinfo");
  const std::string wanted = " " + std::to_string(device_major) + ":" + std::to_string(device_minor) + " ";
  for (std::string line; std::getline(mounts, line);) {
    if (line.find(wanted) != std::string::npos && line.find(" - fuse.cached ") != std::string::npos)
      return true;
  }
  return false;
}

// Opens for reading, by `open_with(flags)`, what is expected to be a regular file. Not open, with errno.
std::shared_ptr<origin::OpenFile> open_to_read(const std::function<UniqueFd(int flags)>& open_with) {
  auto file = std::make_shared<origin::OpenFile>();
  // O_NONBLOCK: a fifo that took the file's place must not hold us. O_NOATIME: reading through the cache
  // leaves the source as it is, where we may ask for that.
  constexpr int kFlags = O_RDONLY | O_NONBLOCK;
  for (const int extra : {O_DIRECT | O_NOATIME, O_DIRECT, O_NOATIME, 0}) {
    file->fd = open_with(kFlags | extra);
    file->direct = (extra & O_DIRECT) != 0;
    if (file->fd.valid() || (errno != EINVAL && errno != EPERM)) break;
  }
  struct statfs file_system {};
  file->local = file->fd.valid() && ::fstatfs(file->fd.get(), &file_system) == 0 &&
                is_local_file_system(static_cast<uint64_t>(file_system.f_type));
  return file;
}

}  // namespace

Result<IdentityKey> load_identity_key(const std::string& state_dir) {
  const std::string path = state_dir + "/identity.key";
  IdentityKey key;
  const Result<std::string> kept = read_state_file(path, key.size());
  if (kept.ok() && kept->size() == key.size()) {
    std::copy(kept->begin(), kept->end(), key.begin());
    return key;
  }
  if (kept.ok() || kept.error_number() == EFBIG) {
    return Status(EINVAL, path +
                              " has not the size of a key; remove it to have a new one made (what is cached "
                              "is then fetched anew)");
  }
  if (kept.error_number() != ENOENT) return kept.status();
  randombytes_buf(key.data(), key.size());
  CACHED_RETURN_IF_ERROR(
      replace_state_file(path, std::string_view(reinterpret_cast<const char*>(key.data()), key.size())));
  return key;
}

Result<std::unique_ptr<Beneath>> Beneath::open(const std::string& directory, const IdentityKey& key) {
  const auto root = std::make_shared<Root>();
  std::future<void> opened = root->opened.get_future();
  std::thread([root, directory] {
    const int fd = ::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
    root->error = errno;
    root->fd = fd;
    root->opened.set_value();
  }).detach();
  const bool answered = opened.wait_for(kOpenLimit) == std::future_status::ready;
  if (answered && root->fd < 0) {
    return Status::from_errno(root->error, "cannot open the source directory " + directory);
  }
  if (!answered) log_warning("the source directory {} does not answer; waiting in the background", directory);
  return std::unique_ptr<Beneath>(new Beneath(root, key));
}

Beneath::Root::~Root() {
  if (fd >= 0) ::close(fd);
}

int Beneath::root_fd() const {
  const int fd = root_->fd;
  if (fd < 0) errno = root_->error;
  return fd;
}

UniqueFd Beneath::open_below_root(const std::string& path, int flags) const {
  const int root = root_fd();
  return root < 0 ? UniqueFd() : open_at(root, path, flags);
}

UniqueFd Beneath::open_at(int directory, const std::string& path, int flags) const {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags | O_NOFOLLOW | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const char* const name = path.empty() ? "." : path.c_str();
  // EAGAIN: a rename raced with the walk, and the kernel could not tell whether we stayed beneath.
  constexpr int kRetries = 32;
  constexpr std::chrono::milliseconds kDescriptorPause{10};
  int short_of_descriptors = 0;
  for (int attempt = 0;; ++attempt) {
    const long fd = ::syscall(SYS_openat2, directory, name, &how, sizeof how);
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    if (errno == EMFILE || errno == ENFILE) {
      const int error = errno;
      if (descriptors_short_) descriptors_short_();
      std::this_thread::sleep_for(kDescriptorPause);
      errno = error;
      if (++short_of_descriptors * kDescriptorPause >= kDescriptorWait) return UniqueFd();
      continue;
    }
    if (errno != EINTR && (errno != EAGAIN || attempt >= kRetries)) return UniqueFd();
  }
}

bool Beneath::allowed_file_system(uint64_t type, uint64_t device) const {
  if (type != FUSE_SUPER_MAGIC || device == last_good_device_.load(std::memory_order_relaxed)) return true;
  if (is_own_mount(device >> 32, device & 0xFFFFFFFF)) return false;
  last_good_device_.store(device, std::memory_order_relaxed);
  return true;
}

Result<UniqueFd> Beneath::open_directory(const std::string& path) const {
  UniqueFd fd = open_below_root(path, O_PATH | O_DIRECTORY);
  if (!fd.valid()) return Status::from_errno("cannot open the directory");
  return fd;
}

FoundInode Beneath::inspect(int fd) const {
  FoundInode found;
  found.info.validated_at_ns = system_clock().monotonic_ns();
  struct statfs file_system {};
  struct statx attributes {};
  if (::fstatfs(fd, &file_system) != 0) {
    found.error = errno;
    return found;
  }
  const auto type = static_cast<uint64_t>(file_system.f_type);
  const int sync = is_local_file_system(type) ? AT_STATX_SYNC_AS_STAT : AT_STATX_FORCE_SYNC;
  const uint64_t validated_at_ns = found.info.validated_at_ns;
  if (::statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | sync, kStatxMask, &attributes) != 0) {
    found.error = errno;
    return found;
  }
  found.version = origin::version_of(attributes);
  if (!allowed_file_system(type, found.version.device)) {
    found.error = ELOOP;  // a mount of ours beneath its own source
    return found;
  }
  found.info = info_of(attributes);
  found.info.validated_at_ns = validated_at_ns;
  std::memcpy(&found.file_system_id, &file_system.f_fsid, sizeof found.file_system_id);
  if (found.file_system_id == 0) found.file_system_id = found.version.device;
  found.generation = generation_of(key_, fd, attributes);
  if (list_xattrs_of(fd) == 0) found.info.flags |= shm::kInodeNoXattrs;

  HashInput input;
  input.add(found.file_system_id);
  input.add(found.version.inode);
  input.add(found.generation.high);
  input.add(found.generation.low);
  keyed_hash(key_, input.words, input.count * 8, &found.handle.high, &found.handle.low);
  found.info.handle = found.handle;
  return found;
}

FoundInode Beneath::find(const std::string& path) const {
  const UniqueFd fd = open_below_root(path, O_PATH);
  if (!fd.valid()) return FoundInode{.error = errno};
  return inspect(fd.get());
}

FoundInode Beneath::find_child(const std::string& parent_path, const shm::Handle& parent,
                               const std::string& name) const {
  const Result<UniqueFd> directory = open_known(parent_path, parent);
  if (!directory.ok()) return FoundInode{.error = directory.error_number()};
  const UniqueFd fd = open_at(directory->get(), name, O_PATH);
  if (!fd.valid()) return FoundInode{.error = errno};
  return inspect(fd.get());
}

std::vector<FoundInode> Beneath::walk(const std::string& path) const {
  std::vector<FoundInode> found{find("")};
  for (size_t end = 0; found.back().error == 0 && !path.empty() && end != std::string::npos;) {
    end = path.find('/', end == 0 ? 0 : end + 1);
    found.push_back(find(path.substr(0, end)));
  }
  return found;
}

Result<UniqueFd> Beneath::open_known(const std::string& path, const shm::Handle& handle) const {
  UniqueFd fd = open_below_root(path, O_PATH);
  if (!fd.valid()) return Status::from_errno("cannot open " + path);
  const FoundInode found = inspect(fd.get());
  if (found.error != 0) return Status::from_errno(found.error, "cannot inspect " + path);
  if (!(found.handle == handle)) return Status(ESTALE, path + " is another inode now");
  return fd;
}

Result<std::shared_ptr<origin::OpenFile>> Beneath::open_file(const std::string& path,
                                                             const shm::Handle& handle) const {
  std::shared_ptr<origin::OpenFile> file =
      open_to_read([&](int flags) { return open_below_root(path, flags); });
  if (!file->fd.valid()) return Status::from_errno("cannot open " + path);
  const FoundInode found = inspect(file->fd.get());
  if (found.error != 0) return Status::from_errno(found.error, "cannot inspect " + path);
  if (!(found.handle == handle) || !S_ISREG(found.info.mode))
    return Status(ESTALE, path + " is another inode now");
  return file;
}

std::vector<Beneath::OpenedChild> Beneath::open_children(const std::string& path, const shm::Handle& handle,
                                                         const std::vector<std::string>& names) const {
  std::vector<OpenedChild> children;
  const Result<UniqueFd> directory = open_known(path, handle);
  if (!directory.ok()) return children;
  for (const std::string& name : names) {
    // First as a place only: what opening a device would do, nobody has asked for.
    const UniqueFd place = open_at(directory->get(), name, O_PATH);
    if (!place.valid()) continue;
    OpenedChild child{name, inspect(place.get()), nullptr};
    if (child.inode.error != 0 || !S_ISREG(child.inode.info.mode)) continue;
    child.file = open_to_read([path = proc_path(place.get())](int flags) {
      return UniqueFd(::open(path.c_str(), flags | O_CLOEXEC));
    });
    if (child.file->fd.valid()) children.push_back(std::move(child));
  }
  return children;
}

Result<std::string> Beneath::read_link(const std::string& path, const shm::Handle& handle) const {
  const Result<UniqueFd> fd = open_known(path, handle);
  if (!fd.ok()) return fd.status();
  std::string target(PATH_MAX, '\0');
  const ssize_t length = ::readlinkat(fd->get(), "", target.data(), target.size());
  if (length < 0) return Status::from_errno("cannot read the link " + path);
  target.resize(static_cast<size_t>(length));
  return target;
}

Result<std::string> Beneath::get_xattr(const std::string& path, const shm::Handle& handle,
                                       const std::string& name) const {
  const Result<UniqueFd> fd = open_known(path, handle);
  if (!fd.ok()) return fd.status();
  std::string value(kXattrMaximum, '\0');
  const ssize_t length = ::getxattr(proc_path(fd->get()).c_str(), name.c_str(), value.data(), value.size());
  if (length < 0) return Status::from_errno("cannot read an attribute of " + path);
  value.resize(static_cast<size_t>(length));
  return value;
}

Result<std::string> Beneath::list_xattrs(const std::string& path, const shm::Handle& handle) const {
  const Result<UniqueFd> fd = open_known(path, handle);
  if (!fd.ok()) return fd.status();
  std::string names(kXattrMaximum, '\0');
  const ssize_t length = ::listxattr(proc_path(fd->get()).c_str(), names.data(), names.size());
  if (length < 0) return Status::from_errno("cannot list the attributes of " + path);
  names.resize(static_cast<size_t>(length));
  return names;
}

Result<UniqueFd> Beneath::open_to_list(const std::string& path, const shm::Handle& handle) const {
  UniqueFd fd = open_below_root(path, O_RDONLY | O_DIRECTORY);
  if (!fd.valid()) return Status::from_errno("cannot open the directory " + path);
  const FoundInode self = inspect(fd.get());
  if (self.error != 0) return Status::from_errno(self.error, "cannot inspect " + path);
  if (!(self.handle == handle)) return Status(ESTALE, path + " is another inode now");
  return fd;
}

Result<Beneath::Listing> Beneath::list(const std::string& path, const shm::Handle& handle, uint64_t cookie,
                                       bool with_attributes, unsigned maximum_entries) const {
  const Result<UniqueFd> fd = open_to_list(path, handle);
  if (!fd.ok()) return fd.status();
  if (cookie != 0 && ::lseek(fd->get(), static_cast<off_t>(cookie), SEEK_SET) < 0) {
    return Status::from_errno("cannot continue the listing of " + path);
  }
  Listing listing;
  // Entries that the kernel writes out beyond those wanted are read again by the next call.
  constexpr size_t kUsualEntryBytes = 64;
  const auto take = [&](const dirent64& entry) {
    Entry item{entry.d_name, entry.d_ino, static_cast<uint64_t>(entry.d_off), entry.d_type, {}};
    item.inode.error = ENODATA;
    if (with_attributes) {
      const UniqueFd child = open_at(fd->get(), item.name, O_PATH);
      item.inode = child.valid() ? inspect(child.get()) : FoundInode{.error = errno};
    }
    listing.entries.push_back(std::move(item));
    return listing.entries.size() < maximum_entries;
  };
  const Result<bool> end = for_each_entry(fd->get(), maximum_entries * kUsualEntryBytes, take);
  if (!end.ok()) return end.status().with_context("cannot list " + path);
  listing.end = *end;
  return listing;
}

Result<std::vector<std::string>> Beneath::names_of_type(const std::string& path, const shm::Handle& handle,
                                                        unsigned char type, uint64_t maximum_bytes) const {
  const Result<UniqueFd> fd = open_to_list(path, handle);
  if (!fd.ok()) return fd.status();
  std::vector<std::string> names;
  uint64_t bytes = 0;
  const auto take = [&](const dirent64& entry) {
    if (entry.d_type != type && entry.d_type != DT_UNKNOWN) return true;
    names.emplace_back(entry.d_name);
    bytes += names.back().size();
    return bytes <= maximum_bytes;
  };
  const Result<bool> end = for_each_entry(fd->get(), kEntryBufferBytes, take);
  if (!end.ok()) return end.status().with_context("cannot list " + path);
  if (!*end) return Status(E2BIG, path + " has too many entries");
  return names;
}

shm::ObjectId Beneath::object_id(const FoundInode& inode, uint64_t nonce) const {
  HashInput input;
  input.add(inode.file_system_id);
  input.add(inode.version.inode);
  input.add(inode.generation.high);
  input.add(inode.generation.low);
  input.add(inode.version.size);
  input.add(static_cast<uint64_t>(inode.version.mtime_s));
  input.add(static_cast<uint64_t>(inode.version.ctime_s));
  input.add((uint64_t{inode.version.mtime_ns} << 32) | inode.version.ctime_ns);
  input.add(nonce);
  shm::ObjectId id;
  keyed_hash(key_, input.words, input.count * 8, &id.high, &id.low);
  return id;
}

}  // namespace cached::volume
