// The table of jobs and that of pins: their limits.
#include "cached/server/jobs.h"

#include <gtest/gtest.h>

#include "cached/server/warm.h"

namespace cached::server {
namespace {

TEST(JobTable, GivesEachUserSoManyJobsAtOnceAndOperatorsMore) {
  JobTable jobs;
  std::vector<std::shared_ptr<Job>> running;
  for (size_t i = 0; i < JobTable::kMaximumRunningPerUser; ++i)
    running.push_back(jobs.add(JobKind::kWarm, 1000, false, "data:/").value());
  EXPECT_EQ(jobs.add(JobKind::kWarm, 1000, false, "data:/").error_number(), EUSERS);
  EXPECT_TRUE(jobs.add(JobKind::kWarm, 1001, false, "data:/").ok());
  EXPECT_TRUE(jobs.add(JobKind::kWarm, 1000, true, "data:/").ok());
  running.front()->end(JobState::kDone);
  running.back()->end(JobState::kDone);
  EXPECT_TRUE(jobs.add(JobKind::kWarm, 1000, false, "data:/").ok());
}

TEST(JobTable, HasALimitForAllTogether) {
  JobTable jobs;
  for (size_t i = 0; i < JobTable::kMaximumRunning; ++i)
    ASSERT_TRUE(jobs.add(JobKind::kEvict, 0, true, "x").ok());
  EXPECT_EQ(jobs.add(JobKind::kEvict, 0, true, "x").error_number(), EUSERS);
}

TEST(JobTable, ForgetsTheOldestThatEnded) {
  JobTable jobs;
  const uint64_t first = jobs.add(JobKind::kPin, 0, true, "first").value()->id;
  jobs.find(first)->end(JobState::kDone);
  for (size_t i = 0; i <= JobTable::kEndedKept; ++i)
    jobs.add(JobKind::kPin, 0, true, "x").value()->end(JobState::kDone);
  EXPECT_EQ(jobs.find(first), nullptr);
  EXPECT_LE(jobs.to_json().size(), JobTable::kEndedKept + 1);
}

TEST(PinTable, HoldsNoMoreThanItsLimit) {
  PinTable pins(100);
  EXPECT_TRUE(pins.reserve(60));
  EXPECT_FALSE(pins.reserve(41));
  EXPECT_TRUE(pins.reserve(40));
  pins.release(60);
  EXPECT_EQ(pins.pinned_bytes(), 40U);
}

TEST(PinTable, GivesAPlaceBackOnce) {
  PinTable pins(100);
  ASSERT_TRUE(pins.reserve(50));
  ASSERT_TRUE(pins.add({"data:/a", 0, 50, 1, {}}).ok());
  EXPECT_EQ(pins.add({"data:/a", 0, 0, 0, {}}).error_number(), EEXIST);
  EXPECT_EQ(pins.take("data:/a")->bytes, 50U);
  EXPECT_EQ(pins.pinned_bytes(), 0U);
  EXPECT_EQ(pins.take("data:/a").error_number(), ENOENT);
}

}  // namespace
}  // namespace cached::server
