// JobStats: moments, fio's classes, sums.
#include "bench/job_stats.h"

#include <gtest/gtest.h>

namespace cached::bench {
namespace {

TEST(MomentsTest, MeanAndDeviationOfASample) {
  Moments moments;
  for (double value : {2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0}) moments.record(value);
  EXPECT_EQ(moments.count(), 8U);
  EXPECT_DOUBLE_EQ(moments.minimum(), 2);
  EXPECT_DOUBLE_EQ(moments.maximum(), 9);
  EXPECT_DOUBLE_EQ(moments.mean(), 5);
  EXPECT_NEAR(moments.deviation(), 2.138, 0.001);
}

TEST(MomentsTest, MergingIsLikeRecordingAll) {
  Moments all, first, second, merged;
  for (int i = 0; i < 100; ++i) {
    all.record(i * i);
    (i % 3 == 0 ? first : second).record(i * i);
  }
  merged.merge(first);
  merged.merge(second);
  merged.merge(Moments());
  EXPECT_EQ(merged.count(), all.count());
  EXPECT_NEAR(merged.mean(), all.mean(), 1e-9);
  EXPECT_NEAR(merged.deviation(), all.deviation(), 1e-9);
}

TEST(MomentsTest, ConcurrentMeansAddUp) {
  Moments first, second;
  first.record(100);
  second.record(300);
  first.merge_concurrent(second);
  EXPECT_DOUBLE_EQ(first.mean(), 400);
  EXPECT_EQ(first.count(), 2U);
}

TEST(LatencyClassTest, EndsAreFios) {
  EXPECT_EQ(latency_class(1), 0U);
  EXPECT_EQ(latency_class(2), 1U);
  EXPECT_EQ(latency_class(999), kNsClasses - 1);
  EXPECT_EQ(latency_class(1000), kNsClasses);
  EXPECT_EQ(latency_class(250'000), kNsClasses + 7);
  EXPECT_EQ(latency_class(999'999), kNsClasses + kUsClasses - 1);
  EXPECT_EQ(latency_class(1'000'000), kNsClasses + kUsClasses);
  EXPECT_EQ(latency_class(1'500'000'000), kLatencyClasses - 2);
  EXPECT_EQ(latency_class(2'000'000'000), kLatencyClasses - 1);
  EXPECT_EQ(latency_class(UINT64_MAX), kLatencyClasses - 1);
}

TEST(DepthClassTest, ArePowersOfTwo) {
  EXPECT_EQ(depth_class(1), 0U);
  EXPECT_EQ(depth_class(3), 1U);
  EXPECT_EQ(depth_class(4), 2U);
  EXPECT_EQ(depth_class(64), 6U);
  EXPECT_EQ(depth_class(1024), 6U);
}

TEST(BatchClassTest, EndAtPowersOfTwo) {
  EXPECT_EQ(batch_class(0), 0U);
  EXPECT_EQ(batch_class(1), 1U);
  EXPECT_EQ(batch_class(4), 1U);
  EXPECT_EQ(batch_class(5), 2U);
  EXPECT_EQ(batch_class(8), 2U);
  EXPECT_EQ(batch_class(64), 5U);
  EXPECT_EQ(batch_class(65), 6U);
}

TEST(JobStatsTest, RuntimeIsFromTheFirstToTheLast) {
  JobStats sum, other;
  sum.direction[kRead].begun_at_ns = 100;
  sum.direction[kRead].ended_at_ns = 200;
  other.direction[kRead].begun_at_ns = 150;
  other.direction[kRead].ended_at_ns = 400;
  other.direction[kRead].ios = 3;
  sum.merge(other);
  EXPECT_EQ(sum.direction[kRead].runtime_ns(), 300U);
  EXPECT_EQ(sum.direction[kWrite].runtime_ns(), 0U);
  EXPECT_EQ(sum.ios(), 3U);
}

}  // namespace
}  // namespace cached::bench
