// cached-bench import: a real Python interpreter imports a large set of real packages from a tree, for
// example from a mount, as every worker of a job does when it starts.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <cstring>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "bench/make_aside.h"
#include "bench/workload_main.h"
#include "bench/workload_options.h"
#include "bench/workload_pass.h"
#include "bench/workload_python.h"

extern char** environ;

namespace cached::bench {
namespace {

constexpr const char* kDescription =
    "Starts a Python interpreter that imports every module that the tree --directory lists, from that tree, "
    "and times\n"
    "it from start to end; nothing is written (PYTHONDONTWRITEBYTECODE). --make copies the interpreter's "
    "standard\n"
    "library and its installed packages into a new tree, compiled, with the list of what can be imported of "
    "it.";

struct ImportOptions {
  CommonOptions common;
  std::string directory;
  std::string make_directory;
  std::string python = "/usr/bin/python3";
};

// The environment of the interpreter: ours, and the tree in front of its own library.
std::vector<std::string> environment_of(const std::string& tree) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (std::strncmp(*variable, "PYTHON", 6) != 0) variables.emplace_back(*variable);
  }
  variables.push_back("PYTHONPATH=" + tree + "/stdlib:" + tree + "/stdlib/lib-dynload:" + tree + "/packages");
  variables.emplace_back("PYTHONDONTWRITEBYTECODE=1");
  variables.emplace_back("PYTHONNOUSERSITE=1");
  return variables;
}

std::vector<char*> pointers_to(std::vector<std::string>* texts) {
  std::vector<char*> pointers;
  for (std::string& text : *texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::string read_to_end(int fd) {
  std::string text;
  char piece[4096];
  for (ssize_t count; (count = ::read(fd, piece, sizeof piece)) > 0;) {
    text.append(piece, static_cast<size_t>(count));
  }
  return text;
}

// Runs a program without stdin and returns what it wrote to stdout; its stderr is ours.
Result<std::string> output_of(std::vector<std::string> arguments, std::vector<std::string> environment) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Status::from_errno("cannot make a pipe");
  const UniqueFd from(ends[0]);
  UniqueFd into(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, into.get(), STDOUT_FILENO);
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, arguments[0].c_str(), &actions, nullptr,
                                   pointers_to(&arguments).data(), pointers_to(&environment).data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return Status::from_errno(error, "cannot start " + arguments[0]);
  into.reset();  // the child's end alone keeps the pipe open
  std::string output = read_to_end(from.get());
  int ended = 0;
  while (::waitpid(child, &ended, 0) < 0 && errno == EINTR) {
  }
  if (ended != 0) return Status(EIO, arguments[0] + " ended with wait status " + std::to_string(ended));
  return output;
}

std::vector<std::string> own_environment() {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.emplace_back(*variable);
  return variables;
}

// What both scripts print at their end: how many modules came from the tree.
Result<uint64_t> count_in(const std::string& output) {
  uint64_t count = 0;
  const auto [end, error] = std::from_chars(output.data(), output.data() + output.size(), count);
  if (error != std::errc() || count == 0) {
    return Status(
        EIO,
        "the interpreter imported nothing from the tree; was it made by `cached-bench import --make` with "
        "the same --python?");
  }
  return count;
}

Result<PassReport> import_modules(const ImportOptions& options, unsigned number) {
  if (const std::string list = options.directory + "/modules.list"; ::access(list.c_str(), R_OK) != 0) {
    return Status::from_errno(list + ", which `cached-bench import --make` writes, cannot be read");
  }
  const uint64_t begin_ns = system_clock().monotonic_ns();
  Result<std::string> output =
      output_of({options.python, "-S", "-W", "ignore", "-c", kImportScript, options.directory},
                environment_of(options.directory));
  const uint64_t runtime_ns = system_clock().monotonic_ns() - begin_ns;
  if (!output.ok()) return output.status();
  Result<uint64_t> modules = count_in(*output);
  if (!modules.ok()) return modules.status();
  return PassReport{.name = "start " + std::to_string(number + 1),
                    .unit = "modules",
                    .ios = *modules,
                    .runtime_ns = runtime_ns,
                    .latency_ns = {},
                    .cache = std::nullopt};
}

Result<PassReport> make_tree(const ImportOptions& options) {
  PassReport made{.name = {}, .unit = "modules", .latency_ns = {}, .cache = std::nullopt};
  CACHED_RETURN_IF_ERROR(make_aside(options.make_directory, [&](const std::string& partial) {
    Result<std::string> output =
        output_of({options.python, "-c", kMakeTreeScript, partial}, own_environment());
    if (!output.ok()) return output.status();
    Result<uint64_t> modules = count_in(*output);
    if (modules.ok()) made.ios = *modules;
    return modules.status();
  }));
  return made;
}

std::string contradiction(const ImportOptions& options) {
  if (options.directory.empty() && options.make_directory.empty())
    return "name the tree to import from by --directory, or one to make by --make";
  return options.common.workers == 1 ? "" : "--numjobs: an interpreter imports in one thread";
}

}  // namespace

int run_import(int argc, char** argv) {
  ImportOptions options;
  CLI::App app(kDescription, "cached-bench import");
  add_common_options(&app, "--loops", &options.common);
  app.add_option("--directory", options.directory, "tree to import from, which --make has made");
  app.add_option("--make", options.make_directory, "directory to make such a tree in; must not be there yet");
  app.add_option("--python", options.python, "interpreter")->capture_default_str();
  if (std::optional<int> exit_status =
          parse_workload(&app, argc, argv, [&options] { return contradiction(options); })) {
    return *exit_status;
  }
  if (!options.make_directory.empty()) {
    const bool reads_too = !options.directory.empty();
    if (std::optional<int> exit_status =
            make_first(options.common, "import", reads_too, [&options] { return make_tree(options); })) {
      return *exit_status;
    }
  }
  return run_single_passes(options.common, "import",
                           [&options](unsigned number) { return import_modules(options, number); });
}

}  // namespace cached::bench
