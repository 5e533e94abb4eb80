// What the passes of all workloads share: see workload_pass.h.
#include "bench/workload_pass.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "base/clock.h"
#include "bench/manifest.h"
#include "bench/options.h"
#include "bench/run.h"

namespace cached::bench {
namespace {

Status drop_kernel_caches() {
  constexpr const char* kPath = "/proc/sys/vm/drop_caches";
  ::sync();  // what is dirty is not dropped
  std::ofstream file(kPath);
  file << "3\n" << std::flush;
  return file ? Status()
              : Status(EPERM, std::string("--drop_caches: cannot write ") + kPath + "; run as root");
}

Status run_pass_once(const CommonOptions& options, unsigned number,
                     const std::function<Result<std::vector<PassReport>>(unsigned)>& pass,
                     std::vector<PassReport>* reports) {
  const bool counted = !options.control_socket.empty();
  if (options.drop_caches) CACHED_RETURN_IF_ERROR(drop_kernel_caches());
  Result<CacheCounters> before = counted ? read_cache_counters(options.control_socket) : CacheCounters{};
  if (!before.ok()) return before.status();
  Result<std::vector<PassReport>> passed = pass(number);
  if (!passed.ok()) return passed.status();
  Result<CacheCounters> after = counted ? read_cache_counters(options.control_socket) : CacheCounters{};
  if (!after.ok()) return after.status();
  // The counters are the daemon's: they belong to the pass as a whole, which its last report describes.
  passed->back().cache = cache_use_between(*before, *after);
  std::move(passed->begin(), passed->end(), std::back_inserter(*reports));
  return Status();
}

}  // namespace

Result<PassReport> read_pass(const PassPlan& plan, const std::string& name) {
  BenchOptions options;
  options.name = name;
  options.block_bytes = plan.block_bytes;
  options.load.random = !plan.in_order;
  options.in_order = plan.in_order;
  options.file_order = plan.in_order ? FileOrder::kSequential : FileOrder::kRandom;
  options.direct = plan.direct;
  options.seed = plan.seed;
  options.workload = plan.whole_files ? Workload::kSmallFiles : Workload::kBlocks;
  options.filenames = plan.paths;
  options.group_reporting = true;
  // Jobs share a list of files, but have an order of records each; the threads of one job share that.
  (plan.whole_files ? options.jobs : options.depth) = plan.workers;
  const std::vector<BenchOptions> jobs = {options};
  const RunHooks silent{.say = [](const std::string&) {}, .watch = [](const std::vector<RunningJob>&) {}};
  Result<std::vector<JobReport>> reports = run_jobs(jobs, silent);
  if (!reports.ok()) return reports.status();
  if (!reports->front().error.ok()) return reports->front().error;
  DirectionStats& reads = reports->front().stats.direction[kRead];
  return PassReport{.name = name,
                    .unit = plan.whole_files ? "files" : "records",
                    .ios = reads.ios,
                    .bytes = reads.bytes,
                    .runtime_ns = reads.runtime_ns(),
                    .latency_ns = std::move(reads.completion.histogram),
                    .cache = std::nullopt};
}

Result<std::vector<std::string>> files_below(const std::string& directory) {
  Result<std::vector<std::filesystem::path>> paths = walk_files(directory, Links::kLeaveOut);
  if (!paths.ok()) return paths.status();
  if (paths->empty()) return Status(ENOENT, directory + " has no files to read");
  std::sort(paths->begin(), paths->end());  // by components, so that directories stay together
  return std::vector<std::string>(paths->begin(), paths->end());
}

std::optional<int> make_first(const CommonOptions& options, const std::string& workload, bool reads_too,
                              const std::function<Result<PassReport>()>& make) {
  const uint64_t begin_ns = system_clock().monotonic_ns();
  Result<PassReport> made = make();
  if (!made.ok()) return fail_workload(workload, made.status());
  if (reads_too) return std::nullopt;
  made->name = "make";
  made->runtime_ns = system_clock().monotonic_ns() - begin_ns;
  print_workload_report(options, workload, {std::move(*made)});
  return 0;
}

int run_passes(const CommonOptions& options, const std::string& workload,
               const std::function<Result<std::vector<PassReport>>(unsigned)>& pass) {
  std::vector<PassReport> reports;
  for (unsigned number = 0; number < options.loops; ++number) {
    if (Status status = run_pass_once(options, number, pass, &reports); !status.ok()) {
      return fail_workload(workload, status);
    }
  }
  print_workload_report(options, workload, reports);
  return 0;
}

int run_single_passes(const CommonOptions& options, const std::string& workload,
                      const std::function<Result<PassReport>(unsigned)>& pass) {
  return run_passes(options, workload, [&pass](unsigned number) -> Result<std::vector<PassReport>> {
    Result<PassReport> report = pass(number);
    if (!report.ok()) return report.status();
    return std::vector<PassReport>{std::move(*report)};
  });
}

int fail_workload(const std::string& workload, const Status& status) {
  std::cerr << "cached-bench " << workload << ": " << status.message() << '\n';
  return 1;
}

}  // namespace cached::bench
