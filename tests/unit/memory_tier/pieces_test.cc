// Several pieces of one block: which stay, which go, which is found.
#include "tests/unit/memory_tier/tier_fixture.h"

namespace cached::memory_tier {
namespace {

constexpr uint32_t kChunk = 16384;

// Fills and publishes a piece of block `number`; the caller owns its pin.
SlotId publish_pinned(TierFixture& tier, uint64_t number, uint32_t start, uint32_t length) {
  const SlotId slot = *tier->allocate(length);
  tier->publish(slot, key_of(number), start, length);
  return slot;
}

SlotId publish(TierFixture& tier, uint64_t number, uint32_t start, uint32_t length) {
  const SlotId slot = publish_pinned(tier, number, start, length);
  tier->unpin(slot);
  return slot;
}

TEST(Pieces, WholeBlockTakesThePlaceOfItsChunks) {
  TierFixture tier({});
  for (uint32_t start = 0; start < kBlock; start += kChunk) publish(tier, 1, start, kChunk);
  EXPECT_EQ(tier->stats().slots_present, 8U);
  const SlotId whole = publish(tier, 1, 0, kBlock);
  EXPECT_EQ(tier->stats().slots_present, 1U);
  for (uint32_t offset = 0; offset < kBlock; offset += kChunk) EXPECT_EQ(tier.find(1, offset)->slot, whole);
  EXPECT_EQ(tier->check(), "");
}

TEST(Pieces, ChunksOfOtherBlocksStay) {
  TierFixture tier({.index_buckets = 1});
  publish(tier, 2, 0, kChunk);
  publish(tier, 1, 0, kChunk);
  publish(tier, 1, 0, kBlock);
  EXPECT_TRUE(tier.has(2));
  EXPECT_EQ(tier->stats().slots_present, 2U);
}

TEST(Pieces, CoveredPinnedChunkKeepsItsBytesUntilItsLastUnpin) {
  TierFixture tier({});
  const SlotId first = publish_pinned(tier, 1, 0, kChunk);
  const SlotId second = publish_pinned(tier, 1, kChunk, kChunk);
  publish(tier, 1, 0, kBlock);
  EXPECT_EQ(tier->stats().slots_pinned, 2U);
  EXPECT_EQ(tier->stats().slots_limbo, 0U);
  EXPECT_EQ(tier->check(), "");
  tier->unpin(first);
  tier->unpin(second);
  EXPECT_EQ(tier->stats().slots_limbo, 2U);
  EXPECT_EQ(tier->check(), "");
}

TEST(Pieces, CoveredChunkUnderAHazardIsNotReused) {
  TierFixture tier({.regions = 2});
  publish(tier, 1, 0, kChunk);
  const SlotId read = publish(tier, 1, kChunk, kChunk);
  tier.hazards = {read.page + 1};
  publish(tier, 1, 0, kBlock);
  for (uint64_t number = 2; number < 1000; ++number) ASSERT_NE(*tier.fill(number, kChunk), read);
}

TEST(Pieces, ChunkOfAPresentBlockStaysOutOfTheIndex) {
  TierFixture tier({});
  const SlotId whole = publish(tier, 1, 0, kBlock);
  const SlotId chunk = publish_pinned(tier, 1, kChunk, kChunk);
  EXPECT_EQ(tier.find(1, kChunk)->slot, whole);
  EXPECT_EQ(tier->stats().slots_present, 1U);
  tier->pin(chunk);
  tier->unpin(chunk);
  EXPECT_EQ(tier->stats().slots_limbo, 0U);
  EXPECT_EQ(tier->check(), "");
  tier->unpin(chunk);
  EXPECT_EQ(tier->stats().slots_limbo, 1U);
  EXPECT_EQ(tier->check(), "");
}

TEST(Pieces, ShorterPieceOfTheSameStartStaysOutOfTheIndex) {
  TierFixture tier({});
  const SlotId longer = publish(tier, 1, 0, 2 * kChunk);
  publish(tier, 1, 0, kChunk);
  EXPECT_EQ(tier.find(1, 0)->slot, longer);
  EXPECT_EQ(tier->stats().slots_present, 1U);
}

TEST(Pieces, OverlappingPiecesStayBesideEachOther) {
  TierFixture tier({});
  const SlotId first = publish(tier, 1, 0, 3 * kChunk);
  const SlotId second = publish(tier, 1, 2 * kChunk, 3 * kChunk);
  EXPECT_EQ(tier.find(1, 0)->slot, first);
  EXPECT_EQ(tier.find(1, 4 * kChunk)->slot, second);
  EXPECT_EQ(tier->stats().slots_present, 2U);
  EXPECT_EQ(tier->check(), "");
}

TEST(Pieces, FindTakesThePieceThatReachesFurthest) {
  for (const bool furthest_first : {false, true}) {
    TierFixture tier({});
    if (furthest_first) publish(tier, 1, 2 * kChunk, 3 * kChunk);
    publish(tier, 1, 0, 3 * kChunk);
    if (!furthest_first) publish(tier, 1, 2 * kChunk, 3 * kChunk);
    EXPECT_EQ(tier.find(1, 2 * kChunk)->start, 2 * kChunk);
    EXPECT_EQ(tier.find(1, kChunk)->start, 0U);
  }
}

TEST(Pieces, PieceThatCoversOnlySomeTakesTheirPlaceAlone) {
  TierFixture tier({});
  for (uint32_t start = 0; start < kBlock; start += kChunk) publish(tier, 1, start, kChunk);
  const SlotId middle = publish(tier, 1, 2 * kChunk, 3 * kChunk);
  EXPECT_EQ(tier->stats().slots_present, 6U);
  for (uint32_t chunk = 0; chunk < 8; ++chunk) {
    ASSERT_TRUE(tier.find(1, chunk * kChunk));
    EXPECT_EQ(tier.find(1, chunk * kChunk)->slot == middle, chunk >= 2 && chunk < 5) << chunk;
  }
  EXPECT_EQ(tier->check(), "");
}

TEST(Pieces, BlockIsPublishedOverChunksThatFillItsBuckets) {
  TierFixture tier({.index_buckets = 1});
  for (uint32_t start = 0; start < 7 * kChunk; start += kChunk) publish_pinned(tier, 1, start, kChunk);
  const SlotId whole = publish(tier, 1, 0, kBlock);
  EXPECT_EQ(tier.find(1, 0)->slot, whole);
  EXPECT_EQ(tier->stats().slots_present, 1U);
  EXPECT_EQ(tier->check(), "");
}

TEST(Pieces, ChunksOfOneBlockEvictOneByOne) {
  TierFixture tier({.regions = 1});
  publish(tier, 1, 0, kChunk);
  publish(tier, 1, 4 * kChunk, kChunk);
  tier.advance_ms(2000);
  tier->touch(tier.find(1, 4 * kChunk)->slot.page);
  for (uint64_t number = 2; tier.find(1, 0); ++number) ASSERT_TRUE(tier.fill(number, kChunk));
  EXPECT_TRUE(tier.find(1, 4 * kChunk));
}

}  // namespace
}  // namespace cached::memory_tier
