// Which second misses are known.
#include "cached/ssd_tier/recent_misses.h"

#include <gtest/gtest.h>

#include <random>

namespace cached::ssd_tier {
namespace {

constexpr size_t kEntries = 10'000;
constexpr uint32_t kTicks = 4;

TEST(RecentMisses, KnowsTheSecondMissForAWhile) {
  RecentMisses misses(kEntries);
  EXPECT_FALSE(misses.note(1234567, 10, kTicks));
  EXPECT_TRUE(misses.note(1234567, 13, kTicks));
  EXPECT_FALSE(misses.note(1234567, 17, kTicks));
}

TEST(RecentMisses, ThePiecesOfOneReadAreOneMiss) {
  RecentMisses misses(kEntries);
  for (unsigned piece = 0; piece < 8; ++piece) EXPECT_FALSE(misses.note(1234567, 10, kTicks));
}

TEST(RecentMisses, KnowsMostOfAsManyKeysAsItHasEntries) {
  RecentMisses misses(kEntries);
  std::mt19937_64 first(1);
  for (size_t key = 0; key < kEntries; ++key) misses.note(first(), 1, kTicks);
  std::mt19937_64 again(1);
  size_t known = 0;
  for (size_t key = 0; key < kEntries; ++key) known += misses.note(again(), 2, kTicks) ? 1 : 0;
  EXPECT_GE(known, kEntries / 3);
}

TEST(RecentMisses, SeldomTakesAKeyForAnother) {
  RecentMisses misses(kEntries);
  std::mt19937_64 random(1);
  size_t mistaken = 0;
  for (size_t key = 0; key < 100 * kEntries; ++key) {
    const auto tick = static_cast<uint32_t>(key * kTicks / kEntries);
    mistaken += misses.note(random(), tick, kTicks) ? 1 : 0;
  }
  EXPECT_LE(mistaken, 100u);
}

TEST(RecentMisses, ForgetsAllWhenResized) {
  RecentMisses misses(kEntries);
  misses.note(1234567, 10, kTicks);
  misses.resize(kEntries);
  EXPECT_FALSE(misses.note(1234567, 11, kTicks));
}

}  // namespace
}  // namespace cached::ssd_tier
