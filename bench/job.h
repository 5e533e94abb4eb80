// Runs a job list on an engine: starts the threads, times every I/O, counts what is not ramp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/histogram.h"
#include "base/status.h"
#include "bench/engine.h"
#include "bench/options.h"

namespace cached::bench {

// Sums over all threads, of the time after the ramp.
struct RunResult {
  Histogram latency_ns;
  uint64_t ios = 0;
  uint64_t bytes = 0;
  uint64_t runtime_ns = 0;         // from the end of the ramp to the last thread's last I/O
  uint64_t thread_runtime_ns = 0;  // sum over the threads: what CPU percentages refer to
  uint64_t user_cpu_ns = 0;
  uint64_t system_cpu_ns = 0;
  uint64_t context_switches = 0;
  uint64_t major_faults = 0;
  uint64_t minor_faults = 0;
};

// Runs everything that `options` asks for over `paths`, which `engine` has not seen yet.
Result<RunResult> run_jobs(const BenchOptions& options, Engine* engine,
                           const std::vector<std::string>& paths);

}  // namespace cached::bench
