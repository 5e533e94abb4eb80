// What the command lines of the workloads have in common: fio's names and meanings.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace cached::bench {

struct CommonOptions {
  unsigned workers = 1;
  unsigned loops = 1;
  uint64_t seed = 1;
  bool drop_caches = false;
  std::string control_socket;  // empty: no hit ratios
  bool print_normal = true;
  bool print_json = false;
};

// What may be wrong with options that are right one by one: a sentence, or empty.
using Contradiction = std::function<std::string()>;

// Adds the options above; `loops_name` is what this workload calls its passes, "--loops" or "--epochs".
void add_common_options(CLI::App* app, const std::string& loops_name, CommonOptions* options);

// Adds an option whose value is a size as base/units.h reads it.
void add_size_option(CLI::App* app, const std::string& name, const std::string& help, uint64_t* size_bytes);

// Reads the command line. Returns the exit status when the program must end now, as parse_options() does.
std::optional<int> parse_workload(CLI::App* app, int argc, char** argv, const Contradiction& contradiction);

}  // namespace cached::bench
