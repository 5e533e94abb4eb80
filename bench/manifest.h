// A list of the files of a tree: a line "SIZE PATH" for each, paths relative to the tree's root.
#pragma once

#include <cstdint>
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

}  // namespace cached::bench
