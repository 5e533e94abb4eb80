// The metrics' table: see metric_table.h.
#include "base/metric_table.h"

#include <array>

namespace cached {
namespace {

constexpr std::array kTable = {
#define CACHED_METRIC_ROW(enumerator, name, type, labels, help) \
  MetricInfo{Metric::enumerator, name, MetricType::type, labels, help},
    CACHED_METRICS(CACHED_METRIC_ROW)
#undef CACHED_METRIC_ROW
};
static_assert(kTable.size() == static_cast<size_t>(Metric::kCount));

void add_section(bool of_mounts, std::string* text) {
  *text += "| name | type | unit | labels | meaning |\n|---|---|---|---|---|\n";
  for (const MetricInfo& info : kTable) {
    if (is_of_mount(info) != of_mounts) continue;
    for (const std::string_view part :
         {std::string_view("| `"), info.name, std::string_view("` | "), name_of(info.type),
          std::string_view(" | "), unit_of(info), std::string_view(" | "), info.labels,
          std::string_view(" | "), info.help, std::string_view(" |\n")}) {
      text->append(part);
    }
  }
}

}  // namespace

std::span<const MetricInfo> metric_table() {
  return kTable;
}

const MetricInfo& info_of(Metric metric) {
  return kTable[static_cast<size_t>(metric)];
}

std::string_view name_of(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return "counter";
    case MetricType::kGauge:
      return "gauge";
    case MetricType::kHistogram:
      return "histogram";
  }
  return "";
}

std::string_view unit_of(const MetricInfo& info) {
  for (const std::string_view unit : {"seconds", "bytes", "ratio"}) {
    if (info.name.find(unit) != std::string_view::npos) return unit;
  }
  return "";
}

bool is_of_mount(const MetricInfo& info) {
  return info.metric >= Metric::kMountAttached;
}

std::string metric_manual() {
  std::string text =
      "# Metrics\n\n"
      "Printed by `cached --list-metrics`. Counters begin at 0 when the daemon, or the mount, starts.\n\n"
      "## The daemon's\n\n"
      "At `http://ADDRESS/metrics` of `metrics.listen`. The exporter adds figures of its own, "
      "`exposer_*`.\n\n";
  add_section(false, &text);
  text += "\n## A mount's\n\nIn the file `.stats` at the mount's root.\n\n";
  add_section(true, &text);
  return text;
}

}  // namespace cached
