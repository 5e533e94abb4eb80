// The commands that work on a device itself, without the daemon: device init, device inspect.
#include <filesystem>
#include <memory>

#include "base/log.h"
#include "base/units.h"
#include "cached/ctl/commands.h"
#include "cached/ctl/device_tools.h"

namespace cached::ctl {
namespace {

struct InitArguments {
  std::string path;
  std::string size;
  bool force = false;
};

struct InspectArguments {
  std::string path;
  bool entries = false;
};

int init(const InitArguments& arguments) {
  DeviceInit request{.path = arguments.path, .size_bytes = 0, .force = arguments.force};
  if (!arguments.size.empty()) {
    const Result<uint64_t> size_bytes = parse_size(arguments.size);
    if (!size_bytes.ok() || *size_bytes == 0) {
      return fail(kExitUsage,
                  "--size: " + (size_bytes.ok() ? "must be more than 0" : size_bytes.status().message()));
    }
    request.size_bytes = *size_bytes;
  }
  const Result<ssd_tier::Superblock> superblock = init_device(request);
  if (!superblock.ok()) return fail(kExitError, superblock.status().message());
  const ssd_tier::Layout& layout = superblock->layout;
  const std::string absolute = std::filesystem::absolute(arguments.path).lexically_normal();
  return print(printable(arguments.path) + ": ready, " + format_size(layout.capacity_bytes) + ", " +
               std::to_string(layout.segment_count) + " segments of " + format_size(layout.segment_bytes) +
               ", " + ssd_tier::to_string(superblock->uuid) +
               "\nTo use it, let the daemon's user read and write it (a file: chown cached PATH), add to the "
               "configuration, and restart cached:\n\n    [[device]]\n    path = \"" +
               printable(absolute) + "\"\n");
}

int inspect(const InspectArguments& arguments, bool json) {
  const Result<ssd_tier::Inspection> inspection = inspect_device_at(arguments.path, arguments.entries);
  if (!inspection.ok()) return fail(kExitError, inspection.status().message());
  return json ? print_json(ssd_tier::to_json(*inspection)) : print(ssd_tier::to_text(*inspection));
}

void add_init(CLI::App* device, CommandLine* line) {
  const auto arguments = std::make_shared<InitArguments>();
  CLI::App* command = device->add_subcommand(
      "init", "Make PATH an empty device of the cache; refuses what is in use, and what holds anything");
  command->add_option("PATH", arguments->path, "A block device, a file, or a file to create")->required();
  command->add_option("--size", arguments->size,
                      "Size of the file to create, such as 500GiB; all of it is allocated");
  command->add_flag("--force", arguments->force, "Overwrite what it holds");
  command->callback([=] { line->run = [=] { return init(*arguments); }; });
}

void add_inspect(CLI::App* device, CommandLine* line) {
  const auto arguments = std::make_shared<InspectArguments>();
  CLI::App* command = device->add_subcommand(
      "inspect", "Show what PATH holds; only reads, also beside a daemon that uses it");
  command->add_option("PATH", arguments->path, "A block device or a file")->required();
  command->add_flag("--entries", arguments->entries, "Every entry of every segment too");
  command->add_flag("--json", line->json, "Print JSON for programs");
  command->callback([=] { line->run = [=] { return inspect(*arguments, line->json); }; });
}

}  // namespace

void add_device_commands(CLI::App* app, CommandLine* line) {
  CLI::App* device = app->add_subcommand("device", "Prepare or inspect an SSD itself; needs no daemon");
  add_init(device, line);
  add_inspect(device, line);
}

}  // namespace cached::ctl
