// The files of a tree, by walking it or by a list: a line "SIZE PATH" for each, paths relative to the tree's
// root.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/status.h"

namespace cached::bench {

struct ManifestEntry {
  uint64_t size_bytes = 0;
  std::string path;
};

// Reads the list in file `path`. The errno of the open, or EINVAL with the number of the line that is wrong.
Result<std::vector<ManifestEntry>> read_manifest(const std::string& path);

// The regular files below `directory`, as it lists them, with the directory in front. With links, those that
// lead to files count too.
enum class Links { kFollow, kLeaveOut };
Result<std::vector<std::filesystem::path>> walk_files(const std::string& directory, Links links);

}  // namespace cached::bench
