// Report: what a run counted, one for each thread, merged at the end and printed as JSON.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "base/histogram.h"

namespace cached::verify {

struct Report {
  uint64_t reads = 0;
  uint64_t bytes = 0;
  uint64_t files = 0;  // opened, read and closed
  uint64_t errors = 0;
  uint64_t lagging_sizes = 0;
  uint64_t torn_reads = 0;
  uint64_t short_reads = 0;
  uint64_t stale_reads = 0;  // returned a state that had ended before the call, within the bound
  uint64_t maximum_staleness_ns = 0;
  std::map<std::string, uint64_t> tolerated;    // errno name -> times
  std::map<std::string, Histogram> latency_ns;  // mode -> latency of its calls
  std::map<std::string, uint64_t> changes;      // kind -> times

  void merge(const Report& other);
  nlohmann::json to_json(double seconds) const;
};

}  // namespace cached::verify
