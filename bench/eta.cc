// EtaLine: see eta.h.
#include "bench/eta.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/clock.h"
#include "bench/report_numbers.h"

namespace cached::bench {
namespace {

constexpr std::chrono::seconds kInterval(1);
constexpr const char* kNames[kDirections] = {"r", "w"};

char letter_of(const RunningJob& job) {
  return job.threads->front().live().state.load(std::memory_order_relaxed);
}

// How much of the job is done, from 0 to 1: of its time or of its bytes, whichever ends it.
double done_share(const RunningJob& job, uint64_t elapsed_ns) {
  const BenchOptions& options = *job.options;
  if (letter_of(job) == '_') return 1;
  double share = 0;
  if (options.runtime_ns != 0)
    share = static_cast<double>(elapsed_ns) / static_cast<double>(options.runtime_ns + options.ramp_ns);
  if (!options.time_based) {
    uint64_t ios = 0;
    for (const JobThread& thread : *job.threads)
      ios += thread.live().ios[kRead].load(std::memory_order_relaxed) +
             thread.live().ios[kWrite].load(std::memory_order_relaxed);
    share = std::max(
        share, static_cast<double>(ios) / static_cast<double>(std::max<uint64_t>(1, job.source->limit())));
  }
  return std::min(1.0, share);
}

// "r(2),_(1)": the letters of the jobs, and of how many in a row.
std::string letters(const std::vector<RunningJob>& jobs) {
  std::string text;
  for (size_t i = 0; i < jobs.size();) {
    size_t end = i;
    while (end < jobs.size() && letter_of(jobs[end]) == letter_of(jobs[i])) ++end;
    text += fmt::format("{}{}({})", text.empty() ? "" : ",", letter_of(jobs[i]), end - i);
    i = end;
  }
  return text;
}

std::string remaining(double share, uint64_t elapsed_ns) {
  if (share <= 0) return "eta --";
  const double seconds = static_cast<double>(elapsed_ns) / static_cast<double>(kNanosecondsPerSecond);
  const auto left = static_cast<uint64_t>(std::lround(seconds * (1 - share) / share));
  const std::string hours = left < 3600 ? "" : fmt::format("{:02}h:", left / 3600);
  return fmt::format("eta {}{:02}m:{:02}s", hours, left / 60 % 60, left % 60);
}

}  // namespace

EtaSample take_eta_sample(const std::vector<RunningJob>& jobs, uint64_t elapsed_ns) {
  EtaSample sample{.elapsed_ns = elapsed_ns};
  for (const RunningJob& job : jobs) {
    for (const JobThread& thread : *job.threads) {
      for (unsigned direction = 0; direction < kDirections; ++direction) {
        sample.bytes[direction] += thread.live().bytes[direction].load(std::memory_order_relaxed);
        sample.ios[direction] += thread.live().ios[direction].load(std::memory_order_relaxed);
      }
    }
  }
  return sample;
}

std::string eta_line(const std::vector<RunningJob>& jobs, const EtaSample& before, const EtaSample& now) {
  const auto running =
      std::count_if(jobs.begin(), jobs.end(), [](const RunningJob& job) { return letter_of(job) != '_'; });
  double share = jobs.empty() ? 0 : 1;
  for (const RunningJob& job : jobs) share = std::min(share, done_share(job, now.elapsed_ns));
  std::string bandwidths, rates;
  const double seconds =
      static_cast<double>(now.elapsed_ns - before.elapsed_ns) / static_cast<double>(kNanosecondsPerSecond);
  for (unsigned direction = 0; direction < kDirections && seconds > 0; ++direction) {
    if (now.ios[direction] == 0) continue;
    const auto bytes = static_cast<double>(now.bytes[direction] - before.bytes[direction]) / seconds;
    const auto ios = static_cast<double>(now.ios[direction] - before.ios[direction]) / seconds;
    const std::string comma = bandwidths.empty() ? "" : ",";
    bandwidths += comma + kNames[direction] + "=" + fio_number(static_cast<uint64_t>(bytes), 4, true, "B/s");
    rates += comma + kNames[direction] + "=" + fio_number(static_cast<uint64_t>(ios), 4, false, "");
  }
  const std::string figures = bandwidths.empty() ? "" : fmt::format("[{}][{} IOPS]", bandwidths, rates);
  return fmt::format("Jobs: {} (f={}): [{}][{:.1f}%]{}[{}]", running, running, letters(jobs), 100 * share,
                     figures, remaining(share, now.elapsed_ns));
}

void EtaLine::watch(const std::vector<RunningJob>& jobs) {
  if (thread_.joinable()) {
    {
      std::lock_guard lock(mutex_);
      ends_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  ends_ = false;
  if (wanted_ && !jobs.empty()) thread_ = std::thread([this, jobs] { show(jobs); });
}

void EtaLine::show(const std::vector<RunningJob>& jobs) {
  const uint64_t begin_ns = system_clock().monotonic_ns();
  EtaSample before = take_eta_sample(jobs, 0);
  size_t longest = 0;
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kInterval, [this] { return ends_; })) {
    const EtaSample now = take_eta_sample(jobs, system_clock().monotonic_ns() - begin_ns);
    const std::string line = eta_line(jobs, before, now);
    longest = std::max(longest, line.size());
    std::fprintf(stderr, "%-*s\r", static_cast<int>(longest), line.c_str());
    std::fflush(stderr);
    before = now;
  }
  if (longest != 0) std::fputc('\n', stderr);
}

}  // namespace cached::bench
