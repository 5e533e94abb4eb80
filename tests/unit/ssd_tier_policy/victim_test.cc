// Which segment is given up.
#include "cached/ssd_tier/victim.h"

#include <gtest/gtest.h>

#include <set>

namespace cached::ssd_tier {
namespace {

constexpr uint32_t kSegments = 16;  // so few that all are compared
constexpr uint32_t kBlockBytes = 128 * 1024;
constexpr uint32_t kHalving = VictimChooser::kTicksPerHalving;

VictimChooser full_log() {
  VictimChooser victims(kSegments, 1);
  for (uint32_t segment = 0; segment < kSegments; ++segment) {
    victims.on_reference(segment, kBlockBytes, 0);
    victims.add(segment);
  }
  return victims;
}

// The segments in the order in which they are given up at `tick`.
std::vector<uint32_t> order_of_going(VictimChooser victims, uint32_t tick) {
  std::vector<uint32_t> order;
  while (const std::optional<uint32_t> victim = victims.choose(tick)) {
    order.push_back(*victim);
    victims.remove(*victim);
  }
  return order;
}

TEST(VictimChooser, ChoosesNothingWhenNothingIsFull) {
  VictimChooser victims(kSegments, 1);
  EXPECT_EQ(victims.choose(0), std::nullopt);
  victims.add(3);
  EXPECT_EQ(victims.choose(0), 3u);
  victims.remove(3);
  victims.remove(3);
  EXPECT_EQ(victims.choose(0), std::nullopt);
}

TEST(VictimChooser, GivesUpEachSegmentOnce) {
  VictimChooser victims = full_log();
  victims.add(3);  // again
  const std::vector<uint32_t> order = order_of_going(victims, 0);
  EXPECT_EQ(order.size(), kSegments);
  EXPECT_EQ(std::set<uint32_t>(order.begin(), order.end()).size(), kSegments);
}

TEST(VictimChooser, KeepsTheSegmentThatIsHit) {
  VictimChooser victims = full_log();
  victims.on_reference(5, kBlockBytes, 1);
  EXPECT_EQ(order_of_going(victims, 1).back(), 5u);
}

TEST(VictimChooser, ForgetsOldHits) {
  VictimChooser victims = full_log();
  for (unsigned hit = 0; hit < 10; ++hit) victims.on_reference(5, kBlockBytes, 0);
  for (uint32_t segment = 0; segment < kSegments; ++segment) {
    if (segment != 5) victims.on_reference(segment, kBlockBytes, 8 * kHalving);
  }
  EXPECT_EQ(victims.choose(8 * kHalving), 5u);
}

TEST(VictimChooser, WhatWasJustWrittenIsNotTheColdest) {
  VictimChooser victims = full_log();
  victims.remove(7);
  victims.on_reference(7, kBlockBytes, kHalving);
  victims.add(7);
  EXPECT_EQ(order_of_going(victims, 2 * kHalving).back(), 7u);
}

TEST(VictimChooser, AnEmptiedSegmentStartsCold) {
  VictimChooser victims = full_log();
  for (unsigned hit = 0; hit < 10; ++hit) victims.on_reference(7, kBlockBytes, 0);
  victims.remove(7);
  victims.add(7);
  EXPECT_EQ(victims.choose(0), 7u);
}

TEST(VictimChooser, EqualSegmentsGoByChance) {
  constexpr uint32_t kMany = 10'000;
  std::set<uint32_t> chosen;
  VictimChooser victims(kMany, 1);
  for (uint32_t segment = 0; segment < kMany; ++segment) {
    victims.on_reference(segment, kBlockBytes + segment * 7919 % 100, 0);
    victims.add(segment);
  }
  for (unsigned turn = 0; turn < 100; ++turn) chosen.insert(victims.choose(0).value());
  EXPECT_GE(chosen.size(), 70u);
}

}  // namespace
}  // namespace cached::ssd_tier
