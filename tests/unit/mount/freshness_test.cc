// Timeout arithmetic and the cookies of listings.
#include "mount/freshness.h"

#include <gtest/gtest.h>

#include <set>

#include "mount/cookies.h"

namespace cached::mount {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

TEST(Freshness, RestIsWhatIsLeftOfTheTimeout) {
  EXPECT_EQ(rest_ns(10 * kSecond, 10 * kSecond, kSecond, false), kSecond);
  EXPECT_EQ(rest_ns(10 * kSecond, 10 * kSecond + 1, kSecond, false), kSecond - 1);
  EXPECT_EQ(rest_ns(10 * kSecond, 11 * kSecond, kSecond, false), 0U);
  EXPECT_EQ(rest_ns(10 * kSecond, 99 * kSecond, kSecond, false), 0U);
}

TEST(Freshness, RecordsFromTheFutureAreNew) {
  EXPECT_EQ(rest_ns(10 * kSecond, 9 * kSecond, kSecond, false), kSecond);
  EXPECT_TRUE(is_fresh(10 * kSecond, 9 * kSecond, 0, false));
}

TEST(Freshness, ImmutableNeverAges) {
  EXPECT_EQ(rest_ns(1, 99 * kSecond, kSecond, true), kSecond);
  EXPECT_TRUE(is_fresh(1, 99 * kSecond, 0, true));
  EXPECT_DOUBLE_EQ(kernel_attribute_seconds(1, 99 * kSecond, 2 * kSecond, true), 2.0);
}

TEST(Freshness, EndsExactlyAtTheTimeout) {
  EXPECT_TRUE(is_fresh(kSecond, 2 * kSecond - 1, kSecond, false));
  EXPECT_FALSE(is_fresh(kSecond, 2 * kSecond, kSecond, false));
  EXPECT_FALSE(is_fresh(kSecond, kSecond + 1, 0, false));
}

TEST(Freshness, KernelIsToldLessThanTheRest) {
  EXPECT_DOUBLE_EQ(kernel_attribute_seconds(kSecond, kSecond, kSecond, false), 0.975);
  EXPECT_DOUBLE_EQ(kernel_attribute_seconds(kSecond, kSecond, kSecond / 10, false), 0.0875);
  EXPECT_DOUBLE_EQ(kernel_attribute_seconds(kSecond, 2 * kSecond - 1, kSecond, false), 0.0);
  EXPECT_DOUBLE_EQ(kernel_attribute_seconds(kSecond, kSecond, 0, false), 0.0);
}

TEST(Cookies, DotsComeFirstAndOnce) {
  ListingPosition position = listing_position(0);
  EXPECT_TRUE(position.dot && position.dot_dot);
  position = listing_position(kAfterDot);
  EXPECT_TRUE(!position.dot && position.dot_dot);
  EXPECT_EQ(position.source_cookie, 0U);
  position = listing_position(kAfterDotDot);
  EXPECT_TRUE(!position.dot && !position.dot_dot);
  EXPECT_EQ(position.source_cookie, 0U);
}

TEST(Freshness, WhatWasNeverValidatedIsNotFreshSoonAfterTheMachineStarted) {
  EXPECT_FALSE(is_fresh(shm::kNeverValidatedNs, 1000, 1'000'000, false));
  EXPECT_EQ(rest_ns(shm::kNeverValidatedNs, 1000, 1'000'000, false), 0U);
  EXPECT_TRUE(is_fresh(500, 1000, 1'000'000, false));
}

TEST(Cookies, SourceCookiesPassUnchanged) {
  for (const uint64_t cookie : {uint64_t{1}, uint64_t{2}, uint64_t{0x7FFFFFFF}, uint64_t{0x7FFFFFFFFFFFFFFF},
                                ~uint64_t{0}, ~uint64_t{1}}) {
    const ListingPosition position = listing_position(cookie);
    EXPECT_TRUE(!position.dot && !position.dot_dot);
    EXPECT_EQ(position.source_cookie, cookie);
  }
}

TEST(Cookies, OursArePositiveAsOffsets) {
  EXPECT_GT(static_cast<int64_t>(kAfterDot), 0);
  EXPECT_GT(static_cast<int64_t>(kAfterDotDot), 0);
}

}  // namespace
}  // namespace cached::mount
