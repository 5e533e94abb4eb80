// What a workload prints: a job in fio's sense for each pass, and what the cache did for it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/histogram.h"
#include "bench/workload_daemon.h"
#include "bench/workload_options.h"

namespace cached::bench {

struct PassReport {
  std::string name;
  std::string unit;  // what one I/O is, in the plural: "files"
  uint64_t ios = 0;
  uint64_t bytes = 0;
  uint64_t runtime_ns = 0;
  Histogram latency_ns;  // of the I/Os; empty where they are not timed one by one
  std::optional<CacheUse> cache;
};

std::string normal_workload_report(const std::vector<PassReport>& passes);
std::string json_workload_report(const std::string& workload, const std::vector<PassReport>& passes);

// Writes what --output-format asks for to stdout.
void print_workload_report(const CommonOptions& options, const std::string& workload,
                           const std::vector<PassReport>& passes);

}  // namespace cached::bench
