// cachedctl export: gives a snapshot of a data set back as a directory.
#include <spdlog/fmt/fmt.h>

#include <memory>

#include "base/units.h"
#include "cached/ctl/commands.h"
#include "cached/ctl/rados_access.h"
#include "cached/import/exporter.h"

namespace cached::ctl {
namespace {

struct ExportArguments {
  std::string config = kDefaultConfigFile;
  std::string volume;
  std::string directory;
  uint64_t snapshot = 0;
};

int run_export(const ExportArguments& arguments, bool json) {
  const Result<DatasetAccess> access = open_dataset(arguments.config, arguments.volume);
  if (!access.ok()) return fail(exit_status_of(access.status()), access.status().message());
  import::ExportProgress progress;
  Result<import::ExportReport> report = Status(EIO, "not run");
  {
    const ProgressDisplay display("export", [&progress] {
      return Advance{progress.entries, progress.bytes, progress.total_entries, progress.total_bytes, true};
    });
    report = import::export_snapshot(
        access->store,
        {.volume = access->dataset, .snapshot = arguments.snapshot, .directory = arguments.directory},
        &progress);
  }
  if (!report.ok()) return fail(kExitError, report.status().message());
  for (const std::string& problem : report->problems) fail(kExitError, problem);
  if (json) {
    print_json({{"snapshot", report->snapshot},
                {"entries", report->entries},
                {"bytes", report->bytes},
                {"problems", report->problems},
                {"problem_count", report->problem_count}});
  } else {
    print(fmt::format("snapshot {} of {} is in {}: {} names, {}\n", report->snapshot, arguments.volume,
                      arguments.directory, report->entries, format_size(report->bytes)));
  }
  if (report->problem_count == 0) return kExitOk;
  return fail(kExitError,
              fmt::format("{} things could not be given back as they were", report->problem_count));
}

}  // namespace

void add_export_command(CLI::App* app, CommandLine* line) {
  const auto arguments = std::make_shared<ExportArguments>();
  CLI::App* command =
      app->add_subcommand("export", "Give a data set back as a directory, identical to what was imported");
  command->add_option("VOLUME", arguments->volume, kVolumeHelp)->required();
  command->add_option("DIR", arguments->directory, "An empty directory, or one to make")->required();
  command->add_option("--snapshot", arguments->snapshot,
                      "Number of the snapshot; the current one by default");
  command->add_option("--config", arguments->config, kConfigHelp)->capture_default_str();
  command->add_flag("--json", line->json, "Print JSON for programs");
  command->callback([=] { line->run = [=] { return run_export(*arguments, line->json); }; });
}

}  // namespace cached::ctl
