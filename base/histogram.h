// Histogram of latencies or sizes in log-linear buckets: 64 buckets for each power of two, so a percentile is
// exact to about 1.6 %. Fixed memory, no allocation after construction. Owned by one thread; merge() joins
// several.
#pragma once

#include <cstdint>
#include <vector>

namespace cached {

class Histogram {
 public:
  Histogram();
  // Counts one value (any unit; the caller's).
  void record(uint64_t value);
  // Adds the counts of `other`.
  void merge(const Histogram& other);
  uint64_t count() const { return count_; }
  uint64_t minimum() const { return count_ == 0 ? 0 : minimum_; }
  uint64_t maximum() const { return maximum_; }
  double mean() const { return count_ == 0 ? 0 : static_cast<double>(sum_) / static_cast<double>(count_); }
  // The smallest recorded bucket's upper end below which `percent` (0-100) of the values lie; 0 when empty.
  uint64_t percentile(double percent) const;
  uint64_t sum() const { return sum_; }
  // How many values are below `limit`, a power of two: those are the limits that buckets keep apart.
  uint64_t count_below(uint64_t limit) const;

 private:
  std::vector<uint64_t> buckets_;
  uint64_t count_ = 0;
  uint64_t sum_ = 0;
  uint64_t minimum_ = UINT64_MAX;
  uint64_t maximum_ = 0;
};

}  // namespace cached
