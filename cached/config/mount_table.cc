// Parsing /proc/self/mountinfo: see mount_table.h.
#include "cached/config/mount_table.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace cached {
namespace {

bool is_octal(char c) {
  return c >= '0' && c <= '7';
}

// Undoes the kernel's \NNN escapes.
std::string unescaped(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) &&
                        is_octal(text[i + 2]) && is_octal(text[i + 3]);
    if (!escape) {
      plain += text[i];
      continue;
    }
    plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
    i += 3;
  }
  return plain;
}

bool lies_under(std::string_view path, std::string_view directory) {
  if (directory == "/") return true;
  return path.compare(0, directory.size(), directory) == 0 &&
         (path.size() == directory.size() || path[directory.size()] == '/');
}

}  // namespace

std::vector<MountEntry> parse_mount_table(std::string_view text) {
  std::vector<MountEntry> mounts;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    // id parent major:minor root mount_point options [optional fields...] - type source super_options
    std::istringstream fields(line);
    MountEntry mount;
    std::string skipped;
    std::string mount_point;
    unsigned major_number = 0;
    unsigned minor_number = 0;
    char colon = 0;
    if (!(fields >> mount.id >> skipped >> major_number >> colon >> minor_number >> mount.root >>
          mount_point)) {
      continue;
    }
    mount.device = makedev(major_number, minor_number);
    while (fields >> skipped && skipped != "-") {
    }
    if (!(fields >> mount.filesystem_type)) continue;
    fields >> mount.source;
    mount.source = unescaped(mount.source);
    mount.root = unescaped(mount.root);
    mount.mount_point = unescaped(mount_point);
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

std::vector<MountEntry> read_mount_table() {
  std::ifstream file("/proc/self/mountinfo");
  std::stringstream text;
  text << file.rdbuf();
  return parse_mount_table(text.str());
}

const MountEntry* mount_of_path(const std::vector<MountEntry>& mounts, std::string_view path) {
  const MountEntry* best = nullptr;
  for (const MountEntry& mount : mounts) {
    if (!lies_under(path, mount.mount_point)) continue;
    if (best == nullptr || mount.mount_point.size() >= best->mount_point.size()) best = &mount;
  }
  return best;
}

const MountEntry* mount_of_device(const std::vector<MountEntry>& mounts, uint64_t device) {
  const auto mount = std::find_if(mounts.begin(), mounts.end(),
                                  [device](const MountEntry& entry) { return entry.device == device; });
  return mount == mounts.end() ? nullptr : &*mount;
}

}  // namespace cached
