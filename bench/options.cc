// The command line of cached-bench: see options.h.
#include "bench/options.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <iostream>
#include <sstream>

#include "base/clock.h"
#include "base/units.h"
#include "shm/client.h"

namespace cached::bench {
namespace {

constexpr int kUsageExit = 2;
constexpr unsigned kMaximumThreads = 1024;

const char* const kDescription =
    "Reads like fio and reports like fio.\n"
    "\n"
    "A job reads its files one after the other (rw=read), or each block of them once in random order "
    "(rw=randread). \n"
    "Engines io_uring and shm keep iodepth reads in flight from one thread for each job; the others, and shm "
    "with workload\n"
    "smallfiles, start iodepth threads for each.\n"
    "Engine shm reads through the client library, without FUSE: paths are names in the volume, and the bytes "
    "of each\n"
    "read are copied into a private buffer, as an application would get them, unless --in-place says to take "
    "them where\n"
    "they lie. Engine memcpy copies pieces of bs bytes from random places of the same arena: the floor of "
    "shm.\n"
    "Workload smallfiles opens, reads and closes every file of the list once, in random order unless "
    "--in-order says as listed,\n"
    "shared by all jobs; engine shm lists a directory when it meets it in order, as a program that walks a "
    "tree does.";

// The text of an option, checked by `convert` and stored; CLI11 prints the message and names the option.
template <typename Convert>
CLI::Option* add_converted(CLI::App* app, const std::string& name, const std::string& help, Convert convert) {
  return app->add_option_function<std::string>(
      name,
      [name, convert](const std::string& text) {
        if (std::string error = convert(text); !error.empty()) throw CLI::ValidationError(name, error);
      },
      help);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

std::string read_size(const std::string& text, uint64_t* size) {
  Result<uint64_t> parsed = parse_size(text);
  if (!parsed.ok()) return parsed.status().message();
  *size = *parsed;
  return "";
}

// fio's times: a whole number and us, ms, s (the default), m, h or d.
std::string read_time(const std::string& text, uint64_t* time_ns) {
  uint64_t number = 0;
  const char* end = text.data() + text.size();
  auto [unit, error] = std::from_chars(text.data(), end, number);
  const std::string_view suffix(unit, static_cast<size_t>(end - unit));
  constexpr std::pair<std::string_view, uint64_t> kUnits[] = {{"", kNanosecondsPerSecond},
                                                              {"s", kNanosecondsPerSecond},
                                                              {"us", 1000},
                                                              {"ms", kNanosecondsPerMillisecond},
                                                              {"m", 60 * kNanosecondsPerSecond},
                                                              {"h", 3600 * kNanosecondsPerSecond},
                                                              {"d", 86400 * kNanosecondsPerSecond}};
  for (const auto& [name, scale] : kUnits) {
    if (error == std::errc() && suffix == name && number <= UINT64_MAX / scale) {
      *time_ns = number * scale;
      return "";
    }
  }
  return "'" + text + "' is not a time: a whole number with us, ms, s, m, h or d";
}

std::string read_formats(const std::string& text, BenchOptions* options) {
  options->print_normal = options->print_json = false;
  for (const std::string& format : split(text, ',')) {
    if (format == "normal") {
      options->print_normal = true;
    } else if (format == "json") {
      options->print_json = true;
    } else {
      return "'" + format + "' is neither normal nor json";
    }
  }
  return "";
}

std::string read_engine(const std::string& text, BenchOptions* options) {
  constexpr std::pair<const char*, EngineKind> kEngines[] = {{"shm", EngineKind::kShm},
                                                             {"posix", EngineKind::kPosix},
                                                             {"io_uring", EngineKind::kIoUring},
                                                             {"memcpy", EngineKind::kMemcpy}};
  for (const auto& [name, kind] : kEngines) {
    if (text != name) continue;
    options->engine = kind;
    options->engine_name = text;
    return "";
  }
  return "'" + text + "' is not one of shm, posix, io_uring, memcpy";
}

// "a" or "b", as *second says which.
std::string read_choice(const std::string& text, const char* first_name, const char* second_name,
                        bool* second) {
  if (text != first_name && text != second_name)
    return "'" + text + "' is neither " + first_name + " nor " + second_name;
  *second = text == second_name;
  return "";
}

void add_load_options(CLI::App* app, BenchOptions* options) {
  app->add_option("--name", options->name, "name of the job");
  add_converted(app, "--engine", "shm, posix, io_uring or memcpy (default posix)",
                [options](const std::string& text) { return read_engine(text, options); });
  add_converted(app, "--rw", "read or randread (default read)", [options](const std::string& text) {
    options->rw = text;
    return read_choice(text, "read", "randread", &options->random);
  });
  add_converted(app, "--bs", "bytes of one read; of each read of a file in smallfiles (default 4k)",
                [options](const std::string& text) { return read_size(text, &options->block_bytes); });
  add_converted(app, "--size", "bytes to read of all files together (default: all)",
                [options](const std::string& text) { return read_size(text, &options->size_bytes); });
  app->add_option("--iodepth", options->depth, "reads in flight for each job")
      ->check(CLI::Range(1U, kMaximumThreads));
  app->add_option("--numjobs", options->jobs, "jobs at one time, each over all files")
      ->check(CLI::Range(1U, kMaximumThreads));
  add_converted(app, "--runtime", "end after this time, for example 10, 500ms or 2m",
                [options](const std::string& text) { return read_time(text, &options->runtime_ns); });
  app->add_flag("--time_based", options->time_based, "start over until runtime is over");
  add_converted(app, "--ramp_time", "run this long before anything is counted",
                [options](const std::string& text) { return read_time(text, &options->ramp_ns); });
  add_converted(app, "--rate", "bytes to read in a second, at most, for each job (default: no limit)",
                [options](const std::string& text) { return read_size(text, &options->rate_bytes); });
  app->add_option("--randseed", options->seed, "seed of all random orders");
  app->add_flag("--direct", options->direct, "O_DIRECT (posix and io_uring)");
  app->add_flag("--uncounted", options->uncounted,
                "engine shm: leave out the counters of users and data sets, to see what they cost");
  app->add_flag("--in-place", options->in_place,
                "shm: take views of the bytes in the arena and give them back without touching the bytes");
  add_converted(app, "--workload", "blocks or smallfiles (default blocks)",
                [options](const std::string& text) {
                  bool small_files = false;
                  std::string error = read_choice(text, "blocks", "smallfiles", &small_files);
                  options->workload = small_files ? Workload::kSmallFiles : Workload::kBlocks;
                  return error;
                });
}

void add_target_options(CLI::App* app, BenchOptions* options) {
  app->add_flag("--in-order", options->in_order, "smallfiles: files in the order of the list");
  add_converted(app, "--filename", "files to read, separated by ':'", [options](const std::string& text) {
    options->filenames = split(text, ':');
    return std::string(options->filenames.empty() ? "names no file" : "");
  });
  app->add_option("--directory", options->directory, "directory of the files");
  app->add_option("--nrfiles", options->files,
                  "without --filename: read directory/NAME.0.0, NAME.0.1, ... so many")
      ->check(CLI::Range(1U, 1U << 20));
  app->add_option(
      "--filelist", options->file_list,
      "smallfiles: list with a line 'SIZE PATH' for each file, paths relative to --directory (default: the "
      "directory is walked; engine shm needs a list)");
  app->add_option("--socket", options->socket, "socket of the daemon (shm and memcpy)")
      ->default_str(shm::kDefaultSocket);
  app->add_option("--volume", options->volume,
                  "volume that engine shm reads and whose client maps the arena");
  add_converted(app, "--baseline",
                "memcpy: after the job, run the same with engine memcpy over the same client",
                [options](const std::string& text) -> std::string {
                  options->memcpy_baseline = text == "memcpy";
                  return options->memcpy_baseline ? "" : "'" + text + "' is not memcpy";
                });
  add_converted(app, "--output-format", "normal, json or both, separated by ','",
                [options](const std::string& text) { return read_formats(text, options); });
}

// What no single option can see; empty when all is well.
std::string contradiction(const BenchOptions& options) {
  const bool in_memory = options.engine == EngineKind::kShm || options.engine == EngineKind::kMemcpy;
  if (options.block_bytes == 0) return "--bs: 0 is too small";
  if (in_memory && options.volume.empty()) return "--volume: engine " + options.engine_name + " needs one";
  if (in_memory && options.direct) return "--direct: not with engine " + options.engine_name;
  if (options.engine == EngineKind::kShm && options.block_bytes > shm::kMaximumReadBytes) {
    return "--bs: at most " + format_size(shm::kMaximumReadBytes) + " with engine shm";
  }
  if (!in_memory && !options.volume.empty()) return "--volume: only with engine shm or memcpy";
  if (options.memcpy_baseline && options.engine != EngineKind::kShm)
    return "--baseline: only with engine shm";
  if (options.in_place && (options.engine != EngineKind::kShm || options.workload == Workload::kSmallFiles))
    return "--in-place: only with engine shm and workload blocks";
  if (options.in_order && options.workload != Workload::kSmallFiles)
    return "--in-order: only with workload smallfiles";
  if (options.time_based && options.runtime_ns == 0) return "--time_based: needs --runtime";
  if (options.workload == Workload::kSmallFiles) {
    if (options.rate_bytes != 0) return "--rate: not with workload smallfiles";
    if (!options.filenames.empty()) return "--filename: not with workload smallfiles, which reads a list";
    if (options.engine != EngineKind::kShm && options.directory.empty())
      return "--directory: smallfiles needs one";
    if (options.engine == EngineKind::kShm && options.file_list.empty())
      return "--filelist: engine shm needs one";
    return "";
  }
  if (!options.file_list.empty()) return "--filelist: only with workload smallfiles";
  const bool named = !options.filenames.empty() || !options.directory.empty();
  return named || options.engine == EngineKind::kMemcpy ? "" : "--filename: nothing to read is named";
}

}  // namespace

std::optional<int> parse_options(int argc, char** argv, BenchOptions* options) {
  CLI::App app(kDescription, "cached-bench");
  options->socket = shm::kDefaultSocket;
  add_load_options(&app, options);
  add_target_options(&app, options);
  try {
    app.parse(argc, argv);
    if (std::string error = contradiction(*options); !error.empty()) throw CLI::ValidationError(error);
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return 0;
  } catch (const CLI::ParseError& error) {
    std::cerr << "cached-bench: " << error.what() << '\n';
    return kUsageExit;
  }
  return std::nullopt;
}

}  // namespace cached::bench
