// The shared layouts and hashes: what another implementation must find where it looks.
#include <gtest/gtest.h>

#include <set>

#include "shm/hash.h"
#include "shm/index_layout.h"
#include "shm/session_layout.h"

namespace cached::shm {
namespace {

// Numbers that look random and are the same in every run.
uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

TEST(Layout, BucketsAreWholeCacheLines) {
  EXPECT_EQ(sizeof(SeqBucket<BlockRecord>), 512U);
  EXPECT_EQ(sizeof(SeqBucket<NameRecord>), 512U);
  EXPECT_EQ(sizeof(SeqBucket<InodeRecord>), 64U + 7 * 192);
}

TEST(Layout, SharedAtomicsAreLockFree) {
  EXPECT_TRUE(std::atomic<uint64_t>::is_always_lock_free);
  EXPECT_TRUE(std::atomic<uint32_t>::is_always_lock_free);
  EXPECT_TRUE(std::atomic<uint16_t>::is_always_lock_free);
}

TEST(Layout, SessionAreasFollowEachOtherWithoutOverlap) {
  const SessionGeometry g = make_session_geometry(5, 16, 100'000, 3);
  EXPECT_GE(g.queues_offset_bytes, sizeof(SessionHeader));
  EXPECT_GE(g.queue_stride_bytes, queue_area_bytes(16));
  EXPECT_EQ(g.buffers_offset_bytes, g.queues_offset_bytes + 5 * g.queue_stride_bytes);
  EXPECT_GE(g.buffer_bytes, 100'000U);
  EXPECT_EQ(g.buffer_bytes % kPageBytes, 0U);
  EXPECT_EQ(g.total_bytes, g.buffers_offset_bytes + 5 * g.buffer_bytes);
}

TEST(Layout, QueueViewMasksIndices) {
  const SessionGeometry g = make_session_geometry(2, 8, kMinimumBufferBytes, 1);
  std::vector<std::byte> session(g.total_bytes);
  const QueueView view(session.data(), g, 1);
  EXPECT_EQ(view.submission(3), view.submission(11));
  EXPECT_EQ(view.completion(7), view.completion(UINT32_MAX));
  EXPECT_EQ(&view.touch(5), &view.touch(5 + kTouchesPerQueue));
  EXPECT_EQ(view.buffer(), session.data() + g.buffers_offset_bytes + g.buffer_bytes);
}

TEST(PlaceOfHash, BothBucketsLieInThePartition) {
  for (const uint64_t buckets : {1ULL, 2ULL, 64ULL, 1ULL << 20}) {
    for (uint64_t i = 0; i < 20'000; ++i) {
      const uint64_t partition = i % 5;
      const SeqPlace place = place_of_hash(mix(i), partition, buckets);
      ASSERT_EQ(place.first_bucket / buckets, partition);
      ASSERT_EQ(place.second_bucket / buckets, partition);
    }
  }
}

TEST(PlaceOfHash, TagIsNeverZero) {
  for (uint64_t i = 0; i < 100'000; ++i) ASSERT_NE(place_of_hash(mix(i), 0, 64).tag, 0);
  EXPECT_NE(place_of_hash(0, 0, 64).tag, 0);
}

TEST(PlaceOfHash, SecondBucketLeadsBackToTheFirst) {
  constexpr uint64_t kMask = (1 << 16) - 1;
  for (uint64_t i = 0; i < 10'000; ++i) {
    const uint64_t hash = mix(i);
    const SeqPlace place = place_of_hash(hash, 0, kMask + 1);
    const SeqPlace from_second = place_of_hash((hash & ~kMask) | place.second_bucket, 0, kMask + 1);
    ASSERT_EQ(from_second.second_bucket, place.first_bucket);
  }
}

TEST(PlaceOfHash, PartitionsAreEvenlyUsedAndInRange) {
  constexpr unsigned kPartitions = 3;
  std::array<unsigned, kPartitions> uses{};
  for (uint64_t i = 0; i < 30'000; ++i) {
    const unsigned partition = partition_of_hash(mix(i), kPartitions);
    ASSERT_LT(partition, kPartitions);
    ++uses[partition];
  }
  for (const unsigned count : uses) EXPECT_NEAR(count, 10'000, 500);
  EXPECT_EQ(partition_of_hash(UINT64_MAX, kPartitions), kPartitions - 1);
}

TEST(Hash, BlocksOfOneExtentShareAPartition) {
  const BlockKey first{{1, 2}, 32, 3, 0};
  const BlockKey last{{1, 2}, 63, 3, 0};
  const BlockKey next{{1, 2}, 64, 3, 0};
  EXPECT_EQ(hash_extent(first), hash_extent(last));
  EXPECT_NE(hash_extent(last), hash_extent(next));
}

TEST(Hash, DataSetIsNoPartOfABlocksIdentity) {
  EXPECT_EQ(hash_block({{1, 2}, 3, 4, 0}), hash_block({{1, 2}, 3, 4, 9}));
  EXPECT_NE(hash_block({{1, 2}, 3, 4, 0}), hash_block({{1, 2}, 3, 5, 0}));
}

// The input is 00 01 02 ... and the key 00 01 ... 0f, as in the reference vectors of SipHash.
TEST(Hash, NameHashIsSipHash24With128Bits) {
  const uint64_t key[2] = {0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};
  const Handle parent{0x0b0a090807060504ULL, 0x131211100f0e0d0cULL};
  const NameHash hash = hash_name(key, 0x03020100U, parent, "\x14\x15\x16\x17\x18\x19\x1a");
  EXPECT_EQ(hash.high, 0xe4eaa669af48f2abULL);
  EXPECT_EQ(hash.low, 0x94eb9e122febd3bfULL);
}

TEST(Hash, NamesAreCutAt255Bytes) {
  const uint64_t key[2] = {1, 2};
  EXPECT_EQ(hash_name(key, 1, {}, std::string(255, 'x')), hash_name(key, 1, {}, std::string(300, 'x')));
}

}  // namespace
}  // namespace cached::shm
