// Manifest and tree maker.
#include "tests/verify/manifest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/unique_fd.h"
#include "base/units.h"
#include "tests/verify/content.h"
#include "tests/verify/random.h"

namespace cached::verify {
namespace {

constexpr int kFormat = 1;
constexpr size_t kWriteBytes = kMiB;

// Where small file number `index` of a python-like tree lies: packages, some with a second level, whose
// modules have the usual names, so that directories and names look like what `import` walks through.
std::string python_path(uint64_t index, uint64_t directories) {
  static constexpr std::array<const char*, 6> kModules = {"__init__", "core",   "utils",
                                                          "types",    "compat", "errors"};
  const uint64_t package = index % directories;
  const uint64_t within = index / directories;
  const std::string directory =
      package % 3 == 0 ? fmt::format("site-packages/package{:03}", package)
                       : fmt::format("site-packages/package{:03}/sub{}", package / 3 * 3, package);
  if (within < kModules.size()) return fmt::format("{}/{}.py", directory, kModules[within]);
  return fmt::format("{}/__pycache__/module{:05}.cpython-311.pyc", directory, within);
}

}  // namespace

Manifest plan_tree(const TreeOptions& options) {
  Manifest manifest;
  manifest.seed = options.seed;
  Random random(options.seed);
  const uint64_t directories = std::max<uint64_t>(options.directories, 1);
  for (uint64_t i = 0; i < options.small_files; i++) {
    FileEntry entry;
    entry.id = i;
    entry.size = random.between(options.small_minimum_bytes, options.small_maximum_bytes);
    entry.path =
        options.python_like ? python_path(i, directories) : fmt::format("d{:03}/s{:06}", i % directories, i);
    manifest.files.push_back(std::move(entry));
  }
  for (uint64_t i = 0; i < options.large_files; i++) {
    FileEntry entry;
    entry.id = options.small_files + i;
    entry.size = options.large_bytes;
    entry.path = fmt::format("large/l{:03}", i);
    manifest.files.push_back(std::move(entry));
  }
  return manifest;
}

Status write_file(const std::string& path, uint64_t seed, uint64_t file_id, uint64_t version, uint64_t size) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd.valid()) return Status::from_errno("cannot create " + path);
  const Content content(seed, file_id, version);
  std::vector<uint8_t> buffer(static_cast<size_t>(std::min<uint64_t>(size, kWriteBytes)));
  for (uint64_t offset = 0; offset < size;) {
    const size_t part = static_cast<size_t>(std::min<uint64_t>(size - offset, kWriteBytes));
    content.fill(offset, buffer.data(), part);
    const ssize_t written = ::pwrite(fd.get(), buffer.data(), part, static_cast<off_t>(offset));
    if (written < 0) return Status::from_errno("cannot write " + path);
    offset += static_cast<uint64_t>(written);
  }
  return Status();
}

Status write_tree(const Manifest& manifest, const std::string& directory,
                  const std::function<void(uint64_t written_bytes)>& progress) {
  std::set<std::string> made;
  uint64_t written_bytes = 0;
  for (const FileEntry& entry : manifest.files) {
    const std::filesystem::path path = std::filesystem::path(directory) / entry.path;
    if (made.insert(path.parent_path()).second) {
      std::error_code error;
      std::filesystem::create_directories(path.parent_path(), error);
      if (error)
        return Status::from_errno(error.value(), "cannot make directory " + path.parent_path().string());
    }
    CACHED_RETURN_IF_ERROR(write_file(path, manifest.seed, entry.id, entry.version, entry.size));
    written_bytes += entry.size;
    progress(written_bytes);
  }
  return Status();
}

Status save_manifest(const Manifest& manifest, const std::string& file) {
  std::ofstream out(file, std::ios::trunc);
  out << nlohmann::json{{"format", kFormat}, {"seed", manifest.seed}} << '\n';
  for (const FileEntry& entry : manifest.files) {
    out << nlohmann::json{{"path", entry.path},
                          {"id", entry.id},
                          {"size", entry.size},
                          {"version", entry.version}}
        << '\n';
  }
  out.close();
  if (!out) return Status::from_errno("cannot write manifest " + file);
  return Status();
}

Result<Manifest> load_manifest(const std::string& file) {
  std::ifstream in(file);
  if (!in) return Status::from_errno("cannot open manifest " + file);
  Manifest manifest;
  std::string line;
  uint64_t number = 0;
  try {
    while (std::getline(in, line)) {
      const nlohmann::json json = nlohmann::json::parse(line);
      if (number++ == 0) {
        if (json.at("format").get<int>() != kFormat)
          return Status(EINVAL, "manifest " + file + " has another format");
        manifest.seed = json.at("seed").get<uint64_t>();
        continue;
      }
      FileEntry entry;
      entry.path = json.at("path").get<std::string>();
      entry.id = json.at("id").get<uint64_t>();
      entry.size = json.at("size").get<uint64_t>();
      entry.version = json.at("version").get<uint64_t>();
      manifest.files.push_back(std::move(entry));
    }
  } catch (const nlohmann::json::exception& error) {
    return Status(EINVAL, fmt::format("manifest {} line {}: {}", file, number + 1, error.what()));
  }
  if (number == 0) return Status(EINVAL, "manifest " + file + " is empty");
  return manifest;
}

}  // namespace cached::verify
