// cached-bench: generates load as fio would, through the client library or through files, and reports it as
// fio does.
#include <filesystem>
#include <iostream>

#include "bench/engine.h"
#include "bench/job.h"
#include "bench/manifest.h"
#include "bench/options.h"
#include "bench/report.h"
#include "bench/shm_engines.h"
#include "bench/workload_main.h"

namespace cached::bench {
namespace {

// `path` below the options' directory.
std::string below_directory(const BenchOptions& options, const std::string& path) {
  return options.directory.empty() ? path : options.directory + "/" + path;
}

Result<std::vector<std::string>> listed_paths(const BenchOptions& options) {
  std::vector<std::string> paths;
  if (options.file_list.empty()) {
    std::error_code error;
    std::filesystem::recursive_directory_iterator entry(options.directory, error);
    for (; !error && entry != std::filesystem::recursive_directory_iterator(); entry.increment(error)) {
      if (entry->is_regular_file(error)) paths.push_back(entry->path());
    }
    if (error) return Status(error.value(), options.directory + ": " + error.message());
    return paths;
  }
  Result<std::vector<ManifestEntry>> entries = read_manifest(options.file_list);
  if (!entries.ok()) return entries.status();
  for (const ManifestEntry& entry : *entries) paths.push_back(below_directory(options, entry.path));
  return paths;
}

Result<std::vector<std::string>> paths_to_read(const BenchOptions& options) {
  if (options.workload == Workload::kSmallFiles) return listed_paths(options);
  std::vector<std::string> paths;
  for (const std::string& name : options.filenames) paths.push_back(below_directory(options, name));
  if (!paths.empty()) return paths;
  for (unsigned file = 0; file < options.files; ++file) {
    paths.push_back(below_directory(options, options.name + ".0." + std::to_string(file)));
  }
  return paths;
}

Status run_one(const BenchOptions& options, const std::string& engine_name, Engine* engine,
               const std::vector<std::string>& paths, std::vector<JobReport>* reports) {
  Result<RunResult> result = run_jobs(options, engine, paths);
  if (!result.ok()) return result.status();
  const std::string name = reports->empty() ? options.name : options.name + "-" + engine_name;
  reports->push_back({.name = name, .engine = engine_name, .result = std::move(*result)});
  return Status();
}

Status run_in_memory(const BenchOptions& options, const std::vector<std::string>& paths,
                     std::vector<JobReport>* reports) {
  Result<std::shared_ptr<shm::Client>> client = connect_client(options);
  if (!client.ok()) return client.status();
  if (options.engine == EngineKind::kShm) {
    CACHED_RETURN_IF_ERROR(run_one(options, "shm", make_shm_engine(options, *client).get(), paths, reports));
    if (!options.memcpy_baseline) return Status();
  }
  return run_one(options, "memcpy", make_memcpy_engine(options, *client).get(), paths, reports);
}

Status run(const BenchOptions& options, std::vector<JobReport>* reports) {
  Result<std::vector<std::string>> paths = paths_to_read(options);
  if (!paths.ok()) return paths.status();
  switch (options.engine) {
    case EngineKind::kPosix:
      return run_one(options, options.engine_name, make_posix_engine(options).get(), *paths, reports);
    case EngineKind::kIoUring:
      return run_one(options, options.engine_name, make_io_uring_engine(options).get(), *paths, reports);
    case EngineKind::kShm:
    case EngineKind::kMemcpy:
      return run_in_memory(options, *paths, reports);
  }
  return Status(EINVAL, "unknown engine");
}

}  // namespace
}  // namespace cached::bench

int main(int argc, char** argv) {
  using namespace cached::bench;
  if (argc > 1 && is_workload(argv[1])) return run_workload(argc - 1, argv + 1);
  BenchOptions options;
  if (std::optional<int> exit_status = parse_options(argc, argv, &options)) return *exit_status;
  std::vector<JobReport> reports;
  if (cached::Status status = run(options, &reports); !status.ok()) {
    std::cerr << "cached-bench: " << status.message() << '\n';
    return 1;
  }
  if (options.print_normal) std::cout << normal_report(options, reports);
  if (options.print_json) std::cout << json_report(options, reports);
  return 0;
}
