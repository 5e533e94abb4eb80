// What `cachedctl device` does: preparing a device for the SSD tier, and looking at one, without a daemon.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "cached/ssd_tier/inspect.h"

namespace cached::ctl {

struct DeviceInit {
  std::string path;         // absolute or not: a block device, a file, or a file to be created
  uint64_t size_bytes = 0;  // of a file that does not exist; one that does grows to it; 0: as it is
  bool force = false;       // overwrite what the device holds
};

// Makes the device an empty one of the SSD tier and returns its superblock. Nothing is written, and no file
// grows, unless all that can be checked before is right. Errors, with what to do in the message: EBUSY for a
// device that is mounted or in use, EEXIST for one that holds something (named in the message) without
// `force`, EINVAL for what is no device or a size that does not fit, ENOENT for a block device that is not
// there, and those of opening, allocating and writing.
Result<ssd_tier::Superblock> init_device(const DeviceInit& init);

// What the device at `path` holds. Nothing is locked or written, and a daemon may be using it.
Result<ssd_tier::Inspection> inspect_device_at(const std::string& path, bool with_entries);

}  // namespace cached::ctl
