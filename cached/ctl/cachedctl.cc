// cachedctl: the operator's command. Asks the daemon over its control socket; checks configuration files and
// handles devices without it. Here the command line is put together; cmd_*.cc hold the commands.
#include <CLI/CLI.hpp>
#include <string>

#include "base/log.h"
#include "cached/config/config.h"
#include "cached/ctl/commands.h"

namespace cached::ctl {
namespace {

constexpr const char* kFooter =
    "Examples:\n"
    "  cachedctl status                      what the cache holds and what it is worth\n"
    "  cachedctl du                          how much of each data set is on this node\n"
    "  cachedctl warm /mnt/data/speech       bring a directory into the cache; Ctrl-C ends it\n"
    "  cachedctl sessions                    who has what mounted, with hit ratios\n"
    "  cachedctl devices                     the SSDs: are they well, and what do they do?\n"
    "  cachedctl status --json | jq .memory  the same for programs; keys in CONTROL_PROTOCOL.md\n"
    "  cachedctl config check /etc/cached/cached.toml   before a restart: is the file right?\n"
    "  cachedctl device inspect /dev/nvme0n1            what an SSD holds, without the daemon\n"
    "  cachedctl import /data/speech speech  publish a directory as a data set in Ceph\n"
    "  cachedctl volume info speech          what a data set holds, and where it came from\n"
    "\n"
    "Exit status: 0 ok; 1 the daemon refused, or an error; 2 wrong usage or a bad configuration;\n"
    "3 no daemon answers at the socket; 130 a job was cancelled, by Ctrl-C or somebody else.";

int run(int argc, char** argv) {
  CommandLine line;
  line.socket = DaemonConfig().control_socket;
  CLI::App app("cachedctl - look at the block cache of this node");
  app.footer(kFooter);
  app.set_version_flag("--version", "cachedctl " CACHED_VERSION);
  app.fallthrough();
  app.add_option("--socket", line.socket, "The daemon's control socket")->capture_default_str();
  add_daemon_commands(&app, &line);
  add_data_set_commands(&app, &line);
  add_config_commands(&app, &line);
  add_device_commands(&app, &line);
  add_import_command(&app, &line);
  add_export_command(&app, &line);
  add_volume_commands(&app, &line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked_for_help) {
    return app.exit(asked_for_help);
  } catch (const CLI::ParseError& error) {
    return fail(kExitUsage, std::string(error.what()) + "; see cachedctl --help");
  }
  // Warnings of what commands use go to stderr; stdout is for answers.
  if (const Status status =
          init_log({.program = "cachedctl", .level = "warning", .target = LogTarget::kStderr, .file = ""});
      !status.ok())
    return fail(kExitError, status.message());
  // Asked here and not of the library, which would call a mistyped command a missing one.
  if (!line.run) return fail(kExitUsage, "no command given; cachedctl --help names them");
  return line.run();
}

}  // namespace
}  // namespace cached::ctl

int main(int argc, char** argv) {
  return cached::ctl::run(argc, argv);
}
