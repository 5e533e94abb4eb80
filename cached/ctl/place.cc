// From a path under a mount point to a place of a volume: see place.h.
#include "cached/ctl/place.h"

#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/log.h"
#include "cached/config/mount_table.h"

namespace cached::ctl {
namespace {

constexpr std::string_view kSourcePrefix = "cached:";

std::string joined(const std::string& front, const std::string& back) {
  return front == "/" ? back : front + back;
}

}  // namespace

Result<std::string> place_of_argument(const std::string& argument) {
  const bool path = argument.starts_with('/') || argument.starts_with("./") || argument.starts_with("../") ||
                    argument == "." || argument == "..";
  if (!path) return argument;
  std::error_code error;
  const std::filesystem::path real = std::filesystem::canonical(argument, error);
  if (error) return Status(error.value(), printable(argument) + ": " + error.message());
  const std::vector<MountEntry> mounts = read_mount_table();
  const MountEntry* const mount = mount_of_path(mounts, real.native());
  if (mount == nullptr || mount->filesystem_type != kOwnFilesystemType ||
      !mount->source.starts_with(kSourcePrefix)) {
    return Status(ENOENT,
                  printable(real.native()) +
                      " lies on no mount of cached; name a path below one (`cachedctl sessions` lists them), "
                      "VOLUME:/PATH, or a data set");
  }
  const size_t above = mount->mount_point == "/" ? 0 : mount->mount_point.size();
  const std::string below = joined(mount->root, real.native().substr(above));
  return mount->source.substr(kSourcePrefix.size()) + ":" + (below.starts_with('/') ? below : "/" + below);
}

}  // namespace cached::ctl
