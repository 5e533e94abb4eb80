// What cached-bench prints: fio's normal and JSON reports, so that what reads fio's reads these.
#pragma once

#include <array>
#include <numeric>
#include <string>
#include <vector>

#include "bench/job_file.h"
#include "bench/options.h"
#include "bench/run.h"

namespace cached::bench {

// The percentiles that fio gives.
inline constexpr double kPercentiles[] = {1,  5,  10, 20, 30,   40,   50,    60,   70,
                                          80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99};

// "cached-bench-0.1.0", where fio says "fio-3.33".
std::string program_version();

// What fio prints before jobs run: a line for each, the version, how many start.
std::string normal_heading(const std::vector<BenchOptions>& jobs);
std::string normal_report(const std::vector<JobReport>& jobs);
// `global`: what all jobs have from options before the first, or from [global] sections.
std::string json_report(const std::vector<GivenOption>& global, const std::vector<JobReport>& jobs);

// Of one direction of a report: per second, over its runtime.
double per_second(uint64_t count, const DirectionStats& stats);
// Milliseconds, as fio counts runtimes; a run that is shorter counts as 1.
uint64_t runtime_ms(const DirectionStats& stats);
// Of the time that the job's threads ran.
double cpu_percent(uint64_t cpu_ns, const JobStats& stats);
// Shares of their sum, in percent; all 0 if there is none.
template <size_t Count>
std::array<double, Count> shares(const std::array<uint64_t, Count>& counts, uint64_t sum) {
  std::array<double, Count> result{};
  for (size_t i = 0; i < Count && sum != 0; ++i)
    result[i] = 100.0 * static_cast<double>(counts[i]) / static_cast<double>(sum);
  return result;
}
template <size_t Count>
std::array<double, Count> shares(const std::array<uint64_t, Count>& counts) {
  return shares(counts, std::accumulate(counts.begin(), counts.end(), uint64_t{0}));
}

// The names of the classes of job_stats.h.
inline constexpr std::array<const char*, kDepthClasses> kDepthNames = {"1",  "2",  "4",   "8",
                                                                       "16", "32", ">=64"};
inline constexpr std::array<const char*, kBatchClasses> kBatchNames = {"0",  "4",  "8",   "16",
                                                                       "32", "64", ">=64"};
inline constexpr std::array<const char*, kDirections> kDirectionNames = {"read", "write"};

// "Mon Nov 30 19:51:55 2026", of the wall clock.
std::string local_time(int64_t realtime_ns);

}  // namespace cached::bench
