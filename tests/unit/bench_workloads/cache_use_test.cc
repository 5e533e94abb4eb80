// Tests of hit ratios from the daemon's counters.
#include <gtest/gtest.h>

#include "bench/workload_daemon.h"

namespace cached::bench {
namespace {

TEST(CacheUseTest, TellsWhatMemoryHadAndWhatTheOriginHadToGive) {
  const CacheCounters before{.memory_bytes = 1000, .missed_bytes = 500, .origin_bytes = 400};
  const CacheCounters after{.memory_bytes = 1600, .missed_bytes = 900, .origin_bytes = 500};
  const std::optional<CacheUse> use = cache_use_between(before, after);
  ASSERT_TRUE(use.has_value());
  EXPECT_EQ(use->asked_bytes, 1000);
  EXPECT_EQ(use->origin_bytes, 100);
  EXPECT_DOUBLE_EQ(use->memory_hit_ratio, 0.6);
  EXPECT_DOUBLE_EQ(use->hit_ratio, 0.9);
}

TEST(CacheUseTest, IsNothingWhenTheKernelHadAll) {
  const CacheCounters same{.memory_bytes = 5, .missed_bytes = 6, .origin_bytes = 7};
  EXPECT_FALSE(cache_use_between(same, same).has_value());
}

TEST(CacheUseTest, ReadAheadBeyondWhatWasAskedIsNoNegativeRatio) {
  const std::optional<CacheUse> use = cache_use_between({}, {.missed_bytes = 10, .origin_bytes = 30});
  ASSERT_TRUE(use.has_value());
  EXPECT_DOUBLE_EQ(use->hit_ratio, 0);
}

TEST(CacheUseTest, ADaemonThatDoesNotAnswerIsNamed) {
  const Result<CacheCounters> counters = read_cache_counters("/nonexistent/control.sock");
  ASSERT_FALSE(counters.ok());
  EXPECT_NE(counters.status().message().find("/nonexistent/control.sock"), std::string::npos);
}

}  // namespace
}  // namespace cached::bench
