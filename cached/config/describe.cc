// Showing a configuration, and the values that depend on the machine: see config.h.
#include <algorithm>
#include <array>
#include <string>
#include <thread>
#include <utility>

#include "base/log.h"
#include "cached/config/config.h"
#include "cached/config/schema.h"

namespace cached {
namespace {

using config_schema::data_set_section;
using config_schema::device_section;
using config_schema::volume_section;

// A size as the file would say it, to the byte.
std::string exact_size(uint64_t size_bytes) {
  static constexpr std::array<std::pair<const char*, uint64_t>, 3> kUnits = {
      {{"GiB", kGiB}, {"MiB", kMiB}, {"KiB", kKiB}}};
  for (const auto& [name, factor] : kUnits) {
    if (size_bytes != 0 && size_bytes % factor == 0) return std::to_string(size_bytes / factor) + name;
  }
  return std::to_string(size_bytes);
}

// The visitor that lists one section's values.
class SectionWriter {
 public:
  SectionWriter(const Config& config, std::string section, std::vector<ConfigItem>* items)
      : config_(config), section_(std::move(section)), items_(items) {}

  void boolean(const char* name, bool value) { add(name, value ? "true" : "false"); }
  void integer(const char* name, uint64_t value, uint64_t, uint64_t) { add(name, std::to_string(value)); }
  template <typename Check>
  void size(const char* name, uint64_t value, Check) {
    add(name, "\"" + exact_size(value) + "\"");
  }
  template <typename Check>
  void text(const char* name, const std::string& value, Check) {
    add(name, "\"" + printable(value) + "\"");
  }

 private:
  void add(const char* name, std::string value) {
    const std::string key = section_ + "." + name;
    const auto line = config_.lines.find(key);
    items_->push_back({key, std::move(value), line == config_.lines.end() ? 0 : line->second});
  }

  const Config& config_;
  std::string section_;
  std::vector<ConfigItem>* items_;
};

}  // namespace

std::vector<ConfigItem> describe_config(const Config& config) {
  std::vector<ConfigItem> items;
  SectionWriter daemon(config, "daemon", &items);
  config_schema::visit_daemon(daemon, config.daemon);
  SectionWriter log(config, "log", &items);
  config_schema::visit_log(log, config.log);
  SectionWriter metrics(config, "metrics", &items);
  config_schema::visit_metrics(metrics, config.metrics);
  SectionWriter memory(config, "memory", &items);
  config_schema::visit_memory(memory, config.memory);
  SectionWriter ssd(config, "ssd", &items);
  config_schema::visit_ssd(ssd, config.ssd);
  for (size_t place = 0; place < config.devices.size(); ++place) {
    SectionWriter device(config, device_section(place), &items);
    config_schema::visit_device(device, config.devices[place]);
  }
  for (size_t place = 0; place < config.volumes.size(); ++place) {
    const VolumeConfig& values = config.volumes[place];
    SectionWriter volume(config, volume_section(place), &items);
    config_schema::visit_volume(volume, values);
    if (values.kind == VolumeKind::kDir) config_schema::visit_dir_volume(volume, values);
    if (values.kind == VolumeKind::kRados) {
      config_schema::visit_ceph_access(volume, values.rados);
      config_schema::visit_rados_volume(volume, values.rados);
    }
    if (values.kind == VolumeKind::kJuicefs) {
      config_schema::visit_juicefs_volume(volume, values.juicefs);
      config_schema::visit_ceph_access(volume, values.juicefs);
    }
  }
  for (size_t place = 0; place < config.data_sets.size(); ++place) {
    SectionWriter data_set(config, data_set_section(place), &items);
    config_schema::visit_data_set(data_set, config.data_sets[place]);
  }
  return items;
}

LogOptions LogConfig::options(const std::string& program) const {
  LogOptions options;
  options.program = program;
  options.level = level;
  options.target = target == "journal"  ? LogTarget::kJournal
                   : target == "stderr" ? LogTarget::kStderr
                   : target == "file"   ? LogTarget::kFile
                                        : LogTarget::kAuto;
  options.format = format == "json" ? LogFormat::kJson : LogFormat::kText;
  options.file = file;
  options.rotate_bytes = rotate_size_bytes;
  options.rotate_files = rotate_files;
  options.lines_per_kind = lines_per_kind;
  return options;
}

uint32_t effective_shards(const DaemonConfig& daemon) {
  if (daemon.shards != 0) return daemon.shards;
  return std::clamp(std::thread::hardware_concurrency() / 8, 1U, 8U);
}

uint64_t effective_pin_limit(const MemoryConfig& memory) {
  return memory.pin_limit_bytes != 0 ? memory.pin_limit_bytes : memory.size_bytes / 4;
}

uint64_t effective_index_bytes(const SsdConfig& ssd) {
  return ssd.index_size_bytes != 0 ? ssd.index_size_bytes : config_schema::machine_memory_bytes() / 16;
}

}  // namespace cached
