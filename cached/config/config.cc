// Reading a configuration file strictly: see config.h.
#include "cached/config/config.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

#include "base/log.h"
#include "base/unique_fd.h"
#include "cached/config/schema.h"
#include "cached/config/section_reader.h"

namespace cached {
namespace {

using config_schema::data_set_section;
using config_schema::device_section;
using config_schema::error_at;
using config_schema::kind_of;
using config_schema::line_of;
using config_schema::RefusingReader;
using config_schema::SectionReader;
using config_schema::volume_section;

constexpr size_t kMaximumFileBytes = 1 * kMiB;
constexpr size_t kMaximumVolumes = 1024;
constexpr size_t kMaximumDevices = 32;
constexpr size_t kMaximumDataSets = 1024;
constexpr uint64_t kMaximumPinnedPercent = 80;

Status read_daemon(Config* config, const toml::table& table) {
  SectionReader reader(config, table, "daemon");
  config_schema::visit_daemon(reader, config->daemon);
  CACHED_RETURN_IF_ERROR(reader.finish());
  if (config->daemon.socket == config->daemon.control_socket) {
    const bool control_set = config->lines.contains("daemon.control_socket");
    return config->error(control_set ? "daemon.control_socket" : "daemon.socket",
                         "socket and control_socket are the same path; give each its own");
  }
  return Status();
}

Status read_log(Config* config, const toml::table& table) {
  SectionReader reader(config, table, "log");
  config_schema::visit_log(reader, config->log);
  CACHED_RETURN_IF_ERROR(reader.finish());
  if (config->log.target == "file" && config->log.file.empty()) {
    return config->error("log.target",
                         "is \"file\", and no file is named; add file = \"/var/log/cached/cached.log\"");
  }
  if (config->log.target != "file" && !config->log.file.empty()) {
    return config->error("log.file",
                         "has no effect with this log.target; set target = \"file\" or remove it");
  }
  return Status();
}

Status read_metrics(Config* config, const toml::table& table) {
  SectionReader reader(config, table, "metrics");
  config_schema::visit_metrics(reader, config->metrics);
  return reader.finish();
}

Status read_memory(Config* config, const toml::table& table) {
  SectionReader reader(config, table, "memory");
  config_schema::visit_memory(reader, config->memory);
  reader.require("size", "size = \"64GiB\"");
  config->memory.size_bytes = align_down(config->memory.size_bytes, kArenaGranularityBytes);
  CACHED_RETURN_IF_ERROR(reader.finish());
  const uint64_t most_bytes = config->memory.size_bytes / 100 * kMaximumPinnedPercent;
  if (config->memory.pin_limit_bytes > most_bytes) {
    return config->error("memory.pin_limit", format_size(config->memory.pin_limit_bytes) + " is more than " +
                                                 std::to_string(kMaximumPinnedPercent) +
                                                 " % of memory.size; what is not pinned needs the rest");
  }
  return Status();
}

Status read_ssd(Config* config, const toml::table& table) {
  SectionReader reader(config, table, "ssd");
  config_schema::visit_ssd(reader, config->ssd);
  return reader.finish();
}

Status read_device(Config* config, const toml::table& table) {
  const std::string section = device_section(config->devices.size());
  DeviceConfig device;
  SectionReader reader(config, table, section);
  config_schema::visit_device(reader, device);
  reader.require("path", "path = \"/dev/disk/by-id/nvme-...\"");
  CACHED_RETURN_IF_ERROR(reader.finish());
  device.path = std::filesystem::path(device.path).lexically_normal();
  for (size_t place = 0; place < config->devices.size(); ++place) {
    if (config->devices[place].path != device.path) continue;
    return config->error(section + ".path",
                         "\"" + printable(device.path) + "\" is the device in line " +
                             std::to_string(config->lines[device_section(place) + ".path"]) +
                             " already; name each device once");
  }
  config->devices.push_back(std::move(device));
  return Status();
}

// The keys that only one kind of source has, and a refusal of those of the others. A source of no known kind
// is an error already and takes the keys of all.
void visit_keys_of_kind(SectionReader& reader, VolumeConfig& volume) {
  const std::optional<VolumeKind> kind = config_schema::kind_of_source(volume.source);
  const std::string scheme = volume.source.substr(0, volume.source.find(':'));
  const auto refusing = [&](const std::string& owners) {
    return RefusingReader(&reader,
                          "is for " + owners + " volumes, and this one is " + scheme + ":; remove it");
  };
  const auto is_or_unknown = [&](VolumeKind wanted) { return !kind || *kind == wanted; };
  RefusingReader refuse_dir = refusing("dir:");
  RefusingReader refuse_rados = refusing("rados:");
  RefusingReader refuse_juicefs = refusing("juicefs:");
  RefusingReader refuse_ceph = refusing("rados: and juicefs:");
  if (is_or_unknown(VolumeKind::kDir)) {
    config_schema::visit_dir_volume(reader, volume);
  } else {
    config_schema::visit_dir_volume(refuse_dir, volume);
  }
  if (kind == VolumeKind::kJuicefs) {
    config_schema::visit_ceph_access(reader, volume.juicefs);
  } else if (kind == VolumeKind::kDir) {
    config_schema::visit_ceph_access(refuse_ceph, volume.rados);
  } else {
    config_schema::visit_ceph_access(reader, volume.rados);
  }
  if (is_or_unknown(VolumeKind::kRados)) {
    config_schema::visit_rados_volume(reader, volume.rados);
  } else {
    config_schema::visit_rados_volume(refuse_rados, volume.rados);
  }
  if (is_or_unknown(VolumeKind::kJuicefs)) {
    config_schema::visit_juicefs_volume(reader, volume.juicefs);
  } else {
    config_schema::visit_juicefs_volume(refuse_juicefs, volume.juicefs);
  }
}

Status read_volume(Config* config, const toml::table& table) {
  const std::string section = volume_section(config->volumes.size());
  VolumeConfig volume;
  SectionReader reader(config, table, section);
  config_schema::visit_volume(reader, volume);
  visit_keys_of_kind(reader, volume);
  reader.require("name", "name = \"datasets\"");
  reader.require("source", "source = \"dir:/absolute/path\"");
  CACHED_RETURN_IF_ERROR(reader.finish());
  config_schema::take_source_apart(&volume);
  for (size_t place = 0; place < config->volumes.size(); ++place) {
    if (config->volumes[place].name != volume.name) continue;
    return config->error(section + ".name",
                         "\"" + volume.name + "\" is the name of the volume in line " +
                             std::to_string(config->lines[volume_section(place) + ".name"]) +
                             " already; give each volume its own name");
  }
  config->volumes.push_back(std::move(volume));
  return Status();
}

// Whether a data set may be called `name`: what `cachedctl` takes must mean one thing.
Status check_data_set_name(Config* config, const std::string& section, const std::string& name) {
  for (size_t place = 0; place < config->volumes.size(); ++place) {
    if (config->volumes[place].name != name) continue;
    return config->error(section + ".name",
                         "\"" + name + "\" is the name of the volume in line " +
                             std::to_string(config->lines[volume_section(place) + ".name"]) +
                             ", and every volume is a data set of its name; choose another");
  }
  for (size_t place = 0; place < config->data_sets.size(); ++place) {
    if (config->data_sets[place].name != name) continue;
    return config->error(section + ".name",
                         "\"" + name + "\" is the name of the data set in line " +
                             std::to_string(config->lines[data_set_section(place) + ".name"]) +
                             " already; give each data set its own name");
  }
  return Status();
}

Status read_data_set(Config* config, const toml::table& table) {
  const std::string section = data_set_section(config->data_sets.size());
  DataSetConfig data_set;
  SectionReader reader(config, table, section);
  config_schema::visit_data_set(reader, data_set);
  reader.require("name", "name = \"speech\"");
  reader.require("volume", "volume = \"datasets\"");
  reader.require("directory", "directory = \"/speech\"");
  CACHED_RETURN_IF_ERROR(reader.finish());
  CACHED_RETURN_IF_ERROR(check_data_set_name(config, section, data_set.name));
  const bool known = std::ranges::any_of(
      config->volumes, [&](const VolumeConfig& volume) { return volume.name == data_set.volume; });
  if (!known) {
    return config->error(section + ".volume", "there is no volume \"" + data_set.volume +
                                                  "\"; name one of the [[volume]] sections");
  }
  data_set.directory = std::filesystem::path(data_set.directory).lexically_normal();
  if (data_set.directory.ends_with('/')) data_set.directory.pop_back();
  for (size_t place = 0; place < config->data_sets.size(); ++place) {
    const DataSetConfig& other = config->data_sets[place];
    if (other.volume != data_set.volume || other.directory != data_set.directory) continue;
    return config->error(section + ".directory", "\"" + printable(data_set.directory) +
                                                     "\" is the data set \"" + other.name +
                                                     "\" already; name each directory once");
  }
  config->data_sets.push_back(std::move(data_set));
  return Status();
}

// Reads each [[name]] of the file with `read_one`.
Status read_list(Config* config, const toml::node& list, const std::string& name, size_t limit,
                 Status (*read_one)(Config*, const toml::table&)) {
  if (!list.is_array()) {
    return error_at(
        config->file, line_of(list), name,
        "is " + kind_of(list) + "; write a section [[" + name + "]], with two brackets, for each " + name);
  }
  const toml::array& sections = *list.as_array();
  if (sections.size() > limit) {
    return error_at(config->file, line_of(list), name,
                    "there are " + std::to_string(sections.size()) + " " + name + "s, and the limit is " +
                        std::to_string(limit));
  }
  for (const toml::node& section : sections) {
    if (!section.is_table()) {
      return error_at(
          config->file, line_of(section), name,
          "is a list of " + kind_of(section) + "; write a section [[" + name + "]] for each " + name);
    }
    CACHED_RETURN_IF_ERROR(read_one(config, *section.as_table()));
  }
  return Status();
}

// The top level holds sections only. Returns the section's table, or nothing if the file has no such section.
Result<const toml::table*> section_table(const Config& config, const toml::table& root, const char* name) {
  const toml::node* node = root.get(name);
  if (node == nullptr) return static_cast<const toml::table*>(nullptr);
  if (node->is_table()) return node->as_table();
  return error_at(
      config.file, line_of(*node), name,
      "is " + kind_of(*node) + " and must be a section: a line [" + name + "], and its keys below");
}

Status check_sections_known(const Config& config, const toml::table& root) {
  static constexpr std::array<std::string_view, 8> kSections = {"daemon", "log",    "metrics", "memory",
                                                                "ssd",    "device", "volume",  "dataset"};
  const toml::node* unknown = nullptr;
  std::string unknown_name;
  for (const auto& [key, node] : root) {
    if (std::find(kSections.begin(), kSections.end(), key.str()) != kSections.end()) continue;
    if (unknown != nullptr && line_of(*unknown) <= line_of(node)) continue;
    unknown = &node;
    unknown_name = printable(key.str());
  }
  if (unknown == nullptr) return Status();
  return error_at(config.file, line_of(*unknown), unknown_name,
                  "is not known here; the sections are [daemon], [log], [metrics], [memory], [ssd], "
                  "[[device]], [[volume]] "
                  "and [[dataset]]");
}

Status read_root(Config* config, const toml::table& root) {
  CACHED_RETURN_IF_ERROR(check_sections_known(*config, root));
  const Result<const toml::table*> daemon = section_table(*config, root, "daemon");
  if (!daemon.ok()) return daemon.status();
  if (*daemon != nullptr) CACHED_RETURN_IF_ERROR(read_daemon(config, **daemon));

  const Result<const toml::table*> log = section_table(*config, root, "log");
  if (!log.ok()) return log.status();
  if (*log != nullptr) CACHED_RETURN_IF_ERROR(read_log(config, **log));

  const Result<const toml::table*> metrics = section_table(*config, root, "metrics");
  if (!metrics.ok()) return metrics.status();
  if (*metrics != nullptr) CACHED_RETURN_IF_ERROR(read_metrics(config, **metrics));

  const Result<const toml::table*> memory = section_table(*config, root, "memory");
  if (!memory.ok()) return memory.status();
  if (*memory == nullptr) {
    return error_at(config->file, 1, "memory.size",
                    "is missing; add a section [memory] with size = \"64GiB\"");
  }
  CACHED_RETURN_IF_ERROR(read_memory(config, **memory));

  const Result<const toml::table*> ssd = section_table(*config, root, "ssd");
  if (!ssd.ok()) return ssd.status();
  if (*ssd != nullptr) CACHED_RETURN_IF_ERROR(read_ssd(config, **ssd));

  if (const toml::node* devices = root.get("device")) {
    CACHED_RETURN_IF_ERROR(read_list(config, *devices, "device", kMaximumDevices, read_device));
  }
  const toml::node* const volumes = root.get("volume");
  if (volumes == nullptr) {
    return error_at(
        config->file, 1, "volume",
        "is missing; add a section [[volume]] with name = \"datasets\" and source = \"dir:/absolute/path\"");
  }
  CACHED_RETURN_IF_ERROR(read_list(config, *volumes, "volume", kMaximumVolumes, read_volume));
  const toml::node* const data_sets = root.get("dataset");
  if (data_sets == nullptr) return Status();
  return read_list(config, *data_sets, "dataset", kMaximumDataSets, read_data_set);
}

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

// The key that stands in `line` of text that is not valid TOML, as far as it can be told: what is left of
// "=", in the last section above it.
std::string key_near(const std::string& text, uint32_t line) {
  std::string section;
  std::string key;
  size_t start = 0;
  for (uint32_t number = 1; number <= line && start < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', start), text.size());
    const std::string_view content = trimmed(std::string_view(text).substr(start, end - start));
    start = end + 1;
    key.clear();
    if (!content.empty() && content.front() == '[') {
      section = std::string(content.substr(0, content.find('#')));
      std::erase_if(section, [](char c) { return c == '[' || c == ']' || c == ' '; });
      key = section;
    } else if (const size_t equals = content.find('='); equals != std::string_view::npos) {
      key = (section.empty() ? "" : section + ".") + std::string(trimmed(content.substr(0, equals)));
    }
  }
  return key.empty() ? "?" : printable(key);
}

Status syntax_error(const std::string& text, const std::string& path, const toml::parse_error& error) {
  const uint32_t line = std::max(1U, static_cast<uint32_t>(error.source().begin.line));
  return error_at(path, line, key_near(text, line),
                  "is not valid TOML: " + printable(error.description()) +
                      "; text and sizes stand in quotes, and a key or section may stand only once");
}

}  // namespace

Status Config::error(const std::string& key, const std::string& text) const {
  const auto line = lines.find(key);
  return error_at(file, line == lines.end() ? 0 : line->second, key, text);
}

Result<Config> parse_config(const std::string& text, const std::string& path) {
  const toml::parse_result parsed = toml::parse(std::string_view(text), std::string_view(path));
  if (!parsed) return syntax_error(text, path, parsed.error());
  Config config;
  config.file = path;
  CACHED_RETURN_IF_ERROR(read_root(&config, parsed.table()));
  return config;
}

Result<Config> load_config(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return Status::from_errno(printable(path) + ": cannot open the configuration");
  std::string text;
  std::string piece(64 * kKiB, '\0');
  for (;;) {
    const ssize_t count = ::read(fd.get(), piece.data(), piece.size());
    if (count < 0) return Status::from_errno(printable(path) + ": cannot read the configuration");
    if (count == 0) break;
    text.append(piece, 0, static_cast<size_t>(count));
    if (text.size() > kMaximumFileBytes) {
      return Status(EINVAL, printable(path) + ": is larger than " + format_size(kMaximumFileBytes) +
                                " and can be no configuration of cached");
    }
  }
  return parse_config(text, path);
}

}  // namespace cached
