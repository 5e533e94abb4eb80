// Laying out the files of a job before it runs, as fio does: what is missing or too short is written.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "bench/options.h"

namespace cached::bench {

// What a job needs of one file.
struct NeededFile {
  std::string path;
  uint64_t bytes = 0;  // 0: whatever it has
};

// The paths of clone `clone` (0 to numjobs - 1) of a job: its filenames, or fio's NAME.CLONE.FILE.
std::vector<std::string> paths_of(const BenchOptions& options, unsigned clone);

// The bytes that each of `count` files must have: the part that the job works on, and what is before it; 0:
// unknown.
uint64_t needed_bytes(const BenchOptions& options, size_t count);

struct LayoutResult {
  unsigned files = 0;  // that were made or extended
  uint64_t bytes = 0;  // of each
};

// Makes `files` long enough. Bytes that a file has stay as they are; a job that only writes gets its space
// without data. An error names the file.
Result<LayoutResult> lay_out(const BenchOptions& options, const std::vector<NeededFile>& files);

}  // namespace cached::bench
