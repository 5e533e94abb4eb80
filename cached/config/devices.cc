// check_devices: whether the machine has the devices that the configuration names, or room to create them.
// See config.h.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <filesystem>
#include <map>
#include <optional>

#include "base/log.h"
#include "base/unique_fd.h"
#include "cached/config/config.h"
#include "cached/config/mount_table.h"
#include "cached/config/schema.h"

namespace cached {
namespace {

using config_schema::kMinimumDeviceBytes;

// What was found at a device's path.
struct Finding {
  std::string identity;      // equal for two paths that lead to the same device
  std::string fault;         // what is wrong with it; empty: nothing
  const char* key = "path";  // the key that the fault is about
};

Finding fault(std::string text) {
  return {.identity = "", .fault = std::move(text)};
}

std::string quoted(const std::string& path) {
  return "\"" + printable(path) + "\"";
}

std::string identity_of(const struct stat& attributes) {
  if (S_ISBLK(attributes.st_mode)) return "block device " + std::to_string(attributes.st_rdev);
  return "inode " + std::to_string(attributes.st_dev) + ":" + std::to_string(attributes.st_ino);
}

// Judges what is there against the size that is asked for.
void judge_size(const DeviceConfig& device, uint64_t present_bytes, Finding* finding) {
  if (present_bytes < kMinimumDeviceBytes) {
    finding->fault = quoted(device.path) + " has " + format_size(present_bytes) +
                     ", and a device needs at least " + format_size(kMinimumDeviceBytes);
  } else if (device.size_bytes > present_bytes) {
    finding->key = "size";
    finding->fault = quoted(device.path) + " has only " + format_size(present_bytes) + "; use at most \"" +
                     std::to_string(present_bytes) + "\", or leave `size` out to use all of it";
  }
}

Finding examine_present(const DeviceConfig& device, const struct stat& named) {
  if (!S_ISBLK(named.st_mode) && !S_ISREG(named.st_mode)) {
    return fault(quoted(device.path) +
                 " is neither a block device nor a file; name an SSD, or a file on one");
  }
  const UniqueFd fd(::open(device.path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  struct stat attributes {};
  if (!fd.valid() || ::fstat(fd.get(), &attributes) != 0) {
    return fault(
        Status::from_errno(quoted(device.path) + " cannot be opened for reading and writing by this user")
            .message());
  }
  auto present_bytes = static_cast<uint64_t>(attributes.st_size);
  if (S_ISBLK(attributes.st_mode) && ::ioctl(fd.get(), BLKGETSIZE64, &present_bytes) != 0) {
    return fault(Status::from_errno(quoted(device.path) + " does not tell its size").message());
  }
  Finding finding;
  finding.identity = identity_of(attributes);
  judge_size(device, present_bytes, &finding);
  return finding;
}

// Judges whether a file of the size that is asked for can be created in `directory`.
void judge_room(const DeviceConfig& device, const std::string& directory, uint64_t free_bytes,
                Finding* finding) {
  if (device.size_bytes == 0) {
    finding->fault = quoted(device.path) +
                     " does not exist; to have it created, add its size below, such as size = \"1TiB\"";
  } else if (device.size_bytes > free_bytes) {
    finding->key = "size";
    finding->fault = "the file system of " + quoted(directory) + " has " + format_size(free_bytes) +
                     " free, too little for a file of " + format_size(device.size_bytes);
  }
}

Finding examine_missing(const DeviceConfig& device) {
  // What is created below /dev would lie in memory.
  if (device.path.starts_with("/dev/")) {
    return fault(quoted(device.path) +
                 " is not there; see `lsblk` for the SSDs that are, and name one by its path below "
                 "/dev/disk/by-id, which stays the same");
  }
  const std::filesystem::path path(device.path);
  const std::string directory = path.parent_path();
  struct stat attributes {};
  struct statvfs space {};
  if (::stat(directory.c_str(), &attributes) != 0 || ::statvfs(directory.c_str(), &space) != 0) {
    return fault(Status::from_errno(quoted(device.path) + " does not exist and cannot be created in " +
                                    quoted(directory))
                     .message());
  }
  Finding finding;
  finding.identity = identity_of(attributes) + "/" + path.filename().string();
  judge_room(device, directory, uint64_t{space.f_bavail} * space.f_frsize, &finding);
  return finding;
}

Finding examine(const DeviceConfig& device, const std::vector<MountEntry>& mounts) {
  // By the path's text first: touching a mount of ours whose daemon is not running would wait for that
  // daemon.
  if (const MountEntry* mount = mount_of_path(mounts, device.path);
      mount != nullptr && mount->filesystem_type == kOwnFilesystemType) {
    return fault(quoted(device.path) + " lies on " + printable(mount->mount_point) +
                 ", which is a mount of cached itself; name a file on a local SSD");
  }
  struct stat attributes {};
  if (::stat(device.path.c_str(), &attributes) == 0) return examine_present(device, attributes);
  if (errno == ENOENT) return examine_missing(device);
  return fault(Status::from_errno(quoted(device.path) + " cannot be examined").message());
}

}  // namespace

Status check_devices(const Config& config) {
  const std::vector<MountEntry> mounts = read_mount_table();
  std::map<std::string, size_t> places;  // of the devices, by identity
  for (size_t place = 0; place < config.devices.size(); ++place) {
    const std::string section = config_schema::device_section(place);
    const DeviceConfig& device = config.devices[place];
    const Finding finding = examine(device, mounts);
    if (!finding.fault.empty()) return config.error(section + "." + finding.key, finding.fault);
    const auto [first, is_new] = places.emplace(finding.identity, place);
    if (is_new) continue;
    const std::string first_key = config_schema::device_section(first->second) + ".path";
    return config.error(section + ".path", quoted(device.path) + " is the same device as " +
                                               quoted(config.devices[first->second].path) + " in line " +
                                               std::to_string(config.lines.at(first_key)) +
                                               "; name each device once");
  }
  return Status();
}

}  // namespace cached
