// What cached-bench prints: see report.h.
#include "bench/report.h"

#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/units.h"

namespace cached::bench {
namespace {

constexpr double kPercentiles[] = {1,  5,  10, 20, 30,   40,   50,    60,   70,
                                   80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99};
constexpr double kNsPerSecond = static_cast<double>(kNanosecondsPerSecond);

double seconds(const RunResult& result) {
  return static_cast<double>(std::max<uint64_t>(result.runtime_ns, 1)) / kNsPerSecond;
}
double iops(const RunResult& result) {
  return static_cast<double>(result.ios) / seconds(result);
}
double bytes_per_second(const RunResult& result) {
  return static_cast<double>(result.bytes) / seconds(result);
}
double percent_of_runtime(uint64_t cpu_ns, const RunResult& result) {
  return 100.0 * static_cast<double>(cpu_ns) /
         static_cast<double>(std::max<uint64_t>(result.thread_runtime_ns, 1));
}

nlohmann::ordered_json latency_json(const Histogram& latency) {
  nlohmann::ordered_json percentiles = nlohmann::ordered_json::object();
  for (double percent : kPercentiles)
    percentiles[fmt::format("{:.6f}", percent)] = latency.percentile(percent);
  return {{"min", latency.minimum()},
          {"max", latency.maximum()},
          {"mean", latency.mean()},
          {"N", latency.count()},
          {"percentile", std::move(percentiles)}};
}

nlohmann::ordered_json job_json(const BenchOptions& options, const JobReport& job) {
  const RunResult& result = job.result;
  const nlohmann::ordered_json job_options = {{"ioengine", job.engine},
                                              {"rw", options.rw},
                                              {"bs", std::to_string(options.block_bytes)},
                                              {"iodepth", std::to_string(options.depth)},
                                              {"numjobs", std::to_string(options.jobs)},
                                              {"direct", options.direct ? "1" : "0"}};
  const nlohmann::ordered_json read = {{"io_bytes", result.bytes},
                                       {"io_kbytes", result.bytes / kKiB},
                                       {"bw_bytes", static_cast<uint64_t>(bytes_per_second(result))},
                                       {"bw", static_cast<uint64_t>(bytes_per_second(result)) / kKiB},
                                       {"iops", iops(result)},
                                       {"runtime", result.runtime_ns / kNanosecondsPerMillisecond},
                                       {"total_ios", result.ios},
                                       {"clat_ns", latency_json(result.latency_ns)}};
  return {{"jobname", job.name},
          {"error", 0},
          {"job options", job_options},
          {"read", read},
          {"usr_cpu", percent_of_runtime(result.user_cpu_ns, result)},
          {"sys_cpu", percent_of_runtime(result.system_cpu_ns, result)},
          {"ctx", result.context_switches},
          {"majf", result.major_faults},
          {"minf", result.minor_faults}};
}

std::string short_count(double count) {
  if (count >= 1e6) return fmt::format("{:.2f}M", count / 1e6);
  if (count >= 1e4) return fmt::format("{:.1f}k", count / 1e3);
  return fmt::format("{:.0f}", count);
}

}  // namespace

std::string normal_report(const BenchOptions& options, const std::vector<JobReport>& jobs) {
  std::string text;
  for (const JobReport& job : jobs) {
    const RunResult& result = job.result;
    const Histogram& latency = result.latency_ns;
    text += fmt::format("{}: rw={}, bs={}, engine={}, iodepth={}, numjobs={}, direct={}\n", job.name,
                        options.rw, format_size(options.block_bytes), job.engine, options.depth, options.jobs,
                        options.direct ? 1 : 0);
    text += fmt::format("  read: IOPS={}, BW={}/s ({:.0f}MB/s)({}/{}msec)\n", short_count(iops(result)),
                        format_size(static_cast<uint64_t>(bytes_per_second(result))),
                        bytes_per_second(result) / 1e6, format_size(result.bytes),
                        result.runtime_ns / kNanosecondsPerMillisecond);
    text += fmt::format("    clat (nsec): min={}, p50={}, p99={}, p99.9={}, max={}, avg={:.1f}\n",
                        latency.minimum(), latency.percentile(50), latency.percentile(99),
                        latency.percentile(99.9), latency.maximum(), latency.mean());
    text += fmt::format("  cpu: usr={:.2f}%, sys={:.2f}%, ctx={}, majf={}, minf={}\n",
                        percent_of_runtime(result.user_cpu_ns, result),
                        percent_of_runtime(result.system_cpu_ns, result), result.context_switches,
                        result.major_faults, result.minor_faults);
  }
  return text;
}

std::string json_report(const BenchOptions& options, const std::vector<JobReport>& jobs) {
  nlohmann::ordered_json report = {
      {"cached-bench version", CACHED_VERSION},
      {"timestamp", system_clock().realtime_ns() / static_cast<int64_t>(kNanosecondsPerSecond)},
      {"jobs", nlohmann::ordered_json::array()}};
  for (const JobReport& job : jobs) report["jobs"].push_back(job_json(options, job));
  return report.dump(2) + "\n";
}

}  // namespace cached::bench
