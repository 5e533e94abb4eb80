// The commands that ask the daemon over its control socket: status, sessions, volumes, devices, drain,
// undrain.
#include <chrono>
#include <memory>
#include <thread>

#include "cached/ctl/commands.h"
#include "cached/ctl/control_client.h"
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

// Refreshes until Ctrl-C, or shows one interval.
int top(const CommandLine& line, double interval_s, bool once) {
  ControlReply before = ask_daemon(line.socket, "top");
  for (;;) {
    if (before.outcome == ControlReply::Outcome::kUnreachable) return fail(kExitUnreachable, before.error);
    if (before.outcome == ControlReply::Outcome::kRefused) return fail(kExitError, before.error);
    if (line.json) return print_json(before.result);
    std::this_thread::sleep_for(std::chrono::duration<double>(interval_s));
    ControlReply after = ask_daemon(line.socket, "top");
    if (after.outcome != ControlReply::Outcome::kAnswered) {
      before = std::move(after);
      continue;
    }
    const std::string clear = once ? "" : "\033[H\033[2J";
    const int status = print(clear + format_top(before.result, after.result));
    if (once || status != kExitOk) return status;
    before = std::move(after);
  }
}

void add_top(CLI::App* app, CommandLine* line) {
  CLI::App* command = app->add_subcommand("top", "Who reads how much, live: by mount, user and data set");
  const auto interval_s = std::make_shared<double>(2);
  const auto once = std::make_shared<bool>(false);
  command->add_option("--interval", *interval_s, "Seconds between two looks")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  command->add_flag("--once", *once, "Show one interval and end");
  command->add_flag("--json", line->json,
                    "Print the sums since the sessions began, for programs to compare, and end");
  command->callback([=] { line->run = [=] { return top(*line, *interval_s, *once); }; });
}

}  // namespace

void add_daemon_commands(CLI::App* app, CommandLine* line) {
  add_view(app, line, "status", "Memory, SSDs, hit ratios, origin traffic and volumes of the daemon",
           format_status);
  add_top(app, line);
  add_view(app, line, "sessions", "The clients that are attached: one line a mount", format_sessions);
  add_view(app, line, "volumes", "The volumes that can be mounted, with size and number of files",
           format_volumes);
  add_view(app, line, "devices", "The SSDs: state, content, traffic, latency and errors of each",
           format_devices);
  add_change(app, line, "drain", "Empty an SSD, to take it out (root, or the daemon's user)", format_drain);
  add_change(app, line, "undrain", "Take `drain` back (root, or the daemon's user)", format_drain);
}

}  // namespace cached::ctl
