// cachedctl import: packs a directory into a data set and publishes it.
#include <spdlog/fmt/fmt.h>

#include <memory>

#include "base/clock.h"
#include "base/units.h"
#include "cached/ctl/commands.h"
#include "cached/ctl/rados_access.h"
#include "cached/import/importer.h"

namespace cached::ctl {
namespace {

struct ImportArguments {
  std::string config = kDefaultConfigFile;
  std::string directory;
  std::string volume;
};

nlohmann::json to_json(const import::ImportReport& report, double seconds) {
  return {{"snapshot", report.snapshot},
          {"files", report.record.files},
          {"directories", report.record.directories},
          {"bytes", report.record.bytes},
          {"metadata_bytes", report.record.metadata_bytes()},
          {"reused_files", report.reused_files},
          {"reused_bytes", report.reused_bytes},
          {"stored_bytes", report.stored_bytes},
          {"resumed_imports", report.resumed_imports},
          {"problems", report.problems},
          {"problem_count", report.problem_count},
          {"seconds", seconds}};
}

std::string format_report(const ImportArguments& arguments, const import::ImportReport& report,
                          double seconds) {
  return fmt::format(
      "{} is snapshot {} of {} now: {} files and {} directories, {}; {} stored, {} of {} files were there "
      "already; {} of metadata; {:.1f} s\n",
      arguments.directory, report.snapshot, arguments.volume, report.record.files, report.record.directories,
      format_size(report.record.bytes), format_size(report.stored_bytes), report.reused_files,
      report.record.files, format_size(report.record.metadata_bytes()), seconds);
}

int run_import(const ImportArguments& arguments, bool json) {
  StopOnSignal signals;
  const Result<DatasetAccess> access = open_dataset(arguments.config, arguments.volume);
  if (!access.ok()) return fail(exit_status_of(access.status()), access.status().message());
  import::Importer importer(access->store, {.directory = arguments.directory, .volume = access->dataset});
  const uint64_t started_ns = system_clock().monotonic_ns();
  Status status;
  {
    signals.then([&importer] { importer.stop(); });
    const ProgressDisplay display("import", [&importer] {
      const import::ImportProgress progress = importer.progress();
      return Advance{progress.files, progress.bytes, progress.total_files, progress.total_bytes,
                     progress.total_known};
    });
    status = importer.run();
    signals.then(nullptr);
  }
  const double seconds = static_cast<double>(system_clock().monotonic_ns() - started_ns) / 1e9;
  const import::ImportReport& report = importer.report();
  for (const std::string& problem : report.problems) fail(kExitError, problem);
  if (report.problem_count > report.problems.size())
    fail(kExitError, fmt::format("and {} more", report.problem_count - report.problems.size()));
  if (json) print_json(to_json(report, seconds));
  if (!status.ok()) return fail(kExitError, status.message());
  return json ? kExitOk : print(format_report(arguments, report, seconds));
}

}  // namespace

void add_import_command(CLI::App* app, CommandLine* line) {
  const auto arguments = std::make_shared<ImportArguments>();
  CLI::App* command = app->add_subcommand(
      "import", "Pack a directory into a data set in RADOS and publish it; may be interrupted and run again");
  command->add_option("DIR", arguments->directory, "The directory")->required();
  command->add_option("VOLUME", arguments->volume, kVolumeHelp)->required();
  command->add_option("--config", arguments->config, kConfigHelp)->capture_default_str();
  command->add_flag("--json", line->json, "Print JSON for programs");
  command->callback([=] { line->run = [=] { return run_import(*arguments, line->json); }; });
}

}  // namespace cached::ctl
