// check_sources: whether the machine has what the volumes' sources name. See config.h.
#include <fcntl.h>
#include <sys/stat.h>

#include <optional>
#include <string_view>

#include "base/log.h"
#include "base/unique_fd.h"
#include "cached/config/config.h"
#include "cached/config/mount_table.h"
#include "cached/config/schema.h"

namespace cached {
namespace {

std::string own_mount_complaint(const std::string& directory, const std::string& mount_point) {
  return "\"" + printable(directory) + "\" lies on " + printable(mount_point) +
         ", which is a mount of cached itself; name the directory where the data really is";
}

// What is wrong with `directory` as a source, or nothing.
std::optional<std::string> check_directory(const std::string& directory,
                                           const std::vector<MountEntry>& mounts) {
  // By the path's text first: touching a mount of ours whose daemon is not running would wait for that
  // daemon.
  if (const MountEntry* mount = mount_of_path(mounts, directory);
      mount != nullptr && mount->filesystem_type == kOwnFilesystemType) {
    return own_mount_complaint(directory, mount->mount_point);
  }
  const std::string quoted = "\"" + printable(directory) + "\"";
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid() && errno == ENOENT)
    return quoted + " does not exist; create it, or mount what belongs there";
  if (!fd.valid() && errno == ENOTDIR)
    return quoted + " is not a directory; name the directory that holds the data";
  if (!fd.valid()) return Status::from_errno(quoted + " cannot be opened by this user").message();
  // Then by what the path leads to, symbolic links followed.
  struct statx attributes {};
  if (::statx(fd.get(), "", AT_EMPTY_PATH, STATX_MNT_ID, &attributes) != 0) {
    return Status::from_errno(quoted + " cannot be examined").message();
  }
  for (const MountEntry& mount : mounts) {
    if (mount.id == attributes.stx_mnt_id && mount.filesystem_type == kOwnFilesystemType) {
      return own_mount_complaint(directory, mount.mount_point);
    }
  }
  return std::nullopt;
}

// What is wrong with a file that librados is to read, or nothing.
std::optional<std::string> check_readable(const std::string& path) {
  const std::string quoted = "\"" + printable(path) + "\"";
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid() && errno == ENOENT) {
    return quoted + " does not exist; copy it from a node that reaches the cluster, or name the right path";
  }
  if (!fd.valid()) return Status::from_errno(quoted + " cannot be read by this user").message();
  struct stat attributes {};
  if (::fstat(fd.get(), &attributes) != 0) {
    return Status::from_errno(quoted + " cannot be examined").message();
  }
  return S_ISREG(attributes.st_mode) ? std::nullopt : std::optional(quoted + " is not a file");
}

Status check_rados(const Config& config, const std::string& section, const RadosVolumeConfig& rados) {
  if (const auto complaint = check_readable(rados.ceph_conf)) {
    return config.error(section + ".ceph_conf", *complaint);
  }
  if (rados.keyring.empty()) return Status();
  const auto complaint = check_readable(rados.keyring);
  return complaint ? config.error(section + ".keyring", *complaint) : Status();
}

}  // namespace

Status check_sources(const Config& config) {
  const std::vector<MountEntry> mounts = read_mount_table();
  for (size_t place = 0; place < config.volumes.size(); ++place) {
    const VolumeConfig& volume = config.volumes[place];
    const std::string section = config_schema::volume_section(place);
    if (volume.kind == VolumeKind::kJuicefs) {
      // Whether its blocks lie in Ceph is known to Redis alone, which may be away.
      if (volume.juicefs.password_file.empty()) continue;
      if (const auto complaint = check_readable(volume.juicefs.password_file))
        return config.error(section + ".password_file", *complaint);
    } else if (volume.kind == VolumeKind::kRados) {
      CACHED_RETURN_IF_ERROR(check_rados(config, section, volume.rados));
    } else if (const auto complaint = check_directory(volume.directory, mounts)) {
      return config.error(section + ".source", *complaint);
    }
  }
  return Status();
}

}  // namespace cached
