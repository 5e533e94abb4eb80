// cached-bench epochs: what a training job reads: every file, or every record of a file, once in each epoch,
// in another random order each time, by several workers that share the order.
#include "bench/workload_main.h"
#include "bench/workload_options.h"
#include "bench/workload_pass.h"

namespace cached::bench {
namespace {

constexpr const char* kDescription =
    "Reads every file below --directory, or every record of --bs bytes of --filename, once in each epoch, in "
    "another\n"
    "random order each time. The workers share the order. --socket adds the hit ratio of each epoch.";

struct EpochsOptions {
  CommonOptions common;
  std::string directory;
  std::string filename;
  uint64_t block_bytes = 128 << 10;
  bool direct = false;
};

std::string contradiction(const EpochsOptions& options) {
  return options.directory.empty() == options.filename.empty()
             ? "name what to read by either --directory (whole files) or --filename (records)"
             : "";
}

Result<std::vector<std::string>> paths_of(const EpochsOptions& options) {
  if (options.filename.empty()) return files_below(options.directory);
  return std::vector<std::string>{options.filename};
}

}  // namespace

int run_epochs(int argc, char** argv) {
  EpochsOptions options;
  CLI::App app(kDescription, "cached-bench epochs");
  options.common.loops = 3;
  add_common_options(&app, "--epochs", &options.common);
  app.add_option("--directory", options.directory, "tree whose files are read");
  app.add_option("--filename", options.filename, "file whose records are read");
  add_size_option(&app, "--bs", "bytes of a record, and of each read of a file", &options.block_bytes);
  app.add_flag("--direct", options.direct, "O_DIRECT: the kernel's cache does not help");
  if (std::optional<int> exit_status =
          parse_workload(&app, argc, argv, [&options] { return contradiction(options); })) {
    return *exit_status;
  }
  Result<std::vector<std::string>> paths = paths_of(options);
  if (!paths.ok()) return fail_workload("epochs", paths.status());
  PassPlan plan{.paths = std::move(*paths),
                .whole_files = options.filename.empty(),
                .direct = options.direct,
                .block_bytes = options.block_bytes,
                .workers = options.common.workers};
  return run_single_passes(options.common, "epochs", [&options, &plan](unsigned number) {
    plan.seed = options.common.seed + number;
    return read_pass(plan, "epoch " + std::to_string(number + 1));
  });
}

}  // namespace cached::bench
