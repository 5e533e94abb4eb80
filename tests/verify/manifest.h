// Manifest: the list of a tree's files with their ids, sizes and versions, kept outside of the tree; and the
// maker of such trees.
//
// The file is JSON lines. The first line is {"format":1,"seed":S}; each other line is a file:
// {"path":"d000/s000001","id":1,"size":20480,"version":0}, the path relative to the tree's root.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"

namespace cached::verify {

struct FileEntry {
  std::string path;
  uint64_t id = 0;
  uint64_t size = 0;
  uint64_t version = 0;
};

struct Manifest {
  uint64_t seed = 0;
  std::vector<FileEntry> files;
};

struct TreeOptions {
  uint64_t seed = 1;
  uint64_t small_files = 0;
  uint64_t small_minimum_bytes = 20 * 1024;
  uint64_t small_maximum_bytes = 100 * 1024;
  uint64_t large_files = 0;
  uint64_t large_bytes = 0;
  uint64_t directories = 1;  // that the small files are spread over
  bool python_like = false;  // names and nesting of a python environment instead of numbered directories
};

// Which files a tree has; decided by the options alone.
Manifest plan_tree(const TreeOptions& options);
// Writes the files of the plan below `directory`, which is made if need be. `progress` is called with the
// bytes written.
Status write_tree(const Manifest& manifest, const std::string& directory,
                  const std::function<void(uint64_t written_bytes)>& progress);
// Makes (or truncates) one file at `path` and writes [0, size) of this content.
Status write_file(const std::string& path, uint64_t seed, uint64_t file_id, uint64_t version, uint64_t size);

Status save_manifest(const Manifest& manifest, const std::string& file);
Result<Manifest> load_manifest(const std::string& file);

}  // namespace cached::verify
