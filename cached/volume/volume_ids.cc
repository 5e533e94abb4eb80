// The file of volume numbers: see volume_ids.h.
#include "cached/volume/volume_ids.h"

#include <charconv>
#include <set>
#include <sstream>

#include "base/state_file.h"

namespace cached::volume {
namespace {

constexpr size_t kLargestFile = 16 << 20;

Result<std::map<std::string, uint16_t>> parse(const std::string& text, const std::string& path) {
  std::map<std::string, uint16_t> ids;
  std::set<uint16_t> taken;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    uint16_t id = 0;
    const char* const end = line.data() + line.size();
    const auto [after, error] = std::from_chars(line.data(), end, id);
    const bool good = error == std::errc() && id != 0 && after + 1 < end && *after == ' ' &&
                      taken.insert(id).second && ids.emplace(std::string(after + 1, end), id).second;
    if (!good) {
      return Status(EINVAL,
                    path + " is damaged at \"" + line +
                        "\"; remove it to have volumes numbered anew (what SSDs hold is then fetched anew)");
    }
  }
  return ids;
}

}  // namespace

Result<VolumeIds> VolumeIds::load(const std::string& state_dir, const std::vector<std::string>& names,
                                  const std::string& file) {
  const std::string path = state_dir + "/" + file;
  VolumeIds result;
  const Result<std::string> text = read_state_file(path, kLargestFile);
  if (text.ok()) {
    auto parsed = parse(*text, path);
    if (!parsed.ok()) return parsed.status();
    result.ids_ = std::move(parsed).value();
  } else if (text.error_number() != ENOENT) {
    return text.status();
  }
  std::set<uint16_t> taken;
  for (const auto& [name, id] : result.ids_) taken.insert(id);
  uint32_t next = 1;
  const size_t known = result.ids_.size();
  for (const std::string& name : names) {
    if (result.ids_.contains(name)) continue;
    while (taken.contains(static_cast<uint16_t>(next)) && next <= UINT16_MAX) ++next;
    if (next > UINT16_MAX)
      return Status(ENOSPC, path + ": no number is left; remove lines of volumes that are gone");
    result.ids_.emplace(name, static_cast<uint16_t>(next));
    taken.insert(static_cast<uint16_t>(next));
  }
  if (result.ids_.size() == known) return result;
  std::string content;
  for (const auto& [name, id] : result.ids_) content += std::to_string(id) + " " + name + "\n";
  CACHED_RETURN_IF_ERROR(replace_state_file(path, content));
  return result;
}

}  // namespace cached::volume
