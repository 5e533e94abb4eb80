// Report of a run.
#include "tests/verify/report.h"

#include <algorithm>

namespace cached::verify {

void Report::merge(const Report& other) {
  reads += other.reads;
  bytes += other.bytes;
  files += other.files;
  errors += other.errors;
  lagging_sizes += other.lagging_sizes;
  torn_reads += other.torn_reads;
  short_reads += other.short_reads;
  stale_reads += other.stale_reads;
  maximum_staleness_ns = std::max(maximum_staleness_ns, other.maximum_staleness_ns);
  for (const auto& [name, times] : other.tolerated) tolerated[name] += times;
  for (const auto& [mode, histogram] : other.latency_ns) latency_ns[mode].merge(histogram);
  for (const auto& [kind, times] : other.changes) changes[kind] += times;
}

nlohmann::json Report::to_json(double seconds) const {
  nlohmann::json latency = nlohmann::json::object();
  for (const auto& [mode, histogram] : latency_ns) {
    const auto microseconds = [](uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e3; };
    latency[mode] = {{"count", histogram.count()},
                     {"p50_us", microseconds(histogram.percentile(50))},
                     {"p99_us", microseconds(histogram.percentile(99))},
                     {"p999_us", microseconds(histogram.percentile(99.9))},
                     {"max_us", microseconds(histogram.maximum())}};
  }
  return {{"reads", reads},
          {"bytes", bytes},
          {"files", files},
          {"errors", errors},
          {"tolerated", tolerated},
          {"lagging_sizes", lagging_sizes},
          {"torn_reads", torn_reads},
          {"short_reads", short_reads},
          {"stale_reads", stale_reads},
          {"maximum_staleness_ms", static_cast<double>(maximum_staleness_ns) / 1e6},
          {"changes", changes},
          {"seconds", seconds},
          {"mb_per_s", static_cast<double>(bytes) / 1e6 / seconds},
          {"files_per_s", static_cast<double>(files) / seconds},
          {"latency", latency}};
}

}  // namespace cached::verify
