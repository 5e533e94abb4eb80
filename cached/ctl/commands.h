// What the commands of cachedctl share: exit statuses, output, and how a group of commands puts itself into
// the command line.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "base/status.h"

namespace cached::ctl {

// Documented in the help and in README.md; scripts rely on them.
inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnreachable = 3;
inline constexpr int kExitInterrupted = 130;  // by Ctrl-C, as shells have it

// Of commands that read the configuration themselves, without the daemon.
inline constexpr const char* kDefaultConfigFile = "/etc/cached/cached.toml";
inline constexpr const char* kConfigHelp = "The configuration, which has the settings of the volume";
inline constexpr const char* kVolumeHelp = "A rados: volume of the configuration, or rados:POOL/NAME";

// kExitUsage for what the command line or the configuration says wrong (EINVAL), else kExitError.
int exit_status_of(const Status& status);

// What was said on the command line: the options that several commands know, and the command to run, which
// returns the exit status. Commands set `run` while the line is parsed; main() runs it after that.
struct CommandLine {
  std::string socket;  // the daemon's control socket
  bool json = false;   // print JSON for programs
  std::function<int()> run;
};

// Prints "cachedctl: MESSAGE" on stderr and returns `exit_status`.
int fail(int exit_status, const std::string& message);

// Prints on stdout; kExitError when it cannot be written.
int print(const std::string& text);
int print_json(const nlohmann::json& value);

// Asks the daemon and prints its result: as JSON if that was asked for, else as `format` shows it. Returns
// the exit status.
int ask_and_print(const CommandLine& line, const std::string& command, const nlohmann::json& arguments,
                  const std::function<std::string(const nlohmann::json&)>& format);

// Each adds its group of commands. `line` must outlive the parsing and the run.
void add_daemon_commands(CLI::App* app,
                         CommandLine* line);  // status, sessions, volumes, devices, drain, undrain
void add_data_set_commands(CLI::App* app, CommandLine* line);  // du, warm, evict, pin, unpin, pins, jobs
void add_config_commands(CLI::App* app, CommandLine* line);    // config check, config show
void add_device_commands(CLI::App* app, CommandLine* line);    // device init, device inspect
void add_import_command(CLI::App* app, CommandLine* line);
void add_export_command(CLI::App* app, CommandLine* line);
void add_volume_commands(CLI::App* app, CommandLine* line);  // volume list, info, snapshots, verify, ...

}  // namespace cached::ctl
