#include "mount/kernel_tuning.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <climits>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <vector>

#include "base/unique_fd.h"
#include "mount/supervisor.h"

namespace cached::mount {

namespace {

// mountinfo writes space, tab, newline and backslash as \ooo.
std::string unescape_octal(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      result += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

Result<std::string> resolve(const std::string& path) {
  char resolved[PATH_MAX];
  if (::realpath(path.c_str(), resolved) == nullptr) return Status::from_errno("mount point " + path);
  return std::string(resolved);
}

// The path with everything resolved but its last component, which may be a mount that does not answer.
Result<std::string> resolve_parent(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const size_t slash = path.find_last_of('/');
  const std::string last = path.substr(slash == std::string::npos ? 0 : slash + 1);
  if (last.empty() || last == "." || last == "..") return resolve(path);
  const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  Result<std::string> resolved = resolve(parent);
  if (!resolved.ok())
    return Status(resolved.error_number(),
                  "mount point " + path + ": " + std::strerror(resolved.error_number()));
  return (*resolved == "/" ? "" : *resolved) + "/" + last;
}

std::string read_mountinfo() {
  std::ifstream file("/proc/self/mountinfo");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// The mount of ours at `mountpoint`.
std::optional<MountEntry> own_mount(const std::string& mountpoint) {
  std::optional<MountEntry> entry = find_mount(read_mountinfo(), mountpoint);
  if (entry.has_value() && entry->type != "fuse.cached") entry.reset();
  return entry;
}

// One whose server died is taken over.
Status check_free(const std::string& mountpoint) {
  const std::optional<MountEntry> entry = own_mount(mountpoint);
  if (!entry.has_value() || mount_is_dead(mountpoint)) return Status();
  return Status(EBUSY, "mount point " + mountpoint + " is busy: " + entry->source +
                           " is mounted there; unmount it first");
}

// As mountinfo and sysfs write it.
std::string device_name(dev_t device) {
  return std::to_string(major(device)) + ":" + std::to_string(minor(device));
}

Status write_file(const std::string& path, const std::string& text) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return Status::from_errno("open " + path);
  if (::write(fd.get(), text.data(), text.size()) < 0) return Status::from_errno("write " + path);
  return Status();
}

}  // namespace

std::optional<MountEntry> find_mount(std::string_view mountinfo, std::string_view mountpoint) {
  std::optional<MountEntry> found;
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string id, parent, device, root, point, flags, word;
    words >> id >> parent >> device >> root >> point >> flags;
    while (words >> word && word != "-") {
    }
    std::string type, source;
    if (!(words >> type >> source)) continue;
    if (unescape_octal(point) == mountpoint)
      found = MountEntry{device, std::string(mountpoint), type, unescape_octal(source)};
  }
  return found;
}

Result<std::string> check_mountpoint(const std::string& mountpoint) {
  const Result<std::string> unresolved = resolve_parent(mountpoint);
  if (!unresolved.ok()) return unresolved;
  CACHED_RETURN_IF_ERROR(check_free(*unresolved));
  // Nothing that looks at it would succeed before it is taken away.
  if (own_mount(*unresolved).has_value() && mount_is_dead(*unresolved)) return *unresolved;
  Result<std::string> resolved = resolve(*unresolved);
  if (!resolved.ok()) return resolved;
  CACHED_RETURN_IF_ERROR(check_free(*resolved));
  struct stat status {};
  if (::stat(resolved->c_str(), &status) != 0) return Status::from_errno("mount point " + *resolved);
  if (!S_ISDIR(status.st_mode)) return Status(ENOTDIR, "mount point " + *resolved + " is not a directory");
  return resolved;
}

Status check_fuse_device() {
  const UniqueFd fd(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (fd.valid()) return Status();
  const int error = errno;
  const char* advice =
      error == ENOENT || error == ENODEV || error == ENXIO ? "; load it with: modprobe fuse" : "";
  return Status(error, std::string("cannot open /dev/fuse: ") + std::strerror(error) + advice);
}

Status set_read_ahead(dev_t device, uint64_t read_ahead_bytes) {
  const std::string path = "/sys/class/bdi/" + device_name(device) + "/read_ahead_kb";
  return write_file(path, std::to_string(read_ahead_bytes / 1024));
}

Status abort_connection(dev_t device, const std::string& mountpoint) {
  Status status = write_file("/sys/fs/fuse/connections/" + std::to_string(minor(device)) + "/abort", "1");
  if (status.error_number() != ENOENT) return status;
  const std::optional<MountEntry> entry = find_mount(read_mountinfo(), mountpoint);
  if (!entry.has_value() || entry->device != device_name(device)) return status;
  // Somebody who holds the mount keeps it in its place: a forced unmount breaks the connection and then finds
  // it busy.
  const UniqueFd holder(::open(mountpoint.c_str(), O_PATH | O_CLOEXEC));
  if (!holder.valid()) return Status::from_errno("open " + mountpoint);
  if (::umount2(mountpoint.c_str(), MNT_FORCE) != 0 && errno != EBUSY)
    return Status::from_errno("umount " + mountpoint);
  return Status();
}

}  // namespace cached::mount
