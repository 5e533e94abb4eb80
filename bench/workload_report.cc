// What a workload prints: see workload_report.h.
#include "bench/workload_report.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/units.h"

namespace cached::bench {
namespace {

using nlohmann::ordered_json;

constexpr double kPercentiles[] = {50, 90, 99, 99.9};
constexpr double kNsPerSecond = static_cast<double>(kNanosecondsPerSecond);

double seconds(const PassReport& pass) {
  return static_cast<double>(std::max<uint64_t>(pass.runtime_ns, 1)) / kNsPerSecond;
}
double per_second(const PassReport& pass, uint64_t count) {
  return static_cast<double>(count) / seconds(pass);
}

ordered_json latency_json(const Histogram& latency) {
  ordered_json percentiles = ordered_json::object();
  for (double percent : kPercentiles)
    percentiles[fmt::format("{:.6f}", percent)] = latency.percentile(percent);
  return {{"min", latency.minimum()},
          {"max", latency.maximum()},
          {"mean", latency.mean()},
          {"N", latency.count()},
          {"percentile", std::move(percentiles)}};
}

ordered_json pass_json(const PassReport& pass) {
  ordered_json job = {{"jobname", pass.name},
                      {"error", 0},
                      {"unit", pass.unit},
                      {"read",
                       {{"io_bytes", pass.bytes},
                        {"bw_bytes", static_cast<uint64_t>(per_second(pass, pass.bytes))},
                        {"iops", per_second(pass, pass.ios)},
                        {"runtime", pass.runtime_ns / kNanosecondsPerMillisecond},
                        {"runtime_ns", pass.runtime_ns},
                        {"total_ios", pass.ios},
                        {"clat_ns", latency_json(pass.latency_ns)}}}};
  if (pass.cache) {
    job["cache"] = {{"hit_ratio", pass.cache->hit_ratio},
                    {"memory_hit_ratio", pass.cache->memory_hit_ratio},
                    {"asked_bytes", pass.cache->asked_bytes},
                    {"origin_bytes", pass.cache->origin_bytes}};
  }
  return job;
}

std::string pass_text(const PassReport& pass) {
  std::string text = fmt::format("{}: {} {} in {:.3f} s: {:.0f} {}/s", pass.name, pass.ios, pass.unit,
                                 seconds(pass), per_second(pass, pass.ios), pass.unit);
  if (pass.bytes != 0) text += fmt::format(", {:.1f} MB/s", per_second(pass, pass.bytes) / 1e6);
  text += '\n';
  const Histogram& latency = pass.latency_ns;
  if (latency.count() != 0) {
    text += fmt::format("    clat (nsec): min={}, p50={}, p99={}, p99.9={}, max={}, avg={:.1f}\n",
                        latency.minimum(), latency.percentile(50), latency.percentile(99),
                        latency.percentile(99.9), latency.maximum(), latency.mean());
  }
  if (pass.cache) {
    text +=
        fmt::format("    cache: hit ratio {:.3f} (in memory {:.3f}) of {} asked for, {} from the origin\n",
                    pass.cache->hit_ratio, pass.cache->memory_hit_ratio, format_size(pass.cache->asked_bytes),
                    format_size(pass.cache->origin_bytes));
  }
  return text;
}

}  // namespace

std::string normal_workload_report(const std::vector<PassReport>& passes) {
  std::string text;
  for (const PassReport& pass : passes) text += pass_text(pass);
  return text;
}

std::string json_workload_report(const std::string& workload, const std::vector<PassReport>& passes) {
  ordered_json report = {
      {"cached-bench version", CACHED_VERSION},
      {"timestamp", system_clock().realtime_ns() / static_cast<int64_t>(kNanosecondsPerSecond)},
      {"workload", workload},
      {"jobs", ordered_json::array()}};
  for (const PassReport& pass : passes) report["jobs"].push_back(pass_json(pass));
  return report.dump(2) + "\n";
}

void print_workload_report(const CommonOptions& options, const std::string& workload,
                           const std::vector<PassReport>& passes) {
  if (options.print_normal) std::cout << normal_workload_report(passes);
  if (options.print_json) std::cout << json_workload_report(workload, passes);
}

}  // namespace cached::bench
