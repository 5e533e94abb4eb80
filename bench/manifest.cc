// A list of the files of a tree: see manifest.h.
#include "bench/manifest.h"

#include <charconv>
#include <fstream>

namespace cached::bench {

Result<std::vector<ManifestEntry>> read_manifest(const std::string& path) {
  std::ifstream file(path);
  if (!file) return Status::from_errno("cannot read the list " + path);
  std::vector<ManifestEntry> entries;
  for (std::string line; std::getline(file, line);) {
    ManifestEntry entry;
    const char* end = line.data() + line.size();
    auto [space, error] = std::from_chars(line.data(), end, entry.size_bytes);
    if (error != std::errc() || space == end || *space != ' ' || space + 1 == end) {
      return Status(EINVAL,
                    path + ", line " + std::to_string(entries.size() + 1) + ": not 'SIZE PATH': " + line);
    }
    entry.path.assign(space + 1, end);
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace cached::bench
