// Tests of the clocks.
#include "base/clock.h"

#include <gtest/gtest.h>
#include <time.h>

namespace cached {
namespace {

TEST(SystemClock, MonotonicTimeNeverGoesBack) {
  uint64_t last_ns = system_clock().monotonic_ns();
  for (int i = 0; i < 1000; ++i) {
    const uint64_t now_ns = system_clock().monotonic_ns();
    ASSERT_GE(now_ns, last_ns);
    last_ns = now_ns;
  }
}

TEST(SystemClock, RealtimeIsTheWallClock) {
  EXPECT_NEAR(static_cast<double>(system_clock().realtime_ns()) / 1e9, static_cast<double>(::time(nullptr)),
              5.0);
}

TEST(ManualClock, MovesOnlyWhenTold) {
  ManualClock clock(100, 1000);
  EXPECT_EQ(clock.monotonic_ns(), 100U);
  EXPECT_EQ(clock.realtime_ns(), 1000);
  clock.advance_ns(50);
  EXPECT_EQ(clock.monotonic_ns(), 150U);
  EXPECT_EQ(clock.realtime_ns(), 1050);
}

}  // namespace
}  // namespace cached
