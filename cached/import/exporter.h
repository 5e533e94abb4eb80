// Exporter: gives a snapshot back as a directory, identical but for what no program can set (ctime, inode
// numbers).
//
// The tree is made breadth first; files are written by a pool of threads, each block proved before it is
// written; hard links follow when all files are there, and directories get their attributes last, deepest
// first, since making things in them changes their times. What this user may not set (owners, devices,
// trusted.* and so on) is named in the report.
//
// Everything blocks.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "cached/origin/object_store.h"

namespace cached::import {

struct ExportOptions {
  std::string volume;
  uint64_t snapshot = 0;  // 0: the current one
  std::string directory;  // made if it is not there; must be empty
  unsigned threads = 8;
};

struct ExportReport {
  uint64_t snapshot = 0;
  uint64_t entries = 0;
  uint64_t bytes = 0;
  std::vector<std::string> problems;  // at most kMaximumExportProblems
  uint64_t problem_count = 0;
};
inline constexpr size_t kMaximumExportProblems = 100;

struct ExportProgress {
  std::atomic<uint64_t> entries{0};
  std::atomic<uint64_t> bytes{0};
  std::atomic<uint64_t> total_entries{0};
  std::atomic<uint64_t> total_bytes{0};
};

// ENOTEMPTY if the directory has something in it. `progress` counts along.
Result<ExportReport> export_snapshot(const std::shared_ptr<origin::ObjectStore>& store,
                                     const ExportOptions& options, ExportProgress* progress);

}  // namespace cached::import
