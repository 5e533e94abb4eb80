// A slot's life: filling, present, pinned, limbo, free.
#include <cstring>

#include "tests/unit/memory_tier/tier_fixture.h"

namespace cached::memory_tier {
namespace {

constexpr uint32_t kPagesOfBlock = kBlock / shm::kPageBytes;

TEST(Slots, PublishedPieceIsFoundWithItsBytes) {
  TierFixture tier({.regions = 2, .first_region = 3});
  const SlotId slot = *tier->allocate(100'000);
  EXPECT_GE(tier->slot_capacity(slot), 100'000U);
  std::memset(tier->slot_data(slot), 0x5a, 100'000);
  tier->publish(slot, key_of(1), 16384, 100'000);
  const auto piece = tier->find(key_of(1), 16384 + 99'999);
  ASSERT_TRUE(piece);
  EXPECT_EQ(piece->slot, slot);
  EXPECT_EQ(piece->start, 16384U);
  EXPECT_EQ(piece->length, 100'000U);
  EXPECT_EQ(piece->data, tier.arena() + uint64_t{slot.page} * shm::kPageBytes);
  EXPECT_GE(slot.page, 3 * kRegionBytes / shm::kPageBytes);
  EXPECT_EQ(std::to_integer<int>(piece->data[99'999]), 0x5a);
  EXPECT_EQ(tier->check(), "");
}

TEST(Slots, OffsetOutsideThePieceIsNotFound) {
  TierFixture tier({});
  const SlotId slot = *tier->allocate(16384);
  tier->publish(slot, key_of(1), 16384, 16384);
  EXPECT_FALSE(tier->find(key_of(1), 16383));
  EXPECT_FALSE(tier->find(key_of(1), 32768));
  EXPECT_FALSE(tier->find(key_of(2), 16384));
}

TEST(Slots, PiecesOfOneBlockAreFoundEach) {
  TierFixture tier({});
  for (const uint32_t start : {0U, 16384U, 65536U}) {
    const SlotId slot = *tier->allocate(16384);
    tier->publish(slot, key_of(1), start, 16384);
    tier->unpin(slot);
  }
  for (const uint32_t start : {0U, 16384U, 65536U}) EXPECT_EQ(tier->find(key_of(1), start + 5)->start, start);
  EXPECT_EQ(tier->check(), "");
}

TEST(Slots, FilesOf100KbLeaveOver85PercentUseful) {
  TierFixture tier({.regions = 16});
  for (uint64_t number = 0; number < 1000; ++number) ASSERT_TRUE(tier.fill(number, 100'000));
  const double useful =
      static_cast<double>(tier->stats().bytes_present) / static_cast<double>(16 * kRegionBytes);
  RecordProperty("useful_percent", static_cast<int>(useful * 100));
  EXPECT_GE(useful, 0.85);
  EXPECT_EQ(tier->check(), "");
}

TEST(Slots, FillingSlotIsNeverEvicted) {
  TierFixture tier({.regions = 1});
  const SlotId filling = *tier->allocate(kBlock);
  for (uint64_t number = 0; number < 200; ++number) {
    tier.advance_ms(100);
    const auto slot = tier.fill(number);
    ASSERT_TRUE(slot);
    ASSERT_NE(*slot, filling);
  }
  tier->publish(filling, key_of(999), 0, kBlock);
  EXPECT_TRUE(tier.has(999));
}

TEST(Slots, PinnedSlotIsNeitherEvictedNorMoved) {
  TierFixture tier({.regions = 2});
  const SlotId pinned = *tier.fill_pinned(999);
  for (uint64_t number = 0; number < 500; ++number) {
    tier.advance_ms(10);
    const auto slot = tier.fill(number);
    ASSERT_TRUE(slot);
    ASSERT_NE(*slot, pinned);
    ASSERT_EQ(tier->find(key_of(999), 0)->slot, pinned);
  }
  EXPECT_EQ(tier->check(), "");
}

TEST(Slots, UnpinnedSlotCanBeEvictedAgain) {
  TierFixture tier({.regions = 1});
  const SlotId slot = *tier.fill_pinned(999);
  tier->pin(slot);
  tier->unpin(slot);
  for (uint64_t number = 0; number < 100; ++number) tier.fill(number);
  EXPECT_TRUE(tier.has(999));
  tier->unpin(slot);
  for (uint64_t number = 0; number < 17 * kBlocksPerRegion; ++number) tier.fill(100 + number);
  EXPECT_FALSE(tier.has(999));
}

TEST(Slots, AbandonedSlotIsFreeAtOnce) {
  TierFixture tier({.regions = 1});
  std::vector<SlotId> slots;
  while (const auto slot = tier->allocate(kBlock)) slots.push_back(*slot);
  EXPECT_EQ(slots.size(), kBlocksPerRegion);
  tier->abandon(slots[5]);
  EXPECT_EQ(*tier->allocate(kBlock), slots[5]);
  EXPECT_EQ(tier->check(), "");
}

TEST(Slots, AllPinnedMeansNothingAndUnpinMakesRoom) {
  TierFixture tier({.regions = 2});
  std::vector<SlotId> pinned;
  uint64_t number = 0;
  while (const auto slot = tier.fill_pinned(number++)) pinned.push_back(*slot);
  EXPECT_EQ(pinned.size(), 2 * kBlocksPerRegion);
  EXPECT_FALSE(tier->allocate(4096));
  EXPECT_FALSE(tier->allocate(kBlock));
  tier->unpin(pinned[7]);
  tier.advance_ms(10);
  EXPECT_EQ(*tier->allocate(kBlock), pinned[7]);
  EXPECT_EQ(tier->check(), "");
}

TEST(Slots, HazardedSlotIsNotReusedUntilItsHazardIsCleared) {
  TierFixture tier({.regions = 1});
  const SlotId read = *tier.fill(0);
  tier.hazards = {read.page};
  for (uint64_t number = 1; number < 100; ++number) ASSERT_NE(*tier.fill(number), read);
  EXPECT_FALSE(tier.has(0));
  tier.hazards.clear();
  bool reused = false;
  for (uint64_t number = 100; number < 500; ++number) reused |= *tier.fill(number) == read;
  EXPECT_TRUE(reused);
}

TEST(Slots, HazardOnAMiddlePageProtectsTheSlot) {
  for (const uint32_t page : {1U, kPagesOfBlock / 2, kPagesOfBlock - 1}) {
    TierFixture tier({.regions = 1});
    const SlotId read = *tier.fill(0);
    tier.hazards = {read.page + page};
    for (uint64_t number = 1; number < 100; ++number) ASSERT_NE(*tier.fill(number), read);
  }
}

TEST(Slots, HazardOnANeighboursFirstPageDoesNotProtect) {
  TierFixture tier({.regions = 1});
  const SlotId slot = *tier.fill(0);
  tier.hazards = {slot.page + kPagesOfBlock};
  bool reused = false;
  for (uint64_t number = 1; number < 100; ++number) reused |= *tier.fill(number) == slot;
  EXPECT_TRUE(reused);
}

TEST(Slots, GarbageHazardsAndTouchesAreHarmless) {
  TierFixture tier({.regions = 2, .first_region = 1});
  tier.hazards = {0, 1, 511, 2'000'000'000, UINT32_MAX, UINT32_MAX - 1, 3 * 512, 3 * 512 + 1};
  for (uint64_t number = 0; number < 200; ++number) {
    for (const uint32_t page : tier.hazards) tier->touch(page);
    tier.advance_ms(20);
    ASSERT_TRUE(tier.fill(number, number % 2 == 0 ? kBlock : 5000));
  }
  EXPECT_EQ(tier->check(), "");
}

TEST(Slots, AllSlotsHazardedMeansNothingAndClearingMakesRoom) {
  TierFixture tier({.regions = 1});
  for (uint32_t page = 0; page < 512; ++page) tier.hazards.push_back(page);
  for (uint64_t number = 0; number < kBlocksPerRegion; ++number) ASSERT_TRUE(tier.fill(number));
  EXPECT_FALSE(tier->allocate(kBlock));
  tier.hazards.clear();
  tier.advance_ms(1);
  EXPECT_TRUE(tier->allocate(kBlock));
  EXPECT_EQ(tier->check(), "");
}

TEST(Slots, FailingAllocationsDoNotScanHazardsEachTime) {
  TierFixture tier({.regions = 1});
  for (uint32_t page = 0; page < 512; ++page) tier.hazards.push_back(page);
  for (uint64_t number = 0; number < kBlocksPerRegion; ++number) ASSERT_TRUE(tier.fill(number));
  for (unsigned i = 0; i < 10; ++i) EXPECT_FALSE(tier->allocate(kBlock));
  const uint64_t before = tier.scans;
  for (unsigned i = 0; i < 1000; ++i) EXPECT_FALSE(tier->allocate(kBlock));
  EXPECT_EQ(tier.scans, before);
}

TEST(Slots, OneScanServesManyAllocations) {
  TierFixture tier({.regions = 32});
  for (uint64_t number = 0; number < 2000; ++number) ASSERT_TRUE(tier.fill(number));
  const uint64_t allocations_that_evict = 2000 - 32 * kBlocksPerRegion;
  EXPECT_LE(tier.scans, allocations_that_evict / 16 + 1);
}

TEST(Slots, PublishingAPieceAgainReplacesIt) {
  TierFixture tier({});
  tier.fill(1, 5000);
  const SlotId newer = *tier.fill(1, 6000);
  EXPECT_EQ(tier->find(key_of(1), 0)->slot, newer);
  EXPECT_EQ(tier->find(key_of(1), 0)->length, 6000U);
  EXPECT_EQ(tier->stats().slots_present, 1U);
  EXPECT_EQ(tier->check(), "");
}

TEST(Slots, ReplacedPinnedSlotIsFreedByItsLastUnpin) {
  TierFixture tier({.regions = 1});
  const SlotId older = *tier.fill_pinned(1);
  tier->pin(older);
  ASSERT_TRUE(tier.fill(1));
  tier->unpin(older);
  for (uint64_t number = 2; number < 100; ++number) ASSERT_NE(*tier.fill(number), older);
  tier->unpin(older);
  bool reused = false;
  for (uint64_t number = 100; number < 500; ++number) reused |= *tier.fill(number) == older;
  EXPECT_TRUE(reused);
  EXPECT_EQ(tier->check(), "");
}

TEST(Slots, DetachedSlotUnderAHazardIsNotReusedAfterItsLastUnpin) {
  TierFixture tier({.regions = 1});
  const SlotId older = *tier.fill_pinned(1);
  tier.hazards = {older.page + 3};
  ASSERT_TRUE(tier.fill(1));
  tier->unpin(older);
  for (uint64_t number = 2; number < 100; ++number) ASSERT_NE(*tier.fill(number), older);
}

TEST(Slots, FullBucketsDisplaceTheRecordLongestUnused) {
  TierFixture tier({.regions = 1, .index_buckets = 1});
  for (uint64_t number = 0; number < 7; ++number) {
    tier.fill(number, 4096);
    tier.advance_ms(10);
  }
  tier.fill(7, 4096);
  EXPECT_EQ(tier->stats().index_displacements, 1U);
  EXPECT_FALSE(tier.has(0));
  for (uint64_t number = 1; number < 8; ++number) EXPECT_TRUE(tier.has(number));
  EXPECT_EQ(tier->check(), "");
}

TEST(Slots, FullBucketsOfPinnedSlotsLeaveThePieceOutOfTheIndex) {
  TierFixture tier({.regions = 1, .index_buckets = 1});
  for (uint64_t number = 0; number < 7; ++number) tier.fill_pinned(number, 4096);
  const SlotId transient = *tier.fill_pinned(7, 4096);
  EXPECT_FALSE(tier.has(7));
  for (uint64_t number = 0; number < 7; ++number) EXPECT_TRUE(tier.has(number));
  tier->pin(transient);
  tier->unpin(transient);
  EXPECT_EQ(tier->stats().slots_limbo, 0U);
  EXPECT_EQ(tier->check(), "");
  tier->unpin(transient);
  EXPECT_EQ(tier->stats().slots_limbo, 1U);
  EXPECT_EQ(tier->check(), "");
}

TEST(Slots, RegionWithoutMemoryIsSkipped) {
  TierFixture tier({.regions = 4, .first_region = 10});
  tier.without_memory = {10, 12};
  for (uint64_t number = 0; number < 100; ++number) ASSERT_TRUE(tier.fill(number));
  EXPECT_EQ(tier->stats().regions_used, 2U);
  EXPECT_EQ(tier->check(), "");
}

TEST(Slots, NoMemoryAtAllMeansNothing) {
  TierFixture tier({.regions = 8});
  for (uint64_t region = 0; region < 8; ++region) tier.without_memory.insert(region);
  for (unsigned i = 0; i < 10; ++i) EXPECT_FALSE(tier->allocate(kBlock));
  EXPECT_EQ(tier->check(), "");
}

TEST(Slots, EvictIfTakesWhatMatchesAndIsNotPinned) {
  TierFixture tier({});
  for (uint64_t number = 0; number < 20; ++number) tier.fill(number, 4096);
  const SlotId pinned = tier->find(key_of(4), 0)->slot;
  tier->pin(pinned);
  EXPECT_EQ(tier->evict_if([](const shm::BlockKey& key, uint64_t) { return key.object.low % 2 == 1; }).pieces,
            9U);  // numbers 0, 2, ...
  EXPECT_TRUE(tier.has(4));
  EXPECT_TRUE(tier.has(3));
  EXPECT_FALSE(tier.has(2));
  EXPECT_EQ(tier->check(), "");
}

TEST(Slots, EmptiedRegionServesAnyClass) {
  TierFixture tier({.regions = 1});
  for (uint64_t number = 0; number < 20; ++number) tier.fill(number, 4096);
  tier->evict_if([](const shm::BlockKey&, uint64_t) { return true; });
  EXPECT_EQ(tier->stats().regions_used, 0U);
  EXPECT_TRUE(tier.fill(100));
  EXPECT_EQ(tier->check(), "");
}

}  // namespace
}  // namespace cached::memory_tier
