// Runs the jobs of a list: lays out their files, opens engines, starts what begins together, collects the
// reports.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "bench/job_stats.h"
#include "bench/job_thread.h"
#include "bench/options.h"

namespace cached::bench {

// One entry of the reports: a job, or all jobs of a group that reports as one.
struct JobReport {
  std::string name;
  const BenchOptions* options = nullptr;
  unsigned group = 0;
  unsigned jobs = 1;
  Status error;  // the first of its jobs'
  JobStats stats;
  uint64_t elapsed_s = 0;  // of the run, when it ended
};

// A job that runs, for who watches.
struct RunningJob {
  const BenchOptions* options;
  const IoSource* source;
  const std::deque<JobThread>* threads;
};

// What main() wants to hear while jobs run.
struct RunHooks {
  std::function<void(const std::string& line)> say;
  // All jobs that begin together, before they do and after they ended (empty).
  std::function<void(const std::vector<RunningJob>& jobs)> watch;
};

// fio's group of each job: stonewall and new_group begin another one.
std::vector<unsigned> groups_of(const std::vector<BenchOptions>& jobs);

// Runs `jobs`, which outlive the reports. An error of a job is in its report and ends that job alone; an
// error of this function means that not all could be begun.
Result<std::vector<JobReport>> run_jobs(const std::vector<BenchOptions>& jobs, const RunHooks& hooks);

}  // namespace cached::bench
