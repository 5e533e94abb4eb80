// JobStats: what a job has counted and timed, in fio's divisions; added up over threads, jobs and groups.
#pragma once

#include <array>
#include <cstdint>

#include "base/histogram.h"
#include "bench/options.h"

namespace cached::bench {

// Smallest, largest, mean and deviation of samples.
class Moments {
 public:
  void record(double value);
  // The samples of both as one set.
  void merge(const Moments& other);
  // Samples of things that happen side by side: the means add up.
  void merge_concurrent(const Moments& other);
  uint64_t count() const { return count_; }
  double minimum() const { return count_ == 0 ? 0 : minimum_; }
  double maximum() const { return maximum_; }
  double mean() const { return mean_; }
  double deviation() const;

 private:
  uint64_t count_ = 0;
  double minimum_ = 0;
  double maximum_ = 0;
  double mean_ = 0;
  double squares_ = 0;  // sum of squared distances from the mean (Welford)
};

// A latency, in nanoseconds.
struct Latency {
  Histogram histogram;
  Moments moments;
  void record(uint64_t latency_ns);
  void merge(const Latency& other);
};

// The upper ends of fio's latency classes, in nanoseconds; the last one has none.
inline constexpr unsigned kNsClasses = 10, kUsClasses = 10, kMsClasses = 12;
inline constexpr std::array<const char*, kMsClasses> kClassNames = {
    "2", "4", "10", "20", "50", "100", "250", "500", "750", "1000", "2000", ">=2000"};
inline constexpr unsigned kLatencyClasses = kNsClasses + kUsClasses + kMsClasses;
unsigned latency_class(uint64_t latency_ns);

// 1, 2-3, 4-7, ... 64 and more: I/Os in flight when one more was started.
inline constexpr unsigned kDepthClasses = 7;
unsigned depth_class(unsigned depth);
// 0, 1-4, 5-8, 9-16, ... 33-64, more: I/Os that one call submitted or completed.
inline constexpr unsigned kBatchClasses = 7;
unsigned batch_class(unsigned ios);

// One direction of a job.
struct DirectionStats {
  uint64_t ios = 0;
  uint64_t bytes = 0;
  uint64_t short_ios = 0;
  uint64_t begun_at_ns = UINT64_MAX;  // of the first thread, monotonic
  uint64_t ended_at_ns = 0;           // of the last
  Latency submission;                 // empty where an engine does not tell it apart
  Latency completion;
  Latency submission_and_completion;  // empty where it is the same as completion
  Moments kib_per_s;
  Moments iops;

  uint64_t runtime_ns() const { return ended_at_ns > begun_at_ns ? ended_at_ns - begun_at_ns : 0; }
  const Latency& total() const {
    return submission.moments.count() == 0 ? completion : submission_and_completion;
  }
  void merge(const DirectionStats& other);
};

struct JobStats {
  std::array<DirectionStats, kDirections> direction;
  std::array<uint64_t, kLatencyClasses> latency_classes{};
  std::array<uint64_t, kDepthClasses> depths{};
  std::array<uint64_t, kBatchClasses> submissions{};
  std::array<uint64_t, kBatchClasses> completions{};
  Latency sync;
  uint64_t thread_runtime_ns = 0;  // of all threads together, as are the times of the CPUs
  uint64_t user_cpu_ns = 0;
  uint64_t system_cpu_ns = 0;
  uint64_t context_switches = 0;
  uint64_t major_faults = 0;
  uint64_t minor_faults = 0;

  uint64_t ios() const { return direction[kRead].ios + direction[kWrite].ios; }
  // Adds what another thread or job counted at the same time.
  void merge(const JobStats& other);
};

}  // namespace cached::bench
