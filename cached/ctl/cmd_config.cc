// The commands that check and explain a configuration file, without a daemon: config check, config show.
#include <memory>

#include "cached/config/config.h"
#include "cached/ctl/commands.h"
#include "cached/ctl/tables.h"

namespace cached::ctl {
namespace {

std::string counted(size_t count, const std::string& what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

int check_config(const std::string& file) {
  const Result<Config> config = load_config(file);
  if (!config.ok()) return fail(kExitUsage, config.status().message());
  if (const Status status = check_sources(*config); !status.ok()) return fail(kExitUsage, status.message());
  if (const Status status = check_devices(*config); !status.ok()) return fail(kExitUsage, status.message());
  return print(file + ": good: " + counted(config->volumes.size(), "volume") + ", " +
               format_size(config->memory.size_bytes) + " of memory, " +
               counted(config->devices.size(), "device") + "\n");
}

// What the daemon has in force.
int show_running_config(const CommandLine& line) {
  return ask_and_print(line, "config", nlohmann::json::object(), format_running_config);
}

int show_config(const std::string& file, bool json) {
  const Result<Config> config = load_config(file);
  if (!config.ok()) return fail(kExitUsage, config.status().message());
  if (!json) return print(format_config(*config));
  nlohmann::json items = nlohmann::json::array();
  for (const ConfigItem& item : describe_config(*config)) {
    items.push_back({{"key", item.key},
                     {"value", item.value},
                     {"line", item.line == 0 ? nlohmann::json() : nlohmann::json(item.line)}});
  }
  return print_json({{"file", file}, {"values", items}});
}

}  // namespace

void add_config_commands(CLI::App* app, CommandLine* line) {
  const auto file = std::make_shared<std::string>();
  CLI::App* config = app->add_subcommand("config", "Check or explain a configuration");
  CLI::App* check = config->add_subcommand(
      "check", "Say whether the file is right, sources and devices included; 2 if it is not");
  check->callback([=] { line->run = [=] { return check_config(*file); }; });
  CLI::App* show = config->add_subcommand("show", "Print every value in force and where it comes from");
  show->add_flag("--json", line->json, "Print JSON for programs");
  show->callback([=] {
    line->run = [=] { return file->empty() ? show_running_config(*line) : show_config(*file, line->json); };
  });
  check->add_option("FILE", *file, "The file, such as /etc/cached/cached.toml")->required();
  show->add_option("FILE", *file, "The file; without one, what the running daemon has in force");
  CLI::App* reload = app->add_subcommand(
      "reload", "Let the daemon read its configuration again (root, or the daemon's user); as SIGHUP does");
  reload->footer(
      "Volumes, data sets, log.level, daemon.max_sessions and memory.pin_limit take effect at once; "
      "what else\n"
      "changed is named and needs a restart. A file with an error changes nothing: try `cachedctl config "
      "check` first.");
  reload->add_flag("--json", line->json, "Print JSON for programs");
  reload->callback([=] {
    line->run = [=] { return ask_and_print(*line, "reload", nlohmann::json::object(), format_reload); };
  });
}

}  // namespace cached::ctl
