// Changers: threads that change files at the source in every way while readers read, and write the histories
// that the judge reads.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "tests/verify/history.h"
#include "tests/verify/manifest.h"
#include "tests/verify/random.h"

namespace cached::verify {

// An in-place change is one pwrite of the whole file; larger files are changed in other ways.
inline constexpr uint64_t kMaximumInPlaceBytes = 4 * 1024 * 1024;

struct ChangerOptions {
  std::string source;
  uint64_t seed = 1;
  double interval_ms = 20;         // between two changes of one thread
  unsigned percent_of_files = 50;  // that are ever changed
  std::vector<ChangeKind> kinds;
};

// One thread's changer. It owns every `changers`-th file, so that a file has one changer.
class Changer {
 public:
  // All but the options must outlive it.
  Changer(const ChangerOptions& options, const Manifest& manifest, std::vector<FileHistory>* histories,
          unsigned number, unsigned changers);
  // Changes files until `stop`. Removed files are made anew before it returns.
  Status run(const std::atomic<bool>& stop);
  const std::map<std::string, uint64_t>& changes() const { return changes_; }

 private:
  Status change_once(uint64_t file_index);
  Status apply(uint64_t file_index, ChangeKind kind);
  Status replace_content(const FileEntry& file, const FileState& next);
  Status overwrite(const FileEntry& file, const FileState& next);
  Status append(const FileEntry& file, const FileState& before, const FileState& next);
  Status truncate(const FileEntry& file, const FileState& next);
  std::string path_of(const FileEntry& file) const { return options_.source + "/" + file.path; }

  const ChangerOptions options_;
  const Manifest& manifest_;
  std::vector<FileHistory>& histories_;
  const std::string temporary_path_;
  Random random_;
  std::vector<uint64_t> mine_;
  std::map<std::string, uint64_t> changes_;
};

}  // namespace cached::verify
