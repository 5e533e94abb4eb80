// cached-verify: makes trees whose every byte is known, and judges every read of them.
#include <fmt/format.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <thread>

#include "base/clock.h"
#include "base/units.h"
#include "tests/verify/changer.h"
#include "tests/verify/judge.h"
#include "tests/verify/manifest.h"
#include "tests/verify/reader.h"

namespace cached::verify {
namespace {

constexpr int kExitWrong = 1;  // a read was wrong
constexpr int kExitUsage = 2;  // the run could not be made

std::atomic<bool> stop_requested = false;

void on_stop_signal(int) {
  stop_requested = true;
}

// What the three commands take from the command line.
struct Options {
  std::string manifest_file;
  TreeOptions tree;
  ReaderOptions reader;
  JudgeOptions judge;
  ChangerOptions changer;
  std::string directory;  // of make
  std::vector<std::string> modes = {"pread", "whole"};
  std::vector<std::string> errnos;
  std::vector<std::string> changes = {"inplace", "rename", "truncate", "grow", "rewrite", "remove"};
  uint64_t staleness_ms = 0;
  unsigned changers = 1;
  std::string order = "random";
};

void parse_modes(Options* options) {
  static const std::map<std::string, Access> kAccesses = {
      {"pread", Access::kBuffered}, {"direct", Access::kDirect}, {"mmap", Access::kMapped}};
  static const std::map<std::string, Pattern> kPatterns = {
      {"whole", Pattern::kWhole}, {"random", Pattern::kRandom}, {"reopen", Pattern::kReopen}};
  std::vector<Access> accesses;
  std::vector<Pattern> patterns;
  for (const std::string& mode : options->modes) {
    if (kAccesses.contains(mode)) accesses.push_back(kAccesses.at(mode));
    if (kPatterns.contains(mode)) patterns.push_back(kPatterns.at(mode));
  }
  if (!accesses.empty()) options->reader.accesses = accesses;
  if (!patterns.empty()) options->reader.patterns = patterns;
}

Status parse_errnos(Options* options) {
  for (const std::string& name : options->errnos) {
    int number = 1;
    constexpr int kLastErrno = 133;
    while (number <= kLastErrno && (strerrorname_np(number) == nullptr || name != strerrorname_np(number)))
      number++;
    if (number > kLastErrno) return Status(EINVAL, "unknown errno " + name);
    options->judge.tolerated_errnos.insert(number);
  }
  return Status();
}

Status parse_changes(Options* options) {
  for (const std::string& name : options->changes) {
    ChangeKind kind = ChangeKind::kInitial;
    for (const ChangeKind candidate : {ChangeKind::kInPlace, ChangeKind::kRename, ChangeKind::kTruncate,
                                       ChangeKind::kGrow, ChangeKind::kRewrite, ChangeKind::kRemove}) {
      if (name == change_name(candidate)) kind = candidate;
    }
    if (kind == ChangeKind::kInitial) return Status(EINVAL, "unknown kind of change " + name);
    options->changer.kinds.push_back(kind);
  }
  return Status();
}

std::vector<FileHistory> initial_histories(const Manifest& manifest) {
  std::vector<FileHistory> histories;
  histories.reserve(manifest.files.size());
  for (const FileEntry& file : manifest.files) {
    FileState state;
    state.version = file.version;
    state.size = file.size;
    histories.emplace_back(state);
  }
  return histories;
}

int print_report(const Report& report, double seconds) {
  std::printf("%s\n", report.to_json(seconds).dump(2).c_str());
  return report.errors == 0 ? 0 : kExitWrong;
}

Result<int> make(Options& options) {
  const Manifest manifest = plan_tree(options.tree);
  uint64_t total_bytes = 0;
  for (const FileEntry& file : manifest.files) total_bytes += file.size;
  const uint64_t begin_ns = system_clock().monotonic_ns();
  uint64_t shown_ns = begin_ns;
  CACHED_RETURN_IF_ERROR(write_tree(manifest, options.directory, [&](uint64_t written_bytes) {
    const uint64_t now_ns = system_clock().monotonic_ns();
    if (!options.reader.progress || now_ns - shown_ns < kNanosecondsPerSecond) return;
    shown_ns = now_ns;
    std::fprintf(stderr, "%s\n",
                 fmt::format("made {} of {}", format_size(written_bytes), format_size(total_bytes)).c_str());
  }));
  CACHED_RETURN_IF_ERROR(save_manifest(manifest, options.manifest_file));
  const double seconds = static_cast<double>(system_clock().monotonic_ns() - begin_ns) / 1e9;
  const nlohmann::json summary = {
      {"files", manifest.files.size()}, {"bytes", total_bytes}, {"seconds", seconds}};
  std::printf("%s\n", summary.dump(2).c_str());
  return 0;
}

Result<int> read(Options& options) {
  CACHED_RETURN_IF_ERROR(parse_errnos(&options));
  const Result<Manifest> manifest = load_manifest(options.manifest_file);
  if (!manifest.ok()) return manifest.status();
  const std::vector<FileHistory> histories = initial_histories(*manifest);
  options.judge.tolerate_everywhere = true;
  const uint64_t begin_ns = system_clock().monotonic_ns();
  const Judge judge(options.judge, *manifest, begin_ns);
  const Report report = run_readers(options.reader, *manifest, histories, judge, &stop_requested);
  return print_report(report, static_cast<double>(system_clock().monotonic_ns() - begin_ns) / 1e9);
}

Result<int> run(Options& options) {
  // A mapped read of a file that shrank or went raises SIGBUS, which is counted as EFAULT.
  for (const char* name : {"ENOENT", "ESTALE", "EFAULT"}) options.errnos.emplace_back(name);
  CACHED_RETURN_IF_ERROR(parse_errnos(&options));
  CACHED_RETURN_IF_ERROR(parse_changes(&options));
  Result<Manifest> manifest = load_manifest(options.manifest_file);
  if (!manifest.ok()) return manifest.status();
  std::vector<FileHistory> histories = initial_histories(*manifest);
  const uint64_t begin_ns = system_clock().monotonic_ns();
  const Judge judge(options.judge, *manifest, begin_ns);

  std::vector<Changer> changers;
  for (unsigned i = 0; i < options.changers; i++) {
    changers.emplace_back(options.changer, *manifest, &histories, i, options.changers);
  }
  std::vector<Status> results(options.changers);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < options.changers; i++) {
    threads.emplace_back([&, i] {
      results[i] = changers[i].run(stop_requested);
      if (!results[i].ok()) stop_requested = true;
    });
  }
  Report report = run_readers(options.reader, *manifest, histories, judge, &stop_requested);
  stop_requested = true;
  for (std::thread& thread : threads) thread.join();
  const double seconds = static_cast<double>(system_clock().monotonic_ns() - begin_ns) / 1e9;
  for (const Changer& changer : changers) {
    for (const auto& [kind, times] : changer.changes()) report.changes[kind] += times;
  }
  for (size_t i = 0; i < histories.size(); i++) {
    const FileState last = histories[i].latest();
    manifest->files[i].size = last.size;
    manifest->files[i].version = last.version;
  }
  CACHED_RETURN_IF_ERROR(save_manifest(*manifest, options.manifest_file));
  for (const Status& status : results) CACHED_RETURN_IF_ERROR(status);
  return print_report(report, seconds);
}

// Turns "20K" or "64MiB" into bytes before CLI11 sees a number.
CLI::Validator size_with_unit() {
  return CLI::Validator(
      [](std::string& text) {
        const Result<uint64_t> size = parse_size(text);
        if (!size.ok()) return size.status().message();
        text = std::to_string(*size);
        return std::string();
      },
      "SIZE", "size");
}

void add_make(CLI::App& app, Options* options) {
  app.add_option("directory", options->directory, "where to make the tree")->required();
  app.add_option("--seed", options->tree.seed, "every byte follows from it");
  app.add_option("--small", options->tree.small_files, "number of small files");
  app.add_option("--small-min", options->tree.small_minimum_bytes, "smallest small file")
      ->transform(size_with_unit());
  app.add_option("--small-max", options->tree.small_maximum_bytes, "largest small file")
      ->transform(size_with_unit());
  app.add_option("--large", options->tree.large_files, "number of large files");
  app.add_option("--large-size", options->tree.large_bytes, "size of each large file")
      ->transform(size_with_unit());
  app.add_option("--dirs", options->tree.directories, "directories that small files are spread over");
  app.add_flag("--python-like", options->tree.python_like,
               "nest and name small files like a python environment");
  app.add_flag("--progress", options->reader.progress, "a line each second");
}

void add_reading(CLI::App& app, Options* options) {
  ReaderOptions& reader = options->reader;
  app.add_option("--seed", reader.seed, "of the order and the pieces of the reads");
  app.add_option("--threads", reader.threads, "reading threads, dealt out to the directories");
  app.add_option("--mode", options->modes, "any of pread,direct,mmap (how) and whole,random,reopen (what)")
      ->delimiter(',')
      ->check(CLI::IsMember({"pread", "direct", "mmap", "whole", "random", "reopen"}));
  app.add_option("--max-read", reader.maximum_read_bytes, "largest single read")->transform(size_with_unit());
  app.add_option("--staleness-ms", options->staleness_ms,
                 "documented staleness bound, i.e. the attribute timeout");
  app.add_option("--expect-errno", options->errnos, "errnos that changed files may answer with")
      ->delimiter(',');
  app.add_option("--max-errors", reader.maximum_errors, "stop after so many errors")
      ->check(CLI::PositiveNumber);
  app.add_flag("--progress", reader.progress, "a line each second");
}

void finish_reading(Options* options) {
  parse_modes(options);
  options->reader.random_order = options->order == "random";
  options->judge.staleness_ns = options->staleness_ms * kNanosecondsPerMillisecond;
  // O_DIRECT reads are in units of a page.
  options->reader.maximum_read_bytes =
      std::max<uint64_t>(align_down(options->reader.maximum_read_bytes, 4096), 4096);
}

int command_line(int argc, char** argv) {
  Options options;
  CLI::App app(
      "Makes trees whose every byte is a function of seed, file, version and offset, and judges reads of "
      "them.");
  app.require_subcommand(1);

  CLI::App* make_app = app.add_subcommand("make", "make a tree and its manifest");
  add_make(*make_app, &options);
  CLI::App* read_app = app.add_subcommand("read", "read a tree that nobody changes, and verify it");
  read_app->add_option("directories", options.reader.directories, "the tree, or several mounts of it")
      ->required();
  add_reading(*read_app, &options);
  auto* seconds = read_app->add_option("--seconds", options.reader.seconds, "read random files for so long");
  read_app->add_option("--passes", options.reader.passes, "read every file so many times")->excludes(seconds);
  read_app->add_option("--order", options.order, "of the files in a pass")
      ->check(CLI::IsMember({"random", "listed"}));

  CLI::App* run_app =
      app.add_subcommand("run", "change files at the source while reading them, and judge every read");
  run_app->add_option("source", options.changer.source, "where the files are changed")->required();
  run_app->add_option("directories", options.reader.directories, "where they are read")->required();
  add_reading(*run_app, &options);
  run_app->add_option("--seconds", options.reader.seconds, "how long")
      ->required()
      ->check(CLI::PositiveNumber);
  run_app->add_option("--changers", options.changers, "changing threads")->check(CLI::Range(1, 64));
  run_app->add_option("--change-interval-ms", options.changer.interval_ms,
                      "pause between a thread's changes");
  run_app->add_option("--change-percent", options.changer.percent_of_files,
                      "of the files that are ever changed");
  run_app->add_option("--changes", options.changes, "inplace,rename,truncate,grow,rewrite,remove")
      ->delimiter(',');
  run_app->add_flag("--allow-short", options.judge.allow_short_on_change,
                    "a read may stop early when a change meets it");
  for (CLI::App* sub : {make_app, read_app, run_app}) {
    sub->add_option("--manifest", options.manifest_file, "the list of files, outside of the tree")
        ->required();
  }

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  struct sigaction action = {};
  action.sa_handler = on_stop_signal;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  finish_reading(&options);
  options.changer.seed = options.reader.seed;
  const Result<int> result = make_app->parsed()   ? make(options)
                             : read_app->parsed() ? read(options)
                                                  : run(options);
  if (result.ok()) return *result;
  std::fprintf(stderr, "cached-verify: %s\n", result.status().message().c_str());
  return kExitUsage;
}

}  // namespace
}  // namespace cached::verify

int main(int argc, char** argv) {
  return cached::verify::command_line(argc, argv);
}
