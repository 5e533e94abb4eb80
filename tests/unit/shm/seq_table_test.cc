// SeqTable with one thread: what goes in comes out, and nothing else.
#include "shm/seq_table.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "shm/index_layout.h"

namespace cached::shm {
namespace {

constexpr uint64_t kBuckets = 16;

struct Payload {
  uint64_t key = 0;
  uint64_t value = 0;
};

class SeqTable : public ::testing::Test {
 protected:
  // A hash whose first bucket is 0 and whose tag is the smallest: all such keys compete for the same two
  // buckets.
  static constexpr uint64_t kCrowdedHash = 0;

  std::optional<Payload> find(uint64_t hash, uint64_t key) const {
    return reader_.find(hash, 1, [&](const Payload& payload) { return payload.key == key; });
  }
  bool put(uint64_t hash, uint64_t key, uint64_t value) {
    const std::optional<SeqPosition> place = writer_.free_place(hash);
    if (place) writer_.put(*place, hash, {key, value});
    return place.has_value();
  }

  std::vector<SeqBucket<Payload>> buckets_{2 * kBuckets};
  SeqTableWriter<Payload> writer_{buckets_.data(), kBuckets, 1};
  SeqTableReader<Payload> reader_{buckets_.data(), kBuckets};
};

TEST_F(SeqTable, FindsWhatWasPut) {
  ASSERT_TRUE(put(77, 1, 100));
  const auto found = find(77, 1);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->value, 100U);
}

TEST_F(SeqTable, FindsNothingForAnotherKeyOfTheSameHash) {
  ASSERT_TRUE(put(77, 1, 100));
  EXPECT_FALSE(find(77, 2));
}

TEST_F(SeqTable, LeavesOtherPartitionsAlone) {
  ASSERT_TRUE(put(77, 1, 100));
  EXPECT_FALSE(reader_.find(77, 0, [](const Payload&) { return true; }));
}

TEST_F(SeqTable, PutOverARecordReplacesIt) {
  ASSERT_TRUE(put(77, 1, 100));
  const auto position = writer_.find(77, [](const Payload& payload) { return payload.key == 1; });
  ASSERT_TRUE(position);
  writer_.put(*position, 77, {1, 200});
  EXPECT_EQ(find(77, 1)->value, 200U);
}

TEST_F(SeqTable, RemovedRecordIsGoneAndItsPlaceFree) {
  ASSERT_TRUE(put(77, 1, 100));
  const auto position = writer_.find(77, [](const Payload& payload) { return payload.key == 1; });
  writer_.remove(position.value());
  EXPECT_FALSE(find(77, 1));
  EXPECT_FALSE(writer_.occupied(*position));
}

TEST_F(SeqTable, SequenceGrowsByTwoForEachWrite) {
  SeqRecord<Payload> record{};
  record.write({1, 1});
  record.write({1, 2});
  EXPECT_EQ(record.sequence.load(), 4U);
}

TEST_F(SeqTable, RecordUnderChangeIsAMiss) {
  ASSERT_TRUE(put(77, 1, 100));
  const auto position = writer_.find(77, [](const Payload& payload) { return payload.key == 1; });
  buckets_[position->bucket].records[position->way].sequence.fetch_add(1);
  EXPECT_FALSE(find(77, 1));
}

TEST_F(SeqTable, BothBucketsFillBeforeThereIsNoPlace) {
  const SeqPlace place = place_of_hash(kCrowdedHash, 1, kBuckets);
  const unsigned room = place.first_bucket == place.second_bucket ? kRecordsPerBucket : 2 * kRecordsPerBucket;
  for (uint64_t key = 1; key <= room; ++key) ASSERT_TRUE(put(kCrowdedHash, key, key * 10));
  EXPECT_FALSE(put(kCrowdedHash, 99, 990));
  for (uint64_t key = 1; key <= room; ++key) EXPECT_EQ(find(kCrowdedHash, key)->value, key * 10);
}

TEST_F(SeqTable, EveryVictimPlaceIsOneOfTheTwoBuckets) {
  const SeqPlace place = place_of_hash(12345, 1, kBuckets);
  for (unsigned choice = 0; choice < 100; ++choice) {
    const SeqPosition victim = writer_.victim_place(12345, choice);
    EXPECT_TRUE(victim.bucket == place.first_bucket || victim.bucket == place.second_bucket);
    EXPECT_LT(victim.way, kRecordsPerBucket);
  }
}

TEST_F(SeqTable, RecordOverAVictimHidesTheVictim) {
  while (put(kCrowdedHash, 1, 1)) {
  }
  const SeqPosition victim = writer_.victim_place(kCrowdedHash, 3);
  writer_.put(victim, kCrowdedHash, {2, 2});
  EXPECT_EQ(find(kCrowdedHash, 2)->value, 2U);
}

TEST_F(SeqTable, RetractsWhenTheRecordChangesAfterTheCopy) {
  ASSERT_TRUE(put(77, 1, 100));
  const auto position = writer_.find(77, [](const Payload& payload) { return payload.key == 1; });
  unsigned retracted = 0;
  const auto found = reader_.find(
      77, 1, [](const Payload& payload) { return payload.key == 1; },
      [&](const Payload&) { writer_.remove(*position); }, [&] { ++retracted; });
  EXPECT_FALSE(found);
  EXPECT_EQ(retracted, 1U);
}

}  // namespace
}  // namespace cached::shm
