// Maps of files: what a run must be, and the cache of runs.
#include "shm/file_map.h"

#include <gtest/gtest.h>

namespace cached::shm {
namespace {

constexpr Handle kFile{1, 2};
constexpr ObjectId kVersion{3, 4};

std::shared_ptr<const MapRun> run(uint64_t begin, size_t pieces) {
  MapRun made;
  for (size_t i = 0; i < pieces; ++i) made.push_back({begin + i * 10, 10, {i + 1, 1}, 0});
  return std::make_shared<const MapRun>(std::move(made));
}

TEST(MapRun, MustCoverItsOffsetWithoutGaps) {
  EXPECT_TRUE(run_is_sound(*run(100, 3), 100));
  EXPECT_TRUE(run_is_sound(*run(100, 3), 129));
  EXPECT_FALSE(run_is_sound(*run(100, 3), 130));
  EXPECT_FALSE(run_is_sound(*run(100, 3), 99));
  EXPECT_FALSE(run_is_sound({}, 0));
  EXPECT_FALSE(run_is_sound({{0, 10, {}, 0}, {11, 10, {}, 0}}, 5));
  EXPECT_FALSE(run_is_sound({{0, 0, {}, 0}}, 0));
  EXPECT_FALSE(run_is_sound({{5, UINT64_MAX, {}, 0}}, 6));
}

TEST(MapRun, FindsThePieceOfAnOffset) {
  const auto pieces = run(100, 3);
  EXPECT_EQ(find_piece_of(*pieces, 99), nullptr);
  EXPECT_EQ(find_piece_of(*pieces, 100), &pieces->at(0));
  EXPECT_EQ(find_piece_of(*pieces, 119), &pieces->at(1));
  EXPECT_EQ(find_piece_of(*pieces, 130), nullptr);
}

TEST(FileMapCache, KnowsRunsByFileAndVersion) {
  FileMapCache cache;
  const auto first = run(0, 5);
  const auto second = run(50, 5);
  cache.put(kFile, kVersion, second);
  cache.put(kFile, kVersion, first);
  EXPECT_EQ(cache.find(kFile, kVersion, 49), first);
  EXPECT_EQ(cache.find(kFile, kVersion, 50), second);
  EXPECT_EQ(cache.find(kFile, kVersion, 100), nullptr);
  EXPECT_EQ(cache.find(kFile, {3, 5}, 0), nullptr);
  cache.forget(kFile, kVersion);
  EXPECT_EQ(cache.find(kFile, kVersion, 0), nullptr);
  EXPECT_EQ(cache.pieces(), 0U);
}

TEST(FileMapCache, ReplacesRunsThatANewOneCovers) {
  FileMapCache cache;
  cache.put(kFile, kVersion, run(20, 2));
  cache.put(kFile, kVersion, run(0, 10));
  EXPECT_EQ(cache.pieces(), 10U);
}

TEST(FileMapCache, ForgetsWhatWasUsedLongestAgo) {
  FileMapCache cache;
  constexpr size_t kHalf = FileMapCache::kMaximumPieces / 2;
  cache.put({1, 1}, kVersion, run(0, kHalf));
  cache.put({2, 2}, kVersion, run(0, kHalf));
  EXPECT_NE(cache.find({1, 1}, kVersion, 0), nullptr);
  cache.put({3, 3}, kVersion, run(0, 1));
  EXPECT_NE(cache.find({1, 1}, kVersion, 0), nullptr);
  EXPECT_EQ(cache.find({2, 2}, kVersion, 0), nullptr);
  EXPECT_LE(cache.pieces(), FileMapCache::kMaximumPieces);
}

}  // namespace
}  // namespace cached::shm
