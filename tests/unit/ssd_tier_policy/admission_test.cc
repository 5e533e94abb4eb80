// Single decisions of the policy; simulations show what they come to.
#include "cached/ssd_tier/admission.h"

#include <gtest/gtest.h>

#include "cached/ssd_tier/victim.h"

namespace cached::ssd_tier {
namespace {

constexpr uint32_t kBlockBytes = 128 * 1024;
constexpr uint64_t kCapacityBlocks = 10'000;
constexpr uint64_t kMemoryBlocks = 100;

// A policy with a shard's SSDs, all keys of which miss unless told.
class Admission : public testing::Test {
 protected:
  // Reads the key on a full SSD; whether it is admitted.
  bool miss(uint64_t key) {
    policy_.on_lookup(hash(key), kBlockBytes, false);
    const bool admitted = policy_.admit(hash(key), false);
    if (admitted) policy_.on_written(kBlockBytes);
    return admitted;
  }
  uint64_t admitted_of(uint64_t first, uint64_t count) {
    uint64_t admitted = 0;
    for (uint64_t key = first; key < first + count; ++key) admitted += miss(key) ? 1 : 0;
    return admitted;
  }
  static uint64_t hash(uint64_t key) { return (key + 1) * 0x9E3779B97F4A7C15; }

  AdmissionPolicy policy_{{.capacity_bytes = kCapacityBlocks * kBlockBytes,
                           .memory_bytes = kMemoryBlocks * kBlockBytes,
                           .seed = 1}};
};

TEST_F(Admission, TakesEverythingWhileThereIsRoom) {
  for (uint64_t key = 0; key < 1000; ++key) {
    policy_.on_lookup(hash(key), kBlockBytes, false);
    EXPECT_TRUE(policy_.admit(hash(key), true));
  }
}

TEST_F(Admission, TakesNextToNothingOfAScanWhenFull) {
  EXPECT_LE(admitted_of(0, 20 * kCapacityBlocks), kCapacityBlocks / 20);
  EXPECT_FALSE(policy_.figures().reopened);
}

TEST_F(Admission, AScanThatMissesEachBlockFourTimesIsStillAScan) {
  uint64_t admitted = 0;
  for (uint64_t read = 0; read < 20 * kCapacityBlocks; ++read) admitted += miss(read / 4) ? 1 : 0;
  EXPECT_LE(admitted, kCapacityBlocks / 10);
  EXPECT_EQ(policy_.reopenings(), 0u);
}

TEST_F(Admission, TakesAKeyThatMissesAgainSoon) {
  miss(1);
  admitted_of(1000, kCapacityBlocks / 10);
  EXPECT_TRUE(miss(1));
}

TEST_F(Admission, ReopensInTheSecondEpochOfADataSetThatIsNotThere) {
  const uint64_t blocks = 2 * kCapacityBlocks;
  admitted_of(0, blocks);
  EXPECT_EQ(policy_.reopenings(), 0u);
  const uint64_t admitted = admitted_of(0, blocks);
  EXPECT_EQ(policy_.reopenings(), 1u);
  EXPECT_GE(admitted, kCapacityBlocks);
  EXPECT_LE(admitted, kCapacityBlocks + blocks / 20);
  EXPECT_FALSE(policy_.figures().reopened);
}

TEST_F(Admission, RestsLongerAndLongerWhileReopeningsAreFruitless) {
  const uint64_t blocks = 2 * kCapacityBlocks;
  for (unsigned epoch = 0; epoch < 200; ++epoch) admitted_of(0, blocks);
  EXPECT_GE(policy_.reopenings(), 3u);
  EXPECT_LE(policy_.reopenings(), 8u);
}

TEST_F(Admission, MemoryKeepsWhatIsNotOnSsdWhileItsMainListHasRoom) {
  miss(1);
  EXPECT_TRUE(policy_.keep_in_memory(kBlockBytes, false, false));
  EXPECT_FALSE(policy_.keep_in_memory(kBlockBytes, false, true));
}

TEST_F(Admission, MemoryKeepsCopiesOfWhatIsOnSsdWhenNothingMisses) {
  for (uint64_t key = 0; key < 1000; ++key) policy_.on_lookup(hash(key), kBlockBytes, true);
  EXPECT_TRUE(policy_.keep_in_memory(kBlockBytes, false, true));
}

TEST_F(Admission, MemoryIsFilledAnewAfterAReopening) {
  const auto kept = [&] {
    uint64_t count = 0;
    for (uint64_t block = 0; block < 10 * kMemoryBlocks; ++block)
      count += policy_.keep_in_memory(kBlockBytes, true, false) ? 1 : 0;
    return count;
  };
  const uint64_t blocks = 2 * kCapacityBlocks;
  admitted_of(0, blocks);
  EXPECT_LE(kept(), kMemoryBlocks / 5);
  admitted_of(0, blocks);
  ASSERT_EQ(policy_.reopenings(), 1u);
  EXPECT_GE(kept(), kMemoryBlocks);
  EXPECT_LE(kept(), kMemoryBlocks / 5);
}

TEST_F(Admission, HeatTimeGoesByCapacitiesLookedUp) {
  for (uint64_t key = 0; key < kCapacityBlocks; ++key) policy_.on_lookup(hash(key), kBlockBytes, true);
  EXPECT_NEAR(policy_.heat_tick(), VictimChooser::kTicksPerHalving, 1);
  policy_.set_capacity_bytes(10 * kCapacityBlocks * kBlockBytes);
  for (uint64_t key = 0; key < kCapacityBlocks; ++key) policy_.on_lookup(hash(key), kBlockBytes, true);
  EXPECT_NEAR(policy_.heat_tick(), VictimChooser::kTicksPerHalving * 1.1, 2);
}

TEST_F(Admission, WithoutAnyDeviceNothingIsAdmittedAndMemoryKeepsAll) {
  policy_.set_capacity_bytes(0);
  EXPECT_EQ(admitted_of(0, 1000), 0u);
  EXPECT_TRUE(policy_.keep_in_memory(kBlockBytes, true, false));
  policy_.set_capacity_bytes(kCapacityBlocks * kBlockBytes);
  EXPECT_TRUE(policy_.admit(hash(1), true));
}

TEST_F(Admission, TheSameSeedAndReadsGiveTheSameAnswers) {
  AdmissionPolicy other({.capacity_bytes = kCapacityBlocks * kBlockBytes,
                         .memory_bytes = kMemoryBlocks * kBlockBytes,
                         .seed = 1});
  for (uint64_t key = 0; key < kCapacityBlocks; ++key) {
    other.on_lookup(hash(key), kBlockBytes, false);
    EXPECT_EQ(miss(key), other.admit(hash(key), false));
  }
}

}  // namespace
}  // namespace cached::ssd_tier
