// JobStats: see job_stats.h.
#include "bench/job_stats.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace cached::bench {
namespace {

constexpr std::array<uint64_t, 10> kClassEnds = {2, 4, 10, 20, 50, 100, 250, 500, 750, 1000};

unsigned class_within(uint64_t value) {
  return static_cast<unsigned>(std::upper_bound(kClassEnds.begin(), kClassEnds.end(), value) -
                               kClassEnds.begin());
}

template <size_t Count>
void add(const std::array<uint64_t, Count>& from, std::array<uint64_t, Count>* to) {
  for (size_t i = 0; i < Count; ++i) (*to)[i] += from[i];
}

}  // namespace

void Moments::record(double value) {
  minimum_ = count_ == 0 ? value : std::min(minimum_, value);
  maximum_ = std::max(maximum_, value);
  ++count_;
  const double distance = value - mean_;
  mean_ += distance / static_cast<double>(count_);
  squares_ += distance * (value - mean_);
}

void Moments::merge(const Moments& other) {
  if (other.count_ == 0) return;
  minimum_ = count_ == 0 ? other.minimum_ : std::min(minimum_, other.minimum_);
  maximum_ = std::max(maximum_, other.maximum_);
  const double mine = static_cast<double>(count_);
  const double others = static_cast<double>(other.count_);
  const double distance = other.mean_ - mean_;
  count_ += other.count_;
  mean_ += distance * others / (mine + others);
  squares_ += other.squares_ + distance * distance * mine * others / (mine + others);
}

void Moments::merge_concurrent(const Moments& other) {
  const double mean = mean_ + other.mean_;
  merge(other);
  mean_ = mean;
}

double Moments::deviation() const {
  return count_ < 2 ? 0 : std::sqrt(squares_ / static_cast<double>(count_ - 1));
}

void Latency::record(uint64_t latency_ns) {
  histogram.record(latency_ns);
  moments.record(static_cast<double>(latency_ns));
}

void Latency::merge(const Latency& other) {
  histogram.merge(other.histogram);
  moments.merge(other.moments);
}

unsigned latency_class(uint64_t latency_ns) {
  if (latency_ns < 1000) return class_within(latency_ns);
  if (latency_ns < 1000 * 1000) return kNsClasses + class_within(latency_ns / 1000);
  const uint64_t latency_ms = latency_ns / (1000 * 1000);
  const unsigned first = kNsClasses + kUsClasses;
  if (latency_ms < kClassEnds.back()) return first + class_within(latency_ms);
  return first + (latency_ms < 2000 ? kMsClasses - 2 : kMsClasses - 1);
}

unsigned depth_class(unsigned depth) {
  return std::min(static_cast<unsigned>(std::bit_width(std::max(depth, 1U))) - 1, kDepthClasses - 1);
}

unsigned batch_class(unsigned ios) {
  if (ios == 0) return 0;
  return ios <= 4 ? 1 : std::min(static_cast<unsigned>(std::bit_width(ios - 1)) - 1, kBatchClasses - 1);
}

void DirectionStats::merge(const DirectionStats& other) {
  ios += other.ios;
  bytes += other.bytes;
  short_ios += other.short_ios;
  begun_at_ns = std::min(begun_at_ns, other.begun_at_ns);
  ended_at_ns = std::max(ended_at_ns, other.ended_at_ns);
  submission.merge(other.submission);
  completion.merge(other.completion);
  submission_and_completion.merge(other.submission_and_completion);
  kib_per_s.merge_concurrent(other.kib_per_s);
  iops.merge_concurrent(other.iops);
}

void JobStats::merge(const JobStats& other) {
  for (unsigned i = 0; i < kDirections; ++i) direction[i].merge(other.direction[i]);
  add(other.latency_classes, &latency_classes);
  add(other.depths, &depths);
  add(other.submissions, &submissions);
  add(other.completions, &completions);
  sync.merge(other.sync);
  thread_runtime_ns += other.thread_runtime_ns;
  user_cpu_ns += other.user_cpu_ns;
  system_cpu_ns += other.system_cpu_ns;
  context_switches += other.context_switches;
  major_faults += other.major_faults;
  minor_faults += other.minor_faults;
}

}  // namespace cached::bench
