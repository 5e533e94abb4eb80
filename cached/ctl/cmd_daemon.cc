// The commands that ask the daemon over its control socket: status, sessions, volumes, devices, drain,
// undrain.
#include <memory>

#include "cached/ctl/commands.h"
#include "cached/ctl/tables.h"

namespace cached::ctl {
namespace {

using Format = std::string (*)(const nlohmann::json&);

void add_view(CLI::App* app, CommandLine* line, const char* name, const char* help, Format format) {
  CLI::App* command = app->add_subcommand(name, help);
  command->add_flag("--json", line->json, "Print JSON for programs");
  command->callback(
      [=] { line->run = [=] { return ask_and_print(*line, name, nlohmann::json::object(), format); }; });
}

void add_change(CLI::App* app, CommandLine* line, const char* name, const char* help, Format format) {
  CLI::App* command = app->add_subcommand(name, help);
  const auto device = std::make_shared<std::string>();
  command->add_option("DEVICE", *device, "Its path, as the configuration and `cachedctl devices` have it")
      ->required();
  command->add_flag("--json", line->json, "Print JSON for programs");
  command->callback([=] {
    line->run = [=] { return ask_and_print(*line, name, {{"device", *device}}, format); };
  });
}

}  // namespace

void add_daemon_commands(CLI::App* app, CommandLine* line) {
  add_view(app, line, "status", "Memory, SSDs, hit ratios, origin traffic and volumes of the daemon",
           format_status);
  add_view(app, line, "sessions", "The clients that are attached: one line a mount", format_sessions);
  add_view(app, line, "volumes", "The volumes that can be mounted, with size and number of files",
           format_volumes);
  add_view(app, line, "devices", "The SSDs: state, content, traffic, latency and errors of each",
           format_devices);
  add_change(app, line, "drain", "Empty an SSD, to take it out (root, or the daemon's user)", format_drain);
  add_change(app, line, "undrain", "Take `drain` back (root, or the daemon's user)", format_drain);
}

}  // namespace cached::ctl
