// What the command lines of the workloads have in common: see workload_options.h.
#include "bench/workload_options.h"

#include <iostream>
#include <sstream>

#include "base/units.h"

namespace cached::bench {
namespace {

constexpr int kUsageExit = 2;
constexpr unsigned kMaximumWorkers = 1024;

void read_formats(const std::string& text, CommonOptions* options) {
  options->print_normal = options->print_json = false;
  std::istringstream formats(text);
  for (std::string format; std::getline(formats, format, ',');) {
    if (format != "normal" && format != "json") {
      throw CLI::ValidationError("--output-format", "'" + format + "' is neither normal nor json");
    }
    (format == "json" ? options->print_json : options->print_normal) = true;
  }
}

}  // namespace

void add_size_option(CLI::App* app, const std::string& name, const std::string& help, uint64_t* size_bytes) {
  app->add_option_function<std::string>(
      name,
      [name, size_bytes](const std::string& text) {
        Result<uint64_t> parsed = parse_size(text);
        if (!parsed.ok()) throw CLI::ValidationError(name, parsed.status().message());
        *size_bytes = *parsed;
      },
      help + " (default " + format_size(*size_bytes) + ")");
}

void add_common_options(CLI::App* app, const std::string& loops_name, CommonOptions* options) {
  app->add_option("--numjobs", options->workers, "workers at one time")
      ->check(CLI::Range(1U, kMaximumWorkers))
      ->capture_default_str();
  app->add_option(loops_name, options->loops, "passes, each reported by itself")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("--randseed", options->seed, "seed of all random orders; each pass has another order")
      ->capture_default_str();
  app->add_flag("--drop_caches", options->drop_caches,
                "drop the kernel's pages, names and inodes before each pass (needs root)");
  app->add_option("--socket", options->control_socket,
                  "control socket of the daemon whose counters tell the hit ratio of each pass");
  app->add_option_function<std::string>(
      "--output-format", [options](const std::string& text) { read_formats(text, options); },
      "normal, json or both, separated by ',' (default normal)");
}

std::optional<int> parse_workload(CLI::App* app, int argc, char** argv, const Contradiction& contradiction) {
  try {
    app->parse(argc, argv);
    if (std::string error = contradiction(); !error.empty()) throw CLI::ValidationError(error);
  } catch (const CLI::CallForHelp&) {
    std::cout << app->help();
    return 0;
  } catch (const CLI::ParseError& error) {
    std::cerr << app->get_name() << ": " << error.what() << "; --help names all options\n";
    return kUsageExit;
  }
  return std::nullopt;
}

}  // namespace cached::bench
