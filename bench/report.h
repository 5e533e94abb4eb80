// What cached-bench prints: fio's normal output in short, and the keys of fio's JSON that its parsers read.
#pragma once

#include <string>
#include <vector>

#include "bench/job.h"
#include "bench/options.h"

namespace cached::bench {

struct JobReport {
  std::string name;
  std::string engine;
  RunResult result;
};

std::string normal_report(const BenchOptions& options, const std::vector<JobReport>& jobs);
std::string json_report(const BenchOptions& options, const std::vector<JobReport>& jobs);

}  // namespace cached::bench
