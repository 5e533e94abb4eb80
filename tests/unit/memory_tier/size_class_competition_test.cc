// How regions move between size classes.
#include <random>

#include "cached/memory_tier/size_classes.h"
#include "tests/unit/memory_tier/tier_fixture.h"

namespace cached::memory_tier {
namespace {

constexpr uint32_t kSmall = 8192;
constexpr unsigned kSmallPerRegion = kRegionBytes / kSmall;
constexpr uint64_t kRegions = 32;  // a 64 MiB arena

uint32_t bytes_of_class(unsigned size_class) {
  return static_cast<uint32_t>(pages_of_class(size_class) * shm::kPageBytes);
}

TEST(SizeClassCompetition, AllRegionsMoveToTheClassInUseAndBack) {
  TierFixture tier({.regions = kRegions});
  uint64_t number = 0;
  const auto run = [&](uint64_t count, uint32_t length) {
    for (uint64_t i = 0; i < count; ++i) {
      tier.advance_ms(1);
      ASSERT_TRUE(tier.fill(number++, length));
    }
  };
  run(kRegions * kSmallPerRegion, kSmall);
  EXPECT_EQ(tier->stats().slots_present, kRegions * kSmallPerRegion);
  run(200 * kBlocksPerRegion, kBlock);
  EXPECT_EQ(tier->stats().bytes_present / kBlock, tier->stats().slots_present) << "small files are left";
  EXPECT_GE(tier->stats().slots_present, kRegions * kBlocksPerRegion - 16);
  EXPECT_EQ(tier->stats().regions_moved, kRegions);
  EXPECT_EQ(tier->check(), "");
  run(200 * kSmallPerRegion, kSmall);
  EXPECT_EQ(tier->stats().bytes_present / kSmall, tier->stats().slots_present) << "blocks are left";
  EXPECT_EQ(tier->stats().regions_moved, 2 * kRegions);
  EXPECT_EQ(tier->check(), "");
}

TEST(SizeClassCompetition, EveryClassWorksInASmallArena) {
  TierFixture tier({.regions = kRegions});
  std::mt19937_64 random(2);
  for (uint64_t number = 0; number < 20'000; ++number) {
    tier.advance_ms(1);
    const unsigned size_class = static_cast<unsigned>(random() % kSizeClasses);
    ASSERT_TRUE(tier.fill(number, bytes_of_class(size_class))) << number << " class " << size_class;
    ASSERT_TRUE(tier.has(number));
  }
  EXPECT_EQ(tier->check(), "");
}

TEST(SizeClassCompetition, ClassWithoutRegionsGetsOneAtOnce) {
  TierFixture tier({.regions = kRegions});
  uint64_t number = 0;
  for (unsigned i = 0; i < kRegions * kBlocksPerRegion; ++i) tier.fill(number++);
  for (unsigned size_class = 0; size_class + 1 < kSizeClasses; ++size_class) {
    ASSERT_TRUE(tier.fill(number++, bytes_of_class(size_class))) << size_class;
  }
  EXPECT_EQ(tier->check(), "");
}

TEST(SizeClassCompetition, FewerRegionsThanClassesStillServeAll) {
  TierFixture tier({.regions = 3});
  for (uint64_t number = 0; number < 5000; ++number) {
    tier.advance_ms(1);
    ASSERT_TRUE(tier.fill(number, bytes_of_class(number % kSizeClasses)));
  }
  EXPECT_EQ(tier->check(), "");
}

TEST(SizeClassCompetition, SteadyMixDoesNotThrash) {
  TierFixture tier({.regions = kRegions});
  std::mt19937_64 random(3);
  uint64_t number = 0;
  const auto run = [&](unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
      tier.advance_ms(1);
      ASSERT_TRUE(tier.fill(number++, std::array<uint32_t, 4>{kSmall, 32768, 100'000, kBlock}[random() % 4]));
    }
  };
  run(20'000);
  const uint64_t moved_before = tier->stats().regions_moved;
  run(20'000);
  const uint64_t moved = tier->stats().regions_moved - moved_before;
  RecordProperty("regions_moved", static_cast<int>(moved));
  EXPECT_LE(moved, 40U);  // of about 650 regions' worth of content
}

TEST(SizeClassCompetition, HotClassKeepsItsRegionsBesideAScanOfAnother) {
  TierFixture tier({.regions = kRegions});
  constexpr uint64_t kHot = 8 * kSmallPerRegion;
  for (uint64_t number = 0; number < kHot; ++number) tier.fill(number, kSmall);
  tier.advance_ms(2000);
  for (uint64_t scanned = 0; scanned < 5000; ++scanned) {
    for (unsigned touch = 0; touch < 8; ++touch) tier.touch((scanned * 8 + touch) % kHot);
    tier.advance_ms(5);
    ASSERT_TRUE(tier.fill(1'000'000 + scanned));
  }
  uint64_t kept = 0;
  for (uint64_t number = 0; number < kHot; ++number) kept += tier.has(number) ? 1 : 0;
  RecordProperty("kept_percent", static_cast<int>(kept * 100 / kHot));
  EXPECT_GE(kept, kHot * 95 / 100);
}

// One region with a pinned block, wanted by small files.
TEST(SizeClassCompetition, DrainingRegionWaitsForPinsAndThenChangesClass) {
  TierFixture tier({.regions = 1});
  const SlotId pinned = *tier.fill_pinned(1);
  tier.fill(2);
  EXPECT_FALSE(tier.fill(3, kSmall));
  EXPECT_FALSE(tier.has(1)) << "a draining region's slots leave the index";
  EXPECT_FALSE(tier.has(2));
  EXPECT_EQ(tier->check(), "");
  tier->unpin(pinned);
  EXPECT_TRUE(tier.fill(3, kSmall));
  EXPECT_EQ(tier->stats().regions_moved, 1U);
  EXPECT_EQ(tier->check(), "");
}

TEST(SizeClassCompetition, DrainingRegionWaitsForHazards) {
  TierFixture tier({.regions = 1});
  const SlotId read = *tier.fill(1);
  tier.hazards = {read.page + 1};
  EXPECT_FALSE(tier.fill(3, kSmall));
  tier.hazards.clear();
  tier.advance_ms(1);
  EXPECT_TRUE(tier.fill(3, kSmall));
}

TEST(SizeClassCompetition, DrainingRegionWaitsForFills) {
  TierFixture tier({.regions = 1});
  const SlotId filling = *tier->allocate(kBlock);
  tier.fill(2);
  EXPECT_FALSE(tier.fill(3, kSmall));
  tier->publish(filling, key_of(1), 0, kBlock);
  EXPECT_FALSE(tier.has(1));
  EXPECT_EQ(tier->check(), "");
  tier->unpin(filling);
  EXPECT_TRUE(tier.fill(3, kSmall));
  EXPECT_EQ(tier->check(), "");
}

TEST(SizeClassCompetition, RegionWithoutPinsIsPreferred) {
  TierFixture tier({.regions = 8});
  std::vector<SlotId> pinned;
  for (uint64_t number = 0; number < 8 * kBlocksPerRegion; ++number) {
    const SlotId slot = *tier.fill_pinned(number);
    if (number / kBlocksPerRegion == 5 || number % kBlocksPerRegion != 3) tier->unpin(slot);
  }
  EXPECT_TRUE(tier.fill(1000, kSmall));
  for (uint64_t number = 0; number < 8 * kBlocksPerRegion; ++number) {
    EXPECT_EQ(tier.has(number), number / kBlocksPerRegion != 5) << number;
  }
}

TEST(SizeClassCompetition, StuckDrainGivesWayToARegionWithoutObstacles) {
  TierFixture tier({.regions = 2});
  std::vector<SlotId> slots;
  for (uint64_t number = 0; number < 2 * kBlocksPerRegion; ++number) slots.push_back(*tier.fill(number));
  tier.hazards = {slots[0].page,
                  slots[kBlocksPerRegion].page};  // one in each region, held by readers that hang
  EXPECT_FALSE(tier.fill(100, kSmall));
  tier.hazards = {slots[0].page};
  tier.advance_ms(20);
  bool served = false;
  for (unsigned attempt = 0; attempt < 3 && !served; ++attempt) {
    served = tier.fill(100, kSmall).has_value();
    tier.advance_ms(20);
  }
  EXPECT_TRUE(served);
  EXPECT_EQ(tier->check(), "");
}

TEST(SizeClassCompetition, DrainStuckForLongIsGivenUpForAnyOtherRegion) {
  TierFixture tier({.regions = 2});
  std::vector<SlotId> slots;
  for (uint64_t number = 0; number < 2 * kBlocksPerRegion; ++number) slots.push_back(*tier.fill(number));
  tier->pin(slots[0]);  // for ever
  tier->pin(slots[kBlocksPerRegion]);
  tier->pin(slots[kBlocksPerRegion + 1]);
  EXPECT_FALSE(tier.fill(100, kSmall));
  tier.advance_ms(200);
  EXPECT_FALSE(tier.fill(100, kSmall));
  tier->unpin(slots[kBlocksPerRegion]);
  tier->unpin(slots[kBlocksPerRegion + 1]);
  EXPECT_TRUE(tier.fill(100, kSmall));
  EXPECT_EQ(tier->check(), "");
}

}  // namespace
}  // namespace cached::memory_tier
