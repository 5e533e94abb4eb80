// cached-bench shared: several mounts read one data set at once, each in an order of its own: what containers
// or jobs of one node do to one data set.
#include <sstream>
#include <thread>

#include "bench/workload_main.h"
#include "bench/workload_options.h"
#include "bench/workload_pass.h"

namespace cached::bench {
namespace {

constexpr const char* kDescription =
    "Reads every file below each of the directories, all directories at once, each in a random order of its "
    "own,\n"
    "or with --filename every record of --bs bytes of that file in each. Reports each directory and all "
    "together.";

struct SharedOptions {
  CommonOptions common;
  std::vector<std::string> directories;
  std::string filename;
  uint64_t block_bytes = 128 << 10;
  bool direct = false;
};

Result<std::vector<PassPlan>> plan_mounts(const SharedOptions& options) {
  std::vector<PassPlan> plans;
  for (const std::string& directory : options.directories) {
    Result<std::vector<std::string>> paths =
        options.filename.empty() ? files_below(directory)
                                 : std::vector<std::string>{directory + "/" + options.filename};
    if (!paths.ok()) return paths.status();
    plans.push_back({.paths = std::move(*paths),
                     .whole_files = options.filename.empty(),
                     .direct = options.direct,
                     .block_bytes = options.block_bytes,
                     .workers = options.common.workers});
  }
  return plans;
}

PassReport sum_of(const std::vector<PassReport>& mounts, unsigned number) {
  PassReport sum{.name = "pass " + std::to_string(number + 1) + ", all",
                 .unit = mounts.front().unit,
                 .latency_ns = {},
                 .cache = std::nullopt};
  for (const PassReport& mount : mounts) {
    sum.ios += mount.ios;
    sum.bytes += mount.bytes;
    sum.runtime_ns = std::max(sum.runtime_ns, mount.runtime_ns);  // they began together
    sum.latency_ns.merge(mount.latency_ns);
  }
  return sum;
}

// One report for each mount, and the sum behind them.
Result<std::vector<PassReport>> read_at_once(const SharedOptions& options, std::vector<PassPlan>* plans,
                                             unsigned number) {
  std::vector<Result<PassReport>> results(plans->size(), Status(ECANCELED, "not run"));
  std::vector<std::thread> threads;
  for (size_t mount = 0; mount < plans->size(); ++mount) {
    PassPlan& plan = (*plans)[mount];
    plan.seed = options.common.seed + number * plans->size() + mount;
    threads.emplace_back([&plan, &result = results[mount], &directory = options.directories[mount], number] {
      result = read_pass(plan, "pass " + std::to_string(number + 1) + ", " + directory);
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<PassReport> reports;
  for (Result<PassReport>& result : results) {
    if (!result.ok()) return result.status();
    reports.push_back(std::move(*result));
  }
  reports.push_back(sum_of(reports, number));
  return reports;
}

void add_options(CLI::App* app, SharedOptions* options) {
  add_common_options(app, "--loops", &options->common);
  app->add_option("--directory", options->directories,
                  "mounts of the same data, separated by ':'; may be repeated")
      ->delimiter(':')
      ->required();
  app->add_option("--filename", options->filename, "file in each directory whose records are read");
  add_size_option(app, "--bs", "bytes of a record, and of each read of a file", &options->block_bytes);
  app->add_flag("--direct", options->direct, "O_DIRECT: the kernel's cache does not help");
}

}  // namespace

int run_shared(int argc, char** argv) {
  SharedOptions options;
  CLI::App app(kDescription, "cached-bench shared");
  add_options(&app, &options);
  if (std::optional<int> exit_status = parse_workload(&app, argc, argv, [] { return std::string(); })) {
    return *exit_status;
  }
  Result<std::vector<PassPlan>> plans = plan_mounts(options);
  if (!plans.ok()) return fail_workload("shared", plans.status());
  return run_passes(options.common, "shared",
                    [&options, &plans](unsigned number) { return read_at_once(options, &*plans, number); });
}

}  // namespace cached::bench
