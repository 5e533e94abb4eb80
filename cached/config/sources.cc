// check_sources: whether the machine has what the volumes' sources name. See config.h.
#include <fcntl.h>
#include <sys/stat.h>

#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <string_view>
#include <thread>

#include "base/log.h"
#include "base/unique_fd.h"
#include "cached/config/config.h"
#include "cached/config/mount_table.h"
#include "cached/config/schema.h"

namespace cached {
namespace {

constexpr std::chrono::seconds kSourceLimit{5};

std::string own_mount_complaint(const std::string& directory, const std::string& mount_point) {
  return "\"" + printable(directory) + "\" lies on " + printable(mount_point) +
         ", which is a mount of cached itself; name the directory where the data really is";
}

// What is wrong with `directory` as a source, or nothing. May wait for ever, if the source does not answer.
std::optional<std::string> look_at_directory(const std::string& directory,
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

// The same, to a deadline: ETIMEDOUT. The thread that looks cannot be ended; it is left to the source.
Result<std::optional<std::string>> check_directory(const std::string& directory,
                                                   const std::vector<MountEntry>& mounts) {
  const auto answer = std::make_shared<std::promise<std::optional<std::string>>>();
  std::future<std::optional<std::string>> came = answer->get_future();
  std::thread([answer, directory, mounts] {
    answer->set_value(look_at_directory(directory, mounts));
  }).detach();
  if (came.wait_for(kSourceLimit) == std::future_status::ready) return came.get();
  return Status(ETIMEDOUT, "\"" + printable(directory) + "\" does not answer within " +
                               std::to_string(kSourceLimit.count()) +
                               " s; look at the file system that it lies on");
}

}  // namespace

Status check_sources(const Config& config) {
  const std::vector<MountEntry> mounts = read_mount_table();
  Status silent;
  for (size_t place = 0; place < config.volumes.size(); ++place) {
    const VolumeConfig& volume = config.volumes[place];
    const std::string section = config_schema::volume_section(place);
    if (volume.kind == VolumeKind::kJuicefs) {
      // Whether its blocks lie in Ceph is known to Redis alone, which may be away.
      if (volume.juicefs.password_file.empty()) continue;
      if (const auto complaint = check_readable(volume.juicefs.password_file))
        return config.error(section + ".password_file", *complaint);
      continue;
    }
    if (volume.kind == VolumeKind::kRados) {
      CACHED_RETURN_IF_ERROR(check_rados(config, section, volume.rados));
      continue;
    }
    const Result<std::optional<std::string>> complaint = check_directory(volume.directory, mounts);
    if (!complaint.ok()) {
      silent = Status(ETIMEDOUT, config.error(section + ".source", complaint.status().message()).message());
    } else if (complaint->has_value()) {
      return config.error(section + ".source", **complaint);
    }
  }
  return silent;
}

}  // namespace cached
