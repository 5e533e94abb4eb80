// The files of a tree: see manifest.h.
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

Result<std::vector<std::filesystem::path>> walk_files(const std::string& directory, Links links) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  std::filesystem::recursive_directory_iterator entry(directory, error);
  for (; !error && entry != std::filesystem::recursive_directory_iterator(); entry.increment(error)) {
    const std::filesystem::file_status status =
        links == Links::kFollow ? entry->status(error) : entry->symlink_status(error);
    if (std::filesystem::is_regular_file(status)) paths.push_back(entry->path());
  }
  if (error) return Status(error.value(), "cannot list " + directory + ": " + error.message());
  return paths;
}

}  // namespace cached::bench
