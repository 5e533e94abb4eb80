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
  CLI::App* config = app->add_subcommand("config", "Check or explain a configuration file; needs no daemon");
  CLI::App* check = config->add_subcommand(
      "check", "Say whether the file is right, sources and devices included; 2 if it is not");
  check->callback([=] { line->run = [=] { return check_config(*file); }; });
  CLI::App* show = config->add_subcommand("show", "Print every value in force and where it comes from");
  show->add_flag("--json", line->json, "Print JSON for programs");
  show->callback([=] { line->run = [=] { return show_config(*file, line->json); }; });
  for (CLI::App* command : {check, show}) {
    command->add_option("FILE", *file, "The file, such as /etc/cached/cached.toml")->required();
  }
}

}  // namespace cached::ctl
