// fio's JSON report: see report.h. Keys, their order and their units are fio's.
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/units.h"
#include "bench/report.h"

namespace cached::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kNoEta = 2147483647;  // what fio says when a job is over

std::string six_places(double percent) {
  return std::to_string(percent);
}

Json latency_json(const Latency& latency, bool percentiles) {
  Json json = {{"min", latency.histogram.minimum()},
               {"max", latency.histogram.maximum()},
               {"mean", latency.moments.mean()},
               {"stddev", latency.moments.deviation()},
               {"N", latency.histogram.count()}};
  if (!percentiles || latency.histogram.count() == 0) return json;
  for (double percent : kPercentiles)
    json["percentile"][six_places(percent)] = latency.histogram.percentile(percent);
  return json;
}

Json direction_json(const BenchOptions& options, const DirectionStats& stats, double all_kib_per_s) {
  const auto bytes_per_second = static_cast<uint64_t>(per_second(stats.bytes, stats));
  const double mean = stats.kib_per_s.mean();
  return {{"io_bytes", stats.bytes},
          {"io_kbytes", stats.bytes / kKiB},
          {"bw_bytes", bytes_per_second},
          {"bw", bytes_per_second / kKiB},
          {"iops", per_second(stats.ios, stats)},
          {"runtime", runtime_ms(stats)},
          {"total_ios", stats.ios},
          {"short_ios", stats.short_ios},
          {"drop_ios", 0},
          {"slat_ns", latency_json(stats.submission, options.submission_percentiles)},
          {"clat_ns", latency_json(stats.completion, options.completion_percentiles)},
          {"lat_ns", latency_json(stats.total(), options.total_percentiles)},
          {"bw_min", static_cast<uint64_t>(stats.kib_per_s.minimum())},
          {"bw_max", static_cast<uint64_t>(stats.kib_per_s.maximum())},
          {"bw_agg", all_kib_per_s == 0 ? 0.0 : std::min(100.0, 100 * mean / all_kib_per_s)},
          {"bw_mean", mean},
          {"bw_dev", stats.kib_per_s.deviation()},
          {"bw_samples", stats.kib_per_s.count()},
          {"iops_min", static_cast<uint64_t>(stats.iops.minimum())},
          {"iops_max", static_cast<uint64_t>(stats.iops.maximum())},
          {"iops_mean", stats.iops.mean()},
          {"iops_stddev", stats.iops.deviation()},
          {"iops_samples", stats.iops.count()}};
}

template <size_t Count>
Json shares_json(const std::array<double, Count>& values, const std::array<const char*, Count>& names) {
  Json json;
  for (size_t i = 0; i < Count; ++i) json[names[i]] = values[i];
  return json;
}

// `count` classes of latencies from `first` on.
Json classes_json(const std::array<double, kLatencyClasses>& values, unsigned first, unsigned count) {
  Json json;
  for (unsigned i = 0; i < count; ++i) json[kClassNames[i]] = values[first + i];
  return json;
}

// Options that stand alone are left out, as by fio.
Json options_json(const std::vector<GivenOption>& given) {
  Json json = Json::object();
  for (const GivenOption& option : given) {
    if (!option.value.empty()) json[option.name] = option.value;
  }
  return json;
}

void add_distributions(const JobReport& job, Json* json) {
  const JobStats& stats = job.stats;
  (*json)["iodepth_level"] = shares_json(shares(stats.depths), kDepthNames);
  (*json)["iodepth_submit"] = shares_json(shares(stats.submissions), kBatchNames);
  (*json)["iodepth_complete"] = shares_json(shares(stats.completions), kBatchNames);
  const auto classes = shares(stats.latency_classes);
  (*json)["latency_ns"] = classes_json(classes, 0, kNsClasses);
  (*json)["latency_us"] = classes_json(classes, kNsClasses, kUsClasses);
  (*json)["latency_ms"] = classes_json(classes, kNsClasses + kUsClasses, kMsClasses);
  (*json)["latency_depth"] = job.options->depth;
  (*json)["latency_target"] = 0;
  (*json)["latency_percentile"] = 100.0;
  (*json)["latency_window"] = 0;
}

Json job_json(const JobReport& job, const std::vector<double>& kib_per_s_of_group) {
  const JobStats& stats = job.stats;
  Json json = {
      {"jobname", job.name}, {"groupid", job.group},     {"error", job.error.error_number()},
      {"eta", kNoEta},       {"elapsed", job.elapsed_s}, {"job options", options_json(job.options->given)}};
  for (unsigned direction = 0; direction < kDirections; ++direction) {
    const double all = kib_per_s_of_group[job.group * kDirections + direction];
    json[kDirectionNames[direction]] = direction_json(*job.options, stats.direction[direction], all);
  }
  json["trim"] = direction_json(*job.options, DirectionStats(), 0);
  json["sync"] = {{"total_ios", stats.sync.histogram.count()}, {"lat_ns", latency_json(stats.sync, true)}};
  json["job_runtime"] = stats.thread_runtime_ns / kNanosecondsPerMillisecond;
  json["usr_cpu"] = cpu_percent(stats.user_cpu_ns, stats);
  json["sys_cpu"] = cpu_percent(stats.system_cpu_ns, stats);
  json["ctx"] = stats.context_switches;
  json["majf"] = stats.major_faults;
  json["minf"] = stats.minor_faults;
  add_distributions(job, &json);
  return json;
}

}  // namespace

std::string json_report(const std::vector<GivenOption>& global, const std::vector<JobReport>& jobs) {
  const int64_t now_ns = system_clock().realtime_ns();
  Json report = {{"fio version", program_version()},
                 {"timestamp", now_ns / static_cast<int64_t>(kNanosecondsPerSecond)},
                 {"timestamp_ms", now_ns / static_cast<int64_t>(kNanosecondsPerMillisecond)},
                 {"time", local_time(now_ns)}};
  if (!global.empty()) report["global options"] = options_json(global);
  std::vector<double> kib_per_s_of_group;
  for (const JobReport& job : jobs) {
    kib_per_s_of_group.resize(std::max(kib_per_s_of_group.size(), size_t{(job.group + 1) * kDirections}));
    for (unsigned direction = 0; direction < kDirections; ++direction) {
      const DirectionStats& stats = job.stats.direction[direction];
      kib_per_s_of_group[job.group * kDirections + direction] += per_second(stats.bytes, stats) / kKiB;
    }
  }
  report["jobs"] = Json::array();
  for (const JobReport& job : jobs) report["jobs"].push_back(job_json(job, kib_per_s_of_group));
  return report.dump(2) + "\n";
}

}  // namespace cached::bench
