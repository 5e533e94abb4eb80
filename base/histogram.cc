// Log-linear histogram: see histogram.h.
#include "base/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace cached {
namespace {

constexpr unsigned kSubBits = 6;  // 64 buckets a power of two
constexpr uint64_t kSubCount = 1ULL << kSubBits;

// Values below 64 have a bucket each; above, the exponent selects a row of 64 buckets and the next 6 bits the
// bucket.
size_t bucket_of(uint64_t value) {
  if (value < kSubCount) return value;
  const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - 1 - kSubBits;
  return (static_cast<size_t>(shift) + 1) * kSubCount + ((value >> shift) - kSubCount);
}

uint64_t upper_end_of(size_t bucket) {
  if (bucket < kSubCount) return bucket;
  const unsigned shift = static_cast<unsigned>(bucket / kSubCount) - 1;
  return ((kSubCount + bucket % kSubCount + 1) << shift) - 1;
}

}  // namespace

Histogram::Histogram() : buckets_((64 - kSubBits + 1) * kSubCount) {}

void Histogram::record(uint64_t value) {
  ++buckets_[bucket_of(value)];
  ++count_;
  sum_ += value;
  minimum_ = std::min(minimum_, value);
  maximum_ = std::max(maximum_, value);
}

void Histogram::merge(const Histogram& other) {
  for (size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  sum_ += other.sum_;
  minimum_ = std::min(minimum_, other.minimum_);
  maximum_ = std::max(maximum_, other.maximum_);
}

uint64_t Histogram::percentile(double percent) const {
  if (count_ == 0) return 0;
  const auto wanted =
      std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(percent / 100.0 * static_cast<double>(count_))));
  uint64_t seen = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen >= wanted) return std::min(upper_end_of(i), maximum_);
  }
  return maximum_;
}

uint64_t Histogram::count_below(uint64_t limit) const {
  const auto end = buckets_.begin() + static_cast<ptrdiff_t>(bucket_of(limit));
  return std::accumulate(buckets_.begin(), end, uint64_t{0});
}

}  // namespace cached
