// Readers: threads that read files below one or several directories in every way and hand each read to the
// judge.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/verify/history.h"
#include "tests/verify/judge.h"
#include "tests/verify/manifest.h"
#include "tests/verify/report.h"

namespace cached::verify {

enum class Pattern : uint8_t {
  kWhole,   // from the first byte to the end of file
  kRandom,  // several random pieces of one open
  kReopen,  // one random piece for each open
};

struct ReaderOptions {
  std::vector<std::string> directories;  // the same tree in each; threads are dealt out to them in turn
  uint64_t seed = 1;
  unsigned threads = 1;  // at least one for each directory is started
  double seconds = 0;    // random files until this time is over; 0: `passes`
  unsigned passes = 1;   // each directory's files all once, in another order each time
  std::vector<Access> accesses = {Access::kBuffered};
  std::vector<Pattern> patterns = {Pattern::kWhole};
  uint64_t maximum_read_bytes = 1024 * 1024;
  bool random_order = true;  // of the files in a pass; otherwise as the manifest lists them
  bool progress = false;
  uint64_t maximum_errors = 10;  // stop after so many
};

// Reads and judges until done, until `stop` is set or until too many errors. `histories` has one entry for
// each file of the manifest. Prints errors and progress to stderr. The report's `errors` says how it went.
Report run_readers(const ReaderOptions& options, const Manifest& manifest,
                   const std::vector<FileHistory>& histories, const Judge& judge, std::atomic<bool>* stop);

}  // namespace cached::verify
