// What the passes of all workloads share: reading files or records by the engine of the plain cached-bench,
// and what stands around a pass, the kernel's caches before it and the daemon's counters around it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "bench/workload_options.h"
#include "bench/workload_report.h"

namespace cached::bench {

// What one pass reads, each of it once.
struct PassPlan {
  std::vector<std::string> paths;
  bool whole_files = true;  // open, read, close; else records of block_bytes in files that are open
  bool in_order = false;    // as listed; else at random
  bool direct = false;
  uint64_t block_bytes = 0;  // of one read
  unsigned workers = 1;      // who share the pass
  uint64_t seed = 1;
};

// Runs the plan and reports it under `name`.
Result<PassReport> read_pass(const PassPlan& plan, const std::string& name);

// The regular files below `directory`, in directory order: names sorted, a directory's files where its name
// stands.
Result<std::vector<std::string>> files_below(const std::string& directory);

// Runs `pass` (given the number of the pass, from 0) as often as the options say, each with the caches
// dropped and the counters read around it as they say, and prints the report. Returns the program's exit
// status.
int run_passes(const CommonOptions& options, const std::string& workload,
               const std::function<Result<std::vector<PassReport>>(unsigned)>& pass);

// The same for passes of one report each.
int run_single_passes(const CommonOptions& options, const std::string& workload,
                      const std::function<Result<PassReport>(unsigned)>& pass);

// Does what --make asks for: `make` reports what it made, and how much. With nothing to read afterwards the
// report is printed, and what the program exits with is returned; so it is when `make` fails.
std::optional<int> make_first(const CommonOptions& options, const std::string& workload, bool reads_too,
                              const std::function<Result<PassReport>()>& make);

// Prints an error of this workload and returns the exit status that goes with it.
int fail_workload(const std::string& workload, const Status& status);

}  // namespace cached::bench
