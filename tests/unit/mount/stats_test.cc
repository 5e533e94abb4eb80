// The text of `.stats`.
#include "mount/stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cached::mount {
namespace {

using ::testing::HasSubstr;

TEST(Stats, ShowsEveryCounterWithItsVolume) {
  StatsSnapshot snapshot;
  snapshot.volume = "vol";
  snapshot.attached = true;
  snapshot.inodes = 17;
  snapshot.operations[static_cast<unsigned>(Operation::kRead)] = 42;
  snapshot.counters[static_cast<unsigned>(shm::Counter::kHits)] = 40;
  const std::string text = render_stats(snapshot);
  EXPECT_THAT(text, HasSubstr("cached_mount_attached{volume=\"vol\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("cached_mount_inodes{volume=\"vol\"} 17\n"));
  EXPECT_THAT(text, HasSubstr("cached_mount_requests_total{volume=\"vol\",operation=\"read\"} 42\n"));
  EXPECT_THAT(
      text,
      HasSubstr("# TYPE cached_mount_hits_total counter\ncached_mount_hits_total{volume=\"vol\"} 40\n"));
  EXPECT_THAT(text, HasSubstr("cached_mount_reattachments_total{volume=\"vol\"} 0\n"));
}

TEST(Stats, EscapesLabels) {
  StatsSnapshot snapshot;
  snapshot.volume = "a\"b\\c\nd";
  EXPECT_THAT(render_stats(snapshot), HasSubstr("{volume=\"a\\\"b\\\\c\\nd\"}"));
}

TEST(Stats, OperationCountersCount) {
  OperationCounters counters;
  counters.count(Operation::kLookup);
  counters.count(Operation::kLookup);
  EXPECT_EQ(counters.values[static_cast<unsigned>(Operation::kLookup)], 2U);
}

}  // namespace
}  // namespace cached::mount
