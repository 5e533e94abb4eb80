// EtaLine: one line about the jobs that run, on standard error, each second, as fio's --eta.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "bench/run.h"

namespace cached::bench {

// What --eta says of `jobs`: fio's "Jobs: 2 (f=2): [r(2)][60.0%][r=7312MiB/s][r=1872k IOPS][eta 00m:02s]".
struct EtaSample {
  uint64_t elapsed_ns = 0;
  uint64_t bytes[kDirections] = {0, 0};
  uint64_t ios[kDirections] = {0, 0};
};
EtaSample take_eta_sample(const std::vector<RunningJob>& jobs, uint64_t elapsed_ns);
std::string eta_line(const std::vector<RunningJob>& jobs, const EtaSample& before, const EtaSample& now);

class EtaLine {
 public:
  explicit EtaLine(bool wanted) : wanted_(wanted) {}
  ~EtaLine() { watch({}); }
  // Shows `jobs` from now on, until it is called with none.
  void watch(const std::vector<RunningJob>& jobs);

 private:
  void show(const std::vector<RunningJob>& jobs);

  const bool wanted_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ends_ = false;  // guarded by mutex_
};

}  // namespace cached::bench
