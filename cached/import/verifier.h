// Verifier: proves what a volume holds by reading it all back: every page of metadata, every block of data,
// and that nothing is stored that nobody refers to.
//
// Data that several snapshots share is read once. Everything blocks.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "cached/origin/object_store.h"

namespace cached::import {

struct VerifyReport {
  uint64_t snapshots = 0;
  uint64_t pages = 0;    // of metadata, proved
  uint64_t objects = 0;  // RADOS objects of data, proved
  uint64_t bytes = 0;    // of data, read back
  uint64_t orphans = 0;
  std::vector<std::string>
      problems;  // damage, with the files that it touches; at most kMaximumVerifyProblems
  uint64_t problem_count = 0;
};
inline constexpr size_t kMaximumVerifyProblems = 100;

struct VerifyOptions {
  std::string volume;
  uint64_t snapshot = 0;  // 0: all, and orphans
  unsigned threads = 8;
};

// Reads everything back. Damage is in the report; an error means that it could not be judged. `bytes_done`
// counts along, for a progress bar; may be null.
Result<VerifyReport> verify_volume(const std::shared_ptr<origin::ObjectStore>& store,
                                   const VerifyOptions& options, std::atomic<uint64_t>* bytes_done);

}  // namespace cached::import
