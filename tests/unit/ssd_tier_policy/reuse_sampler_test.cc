// Which references the sampler knows again, and how large its sample is.
#include "cached/ssd_tier/reuse_sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

namespace cached::ssd_tier {
namespace {

constexpr uint64_t kForEver = std::numeric_limits<uint64_t>::max();

TEST(ReuseSampler, KnowsAKeyAgainAndHowLongAgoItWas) {
  ReuseSampler sampler(1);
  const ReuseSampler::Sight first = sampler.see(42, 1000, kForEver);
  EXPECT_TRUE(first.sampled);
  EXPECT_FALSE(first.seen_before);
  const ReuseSampler::Sight second = sampler.see(42, 1500, kForEver);
  EXPECT_TRUE(second.seen_before);
  EXPECT_EQ(second.gap_bytes, 500u);
  EXPECT_EQ(sampler.see(42, 1501, kForEver).gap_bytes, 1u);
}

TEST(ReuseSampler, AKeyBeyondTheHorizonIsNew) {
  ReuseSampler sampler(1);
  sampler.see(42, 1000, 100);
  EXPECT_FALSE(sampler.see(42, 1101, 100).seen_before);
  EXPECT_TRUE(sampler.see(42, 1201, 100).seen_before);
}

// Reads `keys` keys in turn, `rounds` times; returns how many references of the last round were known again.
uint64_t known_in_last_round(ReuseSampler* sampler, uint64_t keys, unsigned rounds, uint64_t* sampled) {
  uint64_t known = 0;
  for (unsigned round = 0; round < rounds; ++round) {
    known = *sampled = 0;
    for (uint64_t key = 0; key < keys; ++key) {
      const ReuseSampler::Sight sight = sampler->see(key, round * keys + key, kForEver);
      *sampled += sight.sampled;
      known += sight.seen_before;
      if (sight.seen_before) {
        EXPECT_EQ(sight.gap_bytes, keys);
      }
    }
  }
  return known;
}

TEST(ReuseSampler, FollowsAsLargeAShareAsTheTableHolds) {
  for (const uint64_t keys : {1000u, 20'000u, 1'000'000u}) {
    ReuseSampler sampler(1);
    uint64_t sampled = 0;
    const uint64_t known = known_in_last_round(&sampler, keys, 3, &sampled);
    EXPECT_GE(known, sampled * 9 / 10) << keys << " keys";
    EXPECT_GE(sampled, std::min<uint64_t>(keys, ReuseSampler::kEntries / 5)) << keys << " keys";
    EXPECT_NEAR(static_cast<double>(sampled), static_cast<double>(keys) * sampler.share(),
                static_cast<double>(keys) * sampler.share() / 10);
  }
}

TEST(ReuseSampler, TheShareGrowsAgainAfterAScan) {
  ReuseSampler sampler(1);
  constexpr uint64_t kScanned = 5'000'000;
  constexpr uint64_t kHorizon = 100'000;
  for (uint64_t key = 0; key < kScanned; ++key) sampler.see(key, key, kForEver);
  ASSERT_LT(sampler.share(), 0.01);
  uint64_t position = kScanned;
  for (uint64_t read = 0; read < 100 * kHorizon; ++read) {
    sampler.see(kScanned + read % 1000, ++position, kHorizon);
    if (read % kHorizon == 0) sampler.adapt(position, kHorizon);
  }
  EXPECT_EQ(sampler.share(), 1.0);
}

}  // namespace
}  // namespace cached::ssd_tier
