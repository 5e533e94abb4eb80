// cached-mount: mounts a volume of the node's cache daemon. Checks what can be checked without side effects,
// then starts the session.
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <thread>

#include "mount/kernel_tuning.h"
#include "mount/launch.h"
#include "mount/options.h"
#include "mount/session.h"

namespace cached::mount {
namespace {

// The session runs with / as its directory.
void make_absolute(std::string* path) {
  if (!path->empty()) *path = std::filesystem::absolute(*path).string();
}

int run(const std::string& program, const std::vector<std::string>& arguments) {
  const Machine machine{.cores = std::thread::hardware_concurrency(), .root = ::geteuid() == 0};
  Result<Options> options = parse_options(program, arguments, machine);
  if (!options.ok()) {
    print_error(options.status().message());
    return kExitUsage;
  }
  if (options->show_help) {
    std::fputs(help_text().c_str(), stdout);
    return 0;
  }
  if (options->show_version) {
    std::puts("cached-mount " CACHED_VERSION);
    return 0;
  }
  if (options->pretend) return 0;
  const Result<std::string> mountpoint = check_mountpoint(options->mountpoint);
  if (!mountpoint.ok()) {
    print_error(mountpoint.status().message());
    return kExitFailure;
  }
  if (const Status status = check_fuse_device(); !status.ok()) {
    print_error(status.message());
    return kExitFailure;
  }
  make_absolute(&options->socket);
  make_absolute(&options->log_file);
  return launch(options->foreground, *mountpoint,
                [&](StartReport& report) { return run_session(*options, *mountpoint, report); });
}

}  // namespace
}  // namespace cached::mount

int main(int argc, char** argv) {
  return cached::mount::run(argc > 0 ? argv[0] : "cached-mount", {argv + std::min(argc, 1), argv + argc});
}
