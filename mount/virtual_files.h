// The files at a mount's root that no listing shows: `.stats`, `.config` and `.accesslog`. They hide files of
// the source with these names. What they hold is made when they are opened.
#pragma once

#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "mount/options.h"

namespace cached::mount {

// Their nodeids are no addresses of inodes and not the root's.
inline constexpr uint64_t kStatsNodeId = 2;      // figures, Prometheus text
inline constexpr uint64_t kConfigNodeId = 3;     // what the mount was started with, JSON
inline constexpr uint64_t kAccessLogNodeId = 4;  // operations as they happen (access_log.h)

struct VirtualFile {
  std::string_view name;
  uint64_t nodeid;
  mode_t mode;
};
inline constexpr std::array<VirtualFile, 3> kVirtualFiles = {{{".stats", kStatsNodeId, 0444},
                                                              {".config", kConfigNodeId, 0400},
                                                              {".accesslog", kAccessLogNodeId, 0400}}};

constexpr bool is_virtual(uint64_t nodeid) {
  return nodeid >= kStatsNodeId && nodeid <= kAccessLogNodeId;
}
// Null: no virtual file has this name.
const VirtualFile* virtual_file(std::string_view name);
// Of a virtual file, owned by who mounted; `time_s` is all its times.
struct stat attributes_of(const VirtualFile& file, int64_t time_s);

// The text of `.config`.
std::string render_config(const Options& options);

}  // namespace cached::mount
