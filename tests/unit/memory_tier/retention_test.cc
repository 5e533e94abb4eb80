// What the transient list changes: who goes first, who is spared, and when memory is full.
#include <numeric>
#include <random>

#include "tests/unit/memory_tier/tier_fixture.h"

namespace cached::memory_tier {
namespace {

constexpr uint64_t kNew = 1'000'000;  // blocks that push others out are numbered from here
constexpr uint32_t kChunk = 16384;

void fill_range(TierFixture& tier, uint64_t first, uint64_t count, Retention retention = Retention::kMain) {
  for (uint64_t number = first; number < first + count; ++number) {
    ASSERT_TRUE(tier.fill(number, kBlock, retention));
  }
}

SlotId slot_of(const TierFixture& tier, uint64_t number) {
  return tier.find(number)->slot;
}

uint64_t count_present(const TierFixture& tier, uint64_t first, uint64_t count) {
  uint64_t present = 0;
  for (uint64_t number = first; number < first + count; ++number) present += tier.has(number) ? 1 : 0;
  return present;
}

// Of one region of sixteen blocks; one new block evicts two.
TEST(Retention, TransientPiecesGoBeforeOlderMainOnesInTheOrderOfTheirFill) {
  TierFixture tier({.regions = 1});
  fill_range(tier, 0, 10);
  fill_range(tier, 10, 6, Retention::kTransient);
  tier.fill(kNew);
  EXPECT_EQ(count_present(tier, 0, 10), 10U);
  EXPECT_FALSE(tier.has(10));
  EXPECT_FALSE(tier.has(11));
  EXPECT_TRUE(tier.has(12));
  EXPECT_EQ(tier->check(), "");
}

TEST(Retention, ATenthOfTransientPiecesIsSpared) {
  TierFixture tier({.regions = 2});
  fill_range(tier, 0, 2, Retention::kTransient);
  fill_range(tier, 2, 30);
  fill_range(tier, kNew, 10);
  EXPECT_EQ(count_present(tier, 0, 2), 2U);
  EXPECT_EQ(tier->check(), "");
}

TEST(Retention, TransientPiecesGoAtAnyShareWhenAllOfMainIsPinned) {
  TierFixture tier({.regions = 1});
  tier.fill(0, kBlock, Retention::kTransient);
  for (uint64_t number = 1; number < kBlocksPerRegion; ++number) tier.fill_pinned(number);
  EXPECT_TRUE(tier.fill(kNew));
  EXPECT_FALSE(tier.has(0));
}

TEST(Retention, TransientPieceUsedAgainLaterMovesToMain) {
  TierFixture tier({.regions = 1});
  fill_range(tier, 0, 10);
  fill_range(tier, 10, 6, Retention::kTransient);
  tier.advance_ms(2000);
  tier.touch(10);
  for (uint64_t number = kNew; number < kNew + 100; ++number) {
    tier.fill(number, kBlock, Retention::kTransient);
    ASSERT_TRUE(tier.has(10)) << number;
  }
  EXPECT_EQ(tier->check(), "");
}

TEST(Retention, TransientPieceUsedAgainAtOnceStaysTransient) {
  TierFixture tier({.regions = 1});
  fill_range(tier, 0, 10);
  fill_range(tier, 10, 6, Retention::kTransient);
  tier.touch(10);
  tier.advance_ms(2000);
  tier.fill(kNew);
  EXPECT_FALSE(tier.has(10));
}

TEST(Retention, TransientPiecesThatAllWereUsedStillYieldAVictim) {
  TierFixture tier({.regions = 1});
  fill_range(tier, 0, kBlocksPerRegion, Retention::kTransient);
  tier.advance_ms(2000);
  for (uint64_t number = 0; number < kBlocksPerRegion; ++number) tier.touch(number);
  EXPECT_TRUE(tier.fill(kNew));
  EXPECT_EQ(tier->check(), "");
}

TEST(Retention, PinnedTransientPieceIsPassedOver) {
  TierFixture tier({.regions = 1});
  fill_range(tier, 0, 10);
  fill_range(tier, 10, 6, Retention::kTransient);
  tier->pin(slot_of(tier, 10));
  tier.fill(kNew);
  EXPECT_TRUE(tier.has(10));
  EXPECT_FALSE(tier.has(11));
  EXPECT_FALSE(tier.has(12));
  EXPECT_EQ(tier->check(), "");
}

TEST(Retention, StreamOfTransientPiecesLeavesNineTenthsOfMain) {
  constexpr uint64_t kSlots = 32 * kBlocksPerRegion;
  TierFixture tier({.regions = 32});
  fill_range(tier, 0, kSlots);
  for (uint64_t number = kNew; number < kNew + 10 * kSlots; ++number) {
    tier.advance_ms(1);
    ASSERT_TRUE(tier.fill(number, kBlock, Retention::kTransient));
  }
  EXPECT_GE(count_present(tier, 0, kSlots), kSlots * 85 / 100);
  EXPECT_EQ(tier->check(), "");
}

TEST(Demotion, DemotedPieceGoesBeforeOlderOnes) {
  TierFixture tier({.regions = 1});
  fill_range(tier, 0, kBlocksPerRegion);
  tier->demote(slot_of(tier, 7), key_of(7));
  tier->demote(slot_of(tier, 9), key_of(9));
  tier.fill(kNew);
  EXPECT_EQ(count_present(tier, 0, kBlocksPerRegion), kBlocksPerRegion - 2U);
  EXPECT_FALSE(tier.has(7));
  EXPECT_TRUE(tier.has(9)) << "one of sixteen is within the share";
  EXPECT_EQ(tier->check(), "");
}

TEST(Demotion, LastDemotedIsTheLastToGo) {
  TierFixture tier({.regions = 1});
  fill_range(tier, 0, 10);
  fill_range(tier, 10, 6, Retention::kTransient);
  tier->demote(slot_of(tier, 0), key_of(0));
  tier.fill(kNew);
  EXPECT_TRUE(tier.has(0));
}

TEST(Demotion, PieceThatWasUsedAgainStaysInMain) {
  TierFixture tier({.regions = 1});
  fill_range(tier, 0, kBlocksPerRegion);
  tier.advance_ms(2000);
  tier.touch(7);
  tier->demote(slot_of(tier, 7), key_of(7));
  tier->demote(slot_of(tier, 8), key_of(8));
  tier->demote(slot_of(tier, 9), key_of(9));
  tier.fill(kNew);
  EXPECT_TRUE(tier.has(7));
  EXPECT_FALSE(tier.has(8));
}

TEST(Demotion, DemotingATransientPieceKeepsItsPlace) {
  TierFixture tier({.regions = 1});
  fill_range(tier, 0, 10);
  fill_range(tier, 10, 6, Retention::kTransient);
  tier->demote(slot_of(tier, 10), key_of(10));
  tier.fill(kNew);
  EXPECT_FALSE(tier.has(10));
  EXPECT_EQ(tier->check(), "");
}

TEST(Demotion, SlotThatHoldsAnotherBlockByNowIsLeftAlone) {
  TierFixture tier({.regions = 1});
  fill_range(tier, 0, kBlocksPerRegion);
  tier->demote(slot_of(tier, 7), key_of(kNew));
  tier->demote(slot_of(tier, 8), key_of(kNew));
  tier.fill(kNew);
  EXPECT_TRUE(tier.has(7));
  EXPECT_TRUE(tier.has(8));
}

TEST(Demotion, AnySlotIdAndAnyStateIsSafe) {
  TierFixture tier({.regions = 2, .first_region = 1});
  const SlotId filling = *tier->allocate(kBlock);
  tier->demote(filling, key_of(0));
  const SlotId replaced = *tier.fill_pinned(1);
  tier.fill(1);
  tier->demote(replaced, key_of(1));
  for (const uint32_t page : {0U, 1U, 511U, 513U, 3U * 512, UINT32_MAX}) tier->demote({page}, key_of(1));
  EXPECT_EQ(tier->check(), "");
}

TEST(Demotion, PinnedPieceIsDemotedAndStays) {
  TierFixture tier({.regions = 1});
  const SlotId pinned = *tier.fill_pinned(0);
  tier->demote(pinned, key_of(0));
  EXPECT_EQ(tier->check(), "");
  fill_range(tier, kNew, 100);
  EXPECT_TRUE(tier.has(0));
  tier->unpin(pinned);
  EXPECT_EQ(tier->check(), "");
}

TEST(Full, UnusedRegionsAreRoom) {
  TierFixture tier({.regions = 2});
  fill_range(tier, 0, kBlocksPerRegion);
  EXPECT_FALSE(tier->full(kBlock));
  EXPECT_FALSE(tier->full(1));
}

TEST(Full, NothingUnusedAndNothingFreeIsFull) {
  TierFixture tier({.regions = 2});
  fill_range(tier, 0, 2 * kBlocksPerRegion);
  EXPECT_TRUE(tier->full(kBlock));
  EXPECT_TRUE(tier->full(1));
}

TEST(Full, StaysFullWhileEvictionsInBatchesLeaveFreeSlots) {
  TierFixture tier({.regions = 32});
  fill_range(tier, 0, 32 * kBlocksPerRegion);
  for (uint64_t number = kNew; number < kNew + 1000; ++number) {
    tier.fill(number);
    ASSERT_TRUE(tier->full(kBlock)) << number;
  }
}

TEST(Full, StaysFullWhileTransientPiecesPassThroughTheirShare) {
  TierFixture tier({.regions = 32});
  fill_range(tier, 0, 32 * kBlocksPerRegion);
  fill_range(tier, kNew, 1000, Retention::kTransient);
  for (uint64_t number = 2 * kNew; number < 2 * kNew + 1000; ++number) {
    tier.fill(number, kBlock, Retention::kTransient);
    ASSERT_TRUE(tier->full(kBlock)) << number;
  }
}

TEST(Full, TransientPiecesBeyondTheirShareAreRoom) {
  TierFixture tier({.regions = 8});
  fill_range(tier, 0, 8 * kBlocksPerRegion, Retention::kTransient);
  EXPECT_FALSE(tier->full(kBlock));
  fill_range(tier, kNew, 8 * kBlocksPerRegion);
  EXPECT_TRUE(tier->full(kBlock));
}

// Two classes, the same bytes a second into each: one brings whole blocks from the origin, the other chunks
// that an SSD has. Only weighted ages keep the chunks from half of the memory.
TEST(RetentionBetweenClasses, TransientChunksDoNotPushOutBlocksOfMain) {
  constexpr uint64_t kRegions = 32;
  TierFixture tier({.regions = kRegions});
  uint64_t number = 0;
  for (unsigned block = 0; block < 4 * kRegions * kBlocksPerRegion; ++block) {
    tier.advance_ms(8);
    ASSERT_TRUE(tier.fill(number++));
    for (unsigned chunk = 0; chunk < kBlock / kChunk; ++chunk) {
      ASSERT_TRUE(tier.fill(number++, kChunk, Retention::kTransient));
    }
  }
  uint64_t blocks = 0;
  for (uint64_t n = 0; n < number; n += 1 + kBlock / kChunk) blocks += tier.has(n) ? 1 : 0;
  EXPECT_GE(blocks, kRegions * kBlocksPerRegion * 8 / 10);
  EXPECT_EQ(tier->check(), "");
}

// Epochs of random permutations; memory is a tenth and an SSD four tenths of the data set. What is read from
// the SSD and what is on it is transient, the rest is kept while there is room: then the two tiers hold
// different blocks, and memory hits what its nine tenths that are not transient can.
TEST(Retention, ForgettingTouchesExposesWhatWasHot) {
  TierFixture tier({.regions = 1});
  for (uint64_t number = 0; number < kBlocksPerRegion; ++number) ASSERT_TRUE(tier.fill(number));
  tier.advance_ms(2000);
  for (uint64_t number = 0; number < kBlocksPerRegion; ++number) tier.touch(number);
  tier->forget_touches();
  EXPECT_EQ(tier->check(), "");
  // The oldest goes first, as if none had been touched; one that is touched again is spared.
  tier.touch(0);
  ASSERT_TRUE(tier.fill(1'000));
  EXPECT_TRUE(tier.has(0));
  EXPECT_FALSE(tier.has(1));
}

TEST(Retention, PermutedEpochsBesideAnSsdHitWhatTheSsdDoesNotHold) {
  constexpr uint64_t kRegions = 64;
  constexpr uint64_t kItems = 10 * kRegions * kBlocksPerRegion;
  constexpr uint64_t kOnSsd = kItems * 4 / 10;  // numbers below
  constexpr unsigned kEpochs = 6;
  constexpr unsigned kWarmUpEpochs = 2;
  TierFixture tier({.regions = kRegions});
  std::vector<uint64_t> order(kItems);
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(1);
  uint64_t hits = 0;
  for (unsigned epoch = 0; epoch < kEpochs; ++epoch) {
    std::shuffle(order.begin(), order.end(), random);
    for (const uint64_t number : order) {
      tier.advance_ms(2);
      const bool counted = epoch >= kWarmUpEpochs;
      if (tier.has(number)) tier.touch(number);
      if (tier.has(number) || number < kOnSsd) hits += counted ? 1 : 0;
      if (tier.has(number)) continue;
      const bool keep = number >= kOnSsd && !tier->full(kBlock);
      ASSERT_TRUE(tier.fill(number, kBlock, keep ? Retention::kMain : Retention::kTransient));
    }
  }
  const double ratio = static_cast<double>(hits) / static_cast<double>(kItems * (kEpochs - kWarmUpEpochs));
  std::printf("hit ratio of permuted epochs, half cached in two tiers: %.3f\n", ratio);
  EXPECT_GE(ratio, 0.47);
}

}  // namespace
}  // namespace cached::memory_tier
