// What a mount asks of the kernel beyond FUSE itself: the mount table, read-ahead of the backing device, the
// end of a connection.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace cached::mount {

// A line of /proc/self/mountinfo.
struct MountEntry {
  std::string device;  // MAJ:MIN
  std::string mountpoint;
  std::string type;
  std::string source;
};

// The uppermost mount at `mountpoint` (absolute, resolved) according to `mountinfo`, the text of that file.
std::optional<MountEntry> find_mount(std::string_view mountinfo, std::string_view mountpoint);

// Checks that something can be mounted at `mountpoint` and returns it absolute and resolved. Does not touch a
// mount of ours that is there already, dead or alive, but says EBUSY. ENOENT, ENOTDIR and so on with a
// sentence for the user.
Result<std::string> check_mountpoint(const std::string& mountpoint);

// Checks that /dev/fuse is there and may be opened.
Status check_fuse_device();

// Sets the read-ahead of the file system on `device`. Root only.
Status set_read_ahead(dev_t device, uint64_t read_ahead_bytes);

// Breaks the FUSE connection of the file system on `device`: every call on it, waiting ones included, fails.
// The mount stays and answers ENOTCONN. Through the kernel's control file system; where that is not mounted,
// through the mount at `mountpoint` (absolute, resolved), if it is this file system's. ENOENT if neither is
// there. Asks the mount nothing.
Status abort_connection(dev_t device, const std::string& mountpoint);

}  // namespace cached::mount
