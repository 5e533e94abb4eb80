// The kernel's table of mounts, as /proc/self/mountinfo writes it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cached {

struct MountEntry {
  uint64_t id = 0;              // what statx calls stx_mnt_id
  std::string mount_point;      // with the kernel's escapes (\040 for a blank) undone
  std::string filesystem_type;  // "ext4", "fuse.cached"
  std::string source;           // "/dev/sda1"; of our own mounts "cached:VOLUME"
  std::string root;     // the path in the file system that is mounted: "/", or what a bind mount shows
  uint64_t device = 0;  // st_dev of the file system, as makedev() makes it
};

// Parses the text of a mountinfo file; lines that are not understood are left out.
std::vector<MountEntry> parse_mount_table(std::string_view text);

// The mounts that this process sees; empty if /proc cannot be read.
std::vector<MountEntry> read_mount_table();

// The type of our own mounts.
inline constexpr std::string_view kOwnFilesystemType = "fuse.cached";

// The mount on which an absolute path without symbolic links lies, judged by its text alone, so that nothing
// is touched; null if there is none. Of several mounts on one point the last is on top.
const MountEntry* mount_of_path(const std::vector<MountEntry>& mounts, std::string_view path);

// A mount of the file system on the block device with that number (st_rdev); null if there is none. File
// systems over several devices do not tell them.
const MountEntry* mount_of_device(const std::vector<MountEntry>& mounts, uint64_t device);

}  // namespace cached
