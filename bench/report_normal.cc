// fio's normal report: see report.h. Lines, their units and the widths of their numbers are fio's.
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <cmath>

#include "base/clock.h"
#include "base/units.h"
#include "bench/report.h"
#include "bench/report_numbers.h"

namespace cached::bench {
namespace {

constexpr unsigned kLineWidth = 80;
constexpr unsigned kClassesOfLine = 5;

struct Scale {
  const char* name;
  uint64_t divisor;
};
constexpr Scale kNs{"nsec", 1}, kUs{"usec", 1000}, kMs{"msec", 1000 * 1000};

// The largest unit in which the values still say something, by fio's limits.
Scale scale_of(uint64_t minimum, uint64_t maximum, double deviation_ns) {
  if (minimum > 2'000'000 && maximum > 99'999'999 && deviation_ns > 1e6) return kMs;
  return minimum > 2'000 && maximum > 99'999 && deviation_ns > 1e3 ? kUs : kNs;
}

std::string rate(double bytes_per_second, bool binary) {
  return fio_number(static_cast<uint64_t>(bytes_per_second), 4, binary, "B/s");
}

std::string latency_line(const char* name, const Latency& latency) {
  const Histogram& values = latency.histogram;
  if (values.count() == 0) return "";
  const Scale scale = scale_of(values.minimum(), values.maximum(), latency.moments.deviation());
  const auto divisor = static_cast<double>(scale.divisor);
  return fmt::format("    {} ({}): min={}, max={}, avg={:5.2f}, stdev={:5.2f}\n", name, scale.name,
                     fio_number(values.minimum() / scale.divisor, 6, false, ""),
                     fio_number(values.maximum() / scale.divisor, 6, false, ""),
                     latency.moments.mean() / divisor, latency.moments.deviation() / divisor);
}

std::string percentile_lines(const char* name, const Histogram& values) {
  if (values.count() == 0) return "";
  const uint64_t lowest = values.percentile(kPercentiles[0]);
  const uint64_t highest = values.percentile(*std::rbegin(kPercentiles));
  const Scale scale = scale_of(lowest, highest, INFINITY);
  const auto digits = static_cast<unsigned>(std::to_string(highest / scale.divisor).size());
  const unsigned width = std::max(5U, digits);
  const unsigned per_line = (kLineWidth - 7) / (2 + 10 + width);
  std::string text = fmt::format("    {} percentiles ({}):\n     |", name, scale.name);
  for (size_t i = 0; i < std::size(kPercentiles); ++i) {
    const uint64_t value = (values.percentile(kPercentiles[i]) + scale.divisor - 1) / scale.divisor;
    const bool last = i + 1 == std::size(kPercentiles);
    text += fmt::format(" {:5.2f}th=[{:{}}]{}", kPercentiles[i], value, width, last ? "\n" : ",");
    if (!last && i % per_line == per_line - 1) text += "\n     |";
  }
  return text;
}

std::string sample_lines(const DirectionStats& stats, double group_kib_per_s) {
  if (stats.kib_per_s.count() == 0) return "";
  const Moments& bw = stats.kib_per_s;
  const Moments& iops = stats.iops;
  const bool large = bw.mean() > 999999;
  const double divisor = large ? 1024 : 1;
  const double share = group_kib_per_s == 0 ? 0 : std::min(100.0, 100 * bw.mean() / group_kib_per_s);
  const auto whole = [](double value) { return static_cast<uint64_t>(value); };
  return fmt::format(
             "   bw ({:>5}/s): min={:5}, max={:5}, per={:3.2f}%, avg={:5.2f}, stdev={:5.2f}, samples={}\n",
             large ? "MiB" : "KiB", whole(bw.minimum() / divisor), whole(bw.maximum() / divisor), share,
             bw.mean() / divisor, bw.deviation() / divisor, bw.count()) +
         fmt::format("   iops        : min={:5}, max={:5}, avg={:5.2f}, stdev={:5.2f}, samples={}\n",
                     whole(iops.minimum()), whole(iops.maximum()), iops.mean(), iops.deviation(),
                     iops.count());
}

std::string direction_lines(const BenchOptions& options, unsigned direction, const DirectionStats& stats,
                            double group_kib_per_s) {
  if (stats.ios == 0) return "";
  const double bytes_per_second = per_second(stats.bytes, stats);
  std::string text =
      fmt::format("  {}: IOPS={}, BW={} ({})({}/{}msec){}\n", kDirectionNames[direction],
                  fio_number(static_cast<uint64_t>(per_second(stats.ios, stats)), 4, false, ""),
                  rate(bytes_per_second, true), rate(bytes_per_second, false), fio_bytes(stats.bytes),
                  runtime_ms(stats), direction == kWrite ? "; 0 zone resets" : "");
  text += latency_line("slat", stats.submission);
  text += latency_line("clat", stats.completion);
  text += latency_line(" lat", stats.total());
  if (options.submission_percentiles) text += percentile_lines("slat", stats.submission.histogram);
  if (options.completion_percentiles) text += percentile_lines("clat", stats.completion.histogram);
  if (options.total_percentiles) text += percentile_lines("lat", stats.total().histogram);
  return text + sample_lines(stats, group_kib_per_s);
}

std::string class_lines(const char* unit, const std::array<double, kLatencyClasses>& values, unsigned first,
                        unsigned count) {
  std::string text;
  unsigned shown = 0;
  for (unsigned i = 0; i < count; ++i) {
    if (values[first + i] <= 0) continue;
    const bool begins_line = shown % kClassesOfLine == 0;
    if (begins_line) text += fmt::format("{}  lat ({})   : ", shown == 0 ? "" : "\n", unit);
    const bool open_end = i + 1 == kMsClasses;  // ">=2000" has its own sign
    text += fmt::format("{}{}={:3.2f}%", begins_line ? "" : ", ", open_end ? ">=2000" : kClassNames[i],
                        values[first + i]);
    ++shown;
  }
  return shown == 0 ? "" : text + "\n";
}

template <size_t Count>
std::string share_line(const char* heading, const std::array<double, Count>& values,
                       const std::array<const char*, Count>& names) {
  std::string text = heading;
  for (size_t i = 0; i < Count; ++i)
    text += fmt::format("{}{}={:3.1f}%", i == 0 ? "" : ", ", names[i], values[i]);
  return text + "\n";
}

std::string job_heading(const JobReport& job) {
  const int error = job.error.error_number();
  const std::string detail = error == 0 ? "" : fmt::format(" ({})", job.error.message());
  return fmt::format("{}: (groupid={}, jobs={}): err={:2}{}: pid={}: {}\n", job.name, job.group, job.jobs,
                     error, detail, ::getpid(), local_time(system_clock().realtime_ns()));
}

std::string job_lines(const JobReport& job, const std::array<double, kDirections>& group_kib_per_s) {
  const JobStats& stats = job.stats;
  std::string text = job_heading(job);
  for (unsigned direction = 0; direction < kDirections; ++direction)
    text += direction_lines(*job.options, direction, stats.direction[direction], group_kib_per_s[direction]);
  const auto classes = shares(stats.latency_classes);
  text += class_lines("nsec", classes, 0, kNsClasses);
  text += class_lines("usec", classes, kNsClasses, kUsClasses);
  text += class_lines("msec", classes, kNsClasses + kUsClasses, kMsClasses);
  text += fmt::format("  cpu          : usr={:3.2f}%, sys={:3.2f}%, ctx={}, majf={}, minf={}\n",
                      cpu_percent(stats.user_cpu_ns, stats), cpu_percent(stats.system_cpu_ns, stats),
                      stats.context_switches, stats.major_faults, stats.minor_faults);
  text += share_line("  IO depths    : ", shares(stats.depths), kDepthNames);
  text += share_line("     submit    : ", shares(stats.submissions), kBatchNames);
  text += share_line("     complete  : ", shares(stats.completions), kBatchNames);
  const DirectionStats& reads = stats.direction[kRead];
  const DirectionStats& writes = stats.direction[kWrite];
  text += fmt::format("     issued rwts: total={},{},0,{} short={},{},0,0 dropped=0,0,0,0\n", reads.ios,
                      writes.ios, stats.sync.histogram.count(), reads.short_ios, writes.short_ios);
  return text + fmt::format("     latency   : target=0, window=0, percentile=100.00%, depth={}\n",
                            job.options->depth);
}

// The sum of a group in one direction: rates of the jobs and of all of them.
std::string status_line(unsigned direction, const std::vector<const JobReport*>& jobs) {
  DirectionStats sum;
  double lowest = INFINITY, highest = 0;
  uint64_t shortest_ms = UINT64_MAX, longest_ms = 0;
  for (const JobReport* job : jobs) {
    const DirectionStats& stats = job->stats.direction[direction];
    if (stats.ios == 0) continue;
    sum.ios += stats.ios;
    sum.bytes += stats.bytes;
    sum.begun_at_ns = std::min(sum.begun_at_ns, stats.begun_at_ns);
    sum.ended_at_ns = std::max(sum.ended_at_ns, stats.ended_at_ns);
    lowest = std::min(lowest, per_second(stats.bytes, stats));
    highest = std::max(highest, per_second(stats.bytes, stats));
    shortest_ms = std::min(shortest_ms, runtime_ms(stats));
    longest_ms = std::max(longest_ms, runtime_ms(stats));
  }
  if (sum.ios == 0) return "";
  const double all = per_second(sum.bytes, sum);
  return fmt::format("  {:>5}: bw={} ({}), {}-{} ({}-{}), io={} ({}), run={}-{}msec\n",
                     direction == kRead ? "READ" : "WRITE", rate(all, true), rate(all, false),
                     rate(lowest, true), rate(highest, true), rate(lowest, false), rate(highest, false),
                     fio_bytes(sum.bytes), fio_number(sum.bytes, 4, false, "B"), shortest_ms, longest_ms);
}

}  // namespace

std::string normal_heading(const std::vector<BenchOptions>& jobs) {
  const std::vector<unsigned> groups = groups_of(jobs);
  std::string text;
  unsigned count = 0;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const BenchOptions& job = jobs[i];
    const std::string bytes = fio_bytes(job.block_bytes);
    text += fmt::format("{}: (g={}): rw={}, bs=(R) {}-{}, (W) {}-{}, (T) {}-{}, ioengine={}, iodepth={}\n",
                        job.name, groups[i], job.load.name, bytes, bytes, bytes, bytes, bytes, bytes,
                        job.engine_name, job.depth);
    if (job.jobs > 1) text += "...\n";
    count += job.jobs;
  }
  return text + fmt::format("{}\nStarting {} thread{}\n", program_version(), count, count == 1 ? "" : "s");
}

std::string normal_report(const std::vector<JobReport>& jobs) {
  std::vector<std::vector<const JobReport*>> groups;
  std::vector<std::array<double, kDirections>> kib_per_s;
  for (const JobReport& job : jobs) {
    groups.resize(job.group + 1);
    kib_per_s.resize(job.group + 1);
    groups.back().push_back(&job);
    for (unsigned direction = 0; direction < kDirections; ++direction) {
      const DirectionStats& stats = job.stats.direction[direction];
      kib_per_s.back()[direction] += per_second(stats.bytes, stats) / kKiB;
    }
  }
  std::string text = "\n";
  for (const JobReport& job : jobs) text += job_lines(job, kib_per_s[job.group]);
  for (size_t group = 0; group < groups.size(); ++group) {
    text += fmt::format("\nRun status group {} (all jobs):\n", group);
    for (unsigned direction = 0; direction < kDirections; ++direction)
      text += status_line(direction, groups[group]);
  }
  return text;
}

}  // namespace cached::bench
