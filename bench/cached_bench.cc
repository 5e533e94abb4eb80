// cached-bench: generates load as fio would, through the client library, through files or on a device, and
// reports it as fio does.
#include <unistd.h>

#include <fstream>
#include <iostream>

#include "bench/command_line.h"
#include "bench/eta.h"
#include "bench/report.h"
#include "bench/run.h"
#include "bench/workload_main.h"

namespace cached::bench {
namespace {

constexpr int kErrorExit = 1;
constexpr int kUsageExit = 2;

int complain(const std::string& message, int exit_status) {
  std::cerr << "cached-bench: " << message << '\n';
  return exit_status;
}

// Runs the jobs and writes the reports to `output`.
int run(const CommandLine& line, std::ostream& output) {
  const ProgramOptions& program = line.program;
  if (program.print_normal) output << normal_heading(line.list.jobs) << std::flush;
  EtaLine eta(program.progress == Progress::kAlways ||
              (program.progress == Progress::kIfTerminal && ::isatty(STDERR_FILENO) == 1));
  const RunHooks hooks{.say =
                           [&](const std::string& text) {
                             if (program.print_normal) output << text << '\n' << std::flush;
                           },
                       .watch = [&](const std::vector<RunningJob>& jobs) { eta.watch(jobs); }};
  Result<std::vector<JobReport>> reports = run_jobs(line.list.jobs, hooks);
  if (!reports.ok()) return complain(reports.status().message(), kErrorExit);
  if (program.print_json) output << json_report(line.list.global, *reports);
  if (program.print_normal) output << normal_report(*reports);
  int exit_status = 0;
  for (const JobReport& report : *reports) {
    if (!report.error.ok())
      exit_status = complain("job " + report.name + ": " + report.error.message(), kErrorExit);
  }
  output.flush();
  return output ? exit_status : complain("cannot write the report", kErrorExit);
}

int bench_main(std::span<const std::string> arguments) {
  Result<CommandLine> line = parse_command_line(arguments);
  if (!line.ok()) return complain(line.status().message(), kUsageExit);
  if (line->help) std::cout << help_text();
  if (line->version) std::cout << program_version() << '\n';
  if (line->help || line->version) return 0;
  if (line->program.output.empty()) return run(*line, std::cout);
  std::ofstream file(line->program.output);
  if (!file)
    return complain(Status::from_errno("cannot write " + line->program.output).message(), kErrorExit);
  return run(*line, file);
}

}  // namespace
}  // namespace cached::bench

int main(int argc, char** argv) {
  if (argc > 1 && cached::bench::is_workload(argv[1])) return cached::bench::run_workload(argc - 1, argv + 1);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  return cached::bench::bench_main(arguments);
}
