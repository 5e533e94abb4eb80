// What is remembered of changed directories and of names that no inode leads to.
#include "mount/name_changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cached::mount {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr shm::Handle kDirectory{1, 1};
constexpr shm::Handle kOther{1, 2};
constexpr uint64_t kSecond = kNanosecondsPerSecond;

class NameChangesTest : public ::testing::Test {
 protected:
  ManualClock clock_;
  NameChanges changes_{clock_};
};

TEST_F(NameChangesTest, WhatWasValidatedBeforeAChangeIsNotBelieved) {
  EXPECT_TRUE(changes_.is_current(kDirectory, 50));
  changes_.changed(kDirectory, 100);
  EXPECT_FALSE(changes_.is_current(kDirectory, 50));
  EXPECT_FALSE(changes_.is_current(kDirectory, 100));
  EXPECT_TRUE(changes_.is_current(kDirectory, 101));
  EXPECT_TRUE(changes_.is_current(kOther, 50));
}

TEST_F(NameChangesTest, AnOlderChangeThatIsToldLaterTakesNothingBack) {
  changes_.changed(kDirectory, 100);
  changes_.changed(kDirectory, 60);
  EXPECT_FALSE(changes_.is_current(kDirectory, 90));
}

TEST_F(NameChangesTest, AChangeOfEverythingConcernsEveryDirectory) {
  changes_.all_changed(100);
  EXPECT_FALSE(changes_.is_current(kOther, 100));
  EXPECT_TRUE(changes_.is_current(kOther, 101));
}

TEST_F(NameChangesTest, MoreDirectoriesThanAreRememberedCountAsAllChanged) {
  for (uint64_t i = 0; i <= NameChanges::kMaximumDirectories; ++i) changes_.changed({2, i}, 100 + i);
  EXPECT_FALSE(changes_.is_current({2, 0}, 100)) << "forgotten one by one, but not what it said";
  EXPECT_FALSE(changes_.is_current(kDirectory, 100));
  EXPECT_TRUE(changes_.is_current(kDirectory, 100 + NameChanges::kMaximumDirectories + 1));
}

TEST_F(NameChangesTest, NamesAreGivenOutOnceByTheirDirectory) {
  EXPECT_TRUE(changes_.remember(kDirectory, "a", kSecond));
  EXPECT_TRUE(changes_.remember(kDirectory, "b", kSecond));
  EXPECT_TRUE(changes_.remember(kDirectory, "b", kSecond));
  EXPECT_TRUE(changes_.remember(kOther, "c", kSecond));
  EXPECT_THAT(changes_.directories_of_remembered(), UnorderedElementsAre(kDirectory, kOther));
  EXPECT_THAT(changes_.take(kDirectory), UnorderedElementsAre("a", "b"));
  EXPECT_THAT(changes_.take(kDirectory), IsEmpty());
  EXPECT_THAT(changes_.directories_of_remembered(), UnorderedElementsAre(kOther));
}

TEST_F(NameChangesTest, BeyondTheLimitNoneIsTakenUntilOthersExpire) {
  for (uint64_t i = 0; i < NameChanges::kMaximumNames; ++i) {
    ASSERT_TRUE(changes_.remember({3, i % 10}, std::to_string(i), kSecond));
  }
  EXPECT_FALSE(changes_.remember(kDirectory, "one more", kSecond));
  clock_.advance_ns(2 * kSecond);
  EXPECT_TRUE(changes_.remember(kDirectory, "one more", kSecond));
  EXPECT_THAT(changes_.directories_of_remembered(), UnorderedElementsAre(kDirectory));
}

}  // namespace
}  // namespace cached::mount
