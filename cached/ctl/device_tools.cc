// Preparing and inspecting devices: see device_tools.h.
//
// The order of checks in init_device() matters: a wrong path must cost its owner nothing. What is mounted and
// what the device holds are looked at through a descriptor that cannot write; only then is the device locked,
// a file grown or its holes filled, and format_device() looks again at what it is about to overwrite.
#include "cached/ctl/device_tools.h"

#include <sys/stat.h>

#include <memory>
#include <optional>

#include "base/log.h"
#include "base/units.h"
#include "cached/config/mount_table.h"
#include "cached/config/schema.h"
#include "cached/io/file_device.h"
#include "cached/ssd_tier/superblock.h"

namespace cached::ctl {
namespace {

using io::FileDevice;
using ssd_tier::DeviceContent;

static_assert(config_schema::kMinimumDeviceBytes == ssd_tier::kMinimumDeviceBytes &&
                  config_schema::kMaximumDeviceBytes == ssd_tier::kMaximumDeviceBytes,
              "the configuration takes the sizes that the format takes");

std::string name_of(const DeviceInit& init) {
  return printable(init.path);
}

// What a device holds, as the end of "PATH holds ..."; empty for nothing.
std::string described(const ssd_tier::DeviceSurvey& survey) {
  const std::string what = survey.what.empty() ? "" : " (" + printable(survey.what) + ")";
  switch (survey.content) {
    case DeviceContent::kBlank:
      return "";
    case DeviceContent::kForeign:
      return survey.what.empty() ? "data that is not cached's" : printable(survey.what);
    case DeviceContent::kNewer:
      return "a cache of a newer version of cached" + what;
    case DeviceContent::kUnusable:
      return "a cache that cannot be used" + what;
    case DeviceContent::kOurs:
      break;
  }
  return "a cache already, " + ssd_tier::to_string(survey.superblock.uuid) + ", whose content would be lost";
}

Status check_not_mounted(const DeviceInit& init, const struct stat& attributes) {
  if (!S_ISBLK(attributes.st_mode)) return Status();
  const std::vector<MountEntry> mounts = read_mount_table();
  const MountEntry* mount = mount_of_device(mounts, attributes.st_rdev);
  if (mount == nullptr) return Status();
  return Status(EBUSY, name_of(init) + " is mounted at " + printable(mount->mount_point) +
                           " and was not touched; is it the right device (lsblk)?");
}

// Refuses a device that holds something, unless that may be overwritten.
Status check_content(const DeviceInit& init) {
  Result<std::unique_ptr<FileDevice>> device = FileDevice::open(init.path, FileDevice::Access::kReadOnly);
  if (!device.ok()) return device.status();
  const Result<ssd_tier::DeviceSurvey> survey = ssd_tier::read_superblock(**device);
  if (!survey.ok()) return survey.status();
  const std::string content = described(*survey);
  if (content.empty() || init.force) return Status();
  return Status(EEXIST, name_of(init) + " holds " + content +
                            ". It was not touched. To overwrite it, if nobody needs that any more: cachedctl "
                            "device init " +
                            name_of(init) + " --force");
}

Status check_present(const DeviceInit& init, const struct stat& attributes) {
  if (!S_ISREG(attributes.st_mode) && !S_ISBLK(attributes.st_mode)) {
    return Status(EINVAL,
                  name_of(init) + " is neither a block device nor a file; name an SSD, or a file on one");
  }
  if (S_ISBLK(attributes.st_mode) && init.size_bytes != 0) {
    return Status(EINVAL, name_of(init) +
                              " is a block device, and --size is for files; to use a part of it, name a "
                              "partition of that size");
  }
  const auto present_bytes = static_cast<uint64_t>(attributes.st_size);
  if (S_ISREG(attributes.st_mode) && init.size_bytes != 0 && init.size_bytes < present_bytes) {
    return Status(EINVAL,
                  name_of(init) + " is a file of " + format_size(present_bytes) +
                      ", and files are not made smaller; leave out --size, or remove the file before");
  }
  CACHED_RETURN_IF_ERROR(check_not_mounted(init, attributes));
  // An empty file holds nothing that could be read.
  return S_ISREG(attributes.st_mode) && present_bytes == 0 ? Status() : check_content(init);
}

Status check_missing(const DeviceInit& init) {
  if (init.path.starts_with("/dev/")) {
    return Status(ENOENT, name_of(init) + " is not there; `lsblk` shows the block devices that are");
  }
  if (init.size_bytes != 0) return Status();
  return Status(EINVAL, name_of(init) + " does not exist; to create it, say how large: --size 500GiB");
}

Status check(const DeviceInit& init) {
  struct stat attributes {};
  if (::stat(init.path.c_str(), &attributes) == 0) return check_present(init, attributes);
  if (errno == ENOENT) return check_missing(init);
  return Status::from_errno(name_of(init) + ": cannot be examined");
}

// Creates or grows the file, but not one that is in use: opening it for writing tells.
Status make_size(const DeviceInit& init) {
  struct stat attributes {};
  if (::stat(init.path.c_str(), &attributes) == 0 && attributes.st_size != 0) {
    const Status in_use = FileDevice::open(init.path, FileDevice::Access::kReadWrite).status();
    if (!in_use.ok()) return in_use;
  }
  return io::preallocate_file(init.path, init.size_bytes);
}

}  // namespace

Result<ssd_tier::Superblock> init_device(const DeviceInit& init) {
  CACHED_RETURN_IF_ERROR(check(init));
  if (init.size_bytes != 0) CACHED_RETURN_IF_ERROR(make_size(init));
  Result<std::unique_ptr<FileDevice>> device = FileDevice::open(init.path, FileDevice::Access::kReadWrite);
  if (!device.ok()) return device.status();
  return ssd_tier::format_device(**device, init.force);
}

Result<ssd_tier::Inspection> inspect_device_at(const std::string& path, bool with_entries) {
  Result<std::unique_ptr<FileDevice>> device = FileDevice::open(path, FileDevice::Access::kReadOnly);
  if (!device.ok()) return device.status();
  return ssd_tier::inspect_device(**device, with_entries);
}

}  // namespace cached::ctl
