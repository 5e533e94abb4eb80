// Tests of the histogram against exact percentiles.
#include "base/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace cached {
namespace {

constexpr double kTolerance = 0.02;

uint64_t exact_percentile(std::vector<uint64_t> values, double percent) {
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(percent / 100.0 * static_cast<double>(values.size()));
  return values[static_cast<size_t>(std::max(1.0, rank)) - 1];
}

void expect_percentiles_like(const Histogram& histogram, const std::vector<uint64_t>& values) {
  for (const double percent : {0.0, 1.0, 10.0, 50.0, 90.0, 99.0, 99.9, 100.0}) {
    const auto exact = static_cast<double>(exact_percentile(values, percent));
    EXPECT_NEAR(static_cast<double>(histogram.percentile(percent)), exact, exact * kTolerance + 0.5)
        << percent;
  }
}

// Values from nanoseconds to minutes, as latencies are.
std::vector<uint64_t> random_values(unsigned seed, size_t count) {
  std::mt19937_64 random(seed);
  std::lognormal_distribution<double> distribution(10.0, 3.0);
  std::vector<uint64_t> values(count);
  for (uint64_t& value : values) value = static_cast<uint64_t>(distribution(random));
  return values;
}

TEST(Histogram, IsZeroWhenEmpty) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0U);
  EXPECT_EQ(histogram.minimum(), 0U);
  EXPECT_EQ(histogram.maximum(), 0U);
  EXPECT_EQ(histogram.mean(), 0.0);
  EXPECT_EQ(histogram.percentile(50), 0U);
}

TEST(Histogram, PercentilesOfRandomDataAreWithinTwoPercent) {
  for (unsigned seed = 1; seed <= 10; ++seed) {
    const std::vector<uint64_t> values = random_values(seed, 20'000);
    Histogram histogram;
    for (const uint64_t value : values) histogram.record(value);
    expect_percentiles_like(histogram, values);
  }
}

TEST(Histogram, SmallValuesAreExact) {
  std::vector<uint64_t> values;
  Histogram histogram;
  for (uint64_t value = 0; value < 128; ++value) {
    values.push_back(value);
    histogram.record(value);
  }
  for (int percent = 0; percent <= 100; ++percent) {
    EXPECT_EQ(histogram.percentile(percent), exact_percentile(values, percent)) << percent;
  }
}

TEST(Histogram, KnowsMinimumMaximumMeanAndCountExactly) {
  Histogram histogram;
  for (const uint64_t value : {1'000'003U, 7U, 10U}) histogram.record(value);
  EXPECT_EQ(histogram.count(), 3U);
  EXPECT_EQ(histogram.minimum(), 7U);
  EXPECT_EQ(histogram.maximum(), 1'000'003U);
  EXPECT_DOUBLE_EQ(histogram.mean(), 1'000'020.0 / 3);
}

TEST(Histogram, TakesTheWholeRangeOfValues) {
  Histogram histogram;
  for (unsigned bit = 0; bit < 64; ++bit) {
    histogram.record(1ULL << bit);
    histogram.record((1ULL << bit) - 1);
  }
  histogram.record(UINT64_MAX);
  EXPECT_EQ(histogram.percentile(100), UINT64_MAX);
  EXPECT_EQ(histogram.percentile(0), 0U);
}

TEST(Histogram, NoPercentileExceedsTheMaximum) {
  Histogram histogram;
  histogram.record(1'000'001);
  EXPECT_EQ(histogram.percentile(50), 1'000'001U);
}

TEST(Histogram, MergeEqualsRecordingAllInOne) {
  const std::vector<uint64_t> first = random_values(1, 5000);
  const std::vector<uint64_t> second = random_values(2, 3000);
  Histogram merged;
  Histogram other;
  std::vector<uint64_t> all = first;
  all.insert(all.end(), second.begin(), second.end());
  for (const uint64_t value : first) merged.record(value);
  for (const uint64_t value : second) other.record(value);
  merged.merge(other);
  EXPECT_EQ(merged.count(), all.size());
  EXPECT_EQ(merged.minimum(), *std::min_element(all.begin(), all.end()));
  EXPECT_EQ(merged.maximum(), *std::max_element(all.begin(), all.end()));
  expect_percentiles_like(merged, all);
}

TEST(Histogram, MergeOfAnEmptyOneChangesNothing) {
  Histogram histogram;
  histogram.record(5);
  histogram.merge(Histogram());
  EXPECT_EQ(histogram.count(), 1U);
  EXPECT_EQ(histogram.minimum(), 5U);
  EXPECT_EQ(histogram.maximum(), 5U);
}

}  // namespace
}  // namespace cached
