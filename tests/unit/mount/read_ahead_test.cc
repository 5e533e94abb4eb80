// Recognition of sequential streams and the hints that follow.
#include "mount/read_ahead.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace cached::mount {
namespace {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;
constexpr uint64_t kFile = 256 * kMiB;

TEST(StreamDetector, HintsAfterTwoSequentialReads) {
  StreamDetector detector;
  EXPECT_TRUE(detector.observe(0, 128 * kKiB, kFile).empty());
  EXPECT_EQ(detector.observe(128 * kKiB, 128 * kKiB, kFile), (Range{256 * kKiB, 256 * kKiB + kMiB}));
}

TEST(StreamDetector, HintsFollowEachOtherWithoutGapsOrRepeats) {
  StreamDetector detector;
  uint64_t hinted_until = 0;
  uint64_t longest = 0;
  for (uint64_t offset = 0; offset < 64 * kMiB; offset += 128 * kKiB) {
    const Range range = detector.observe(offset, 128 * kKiB, kFile);
    if (range.empty()) continue;
    if (hinted_until != 0) {
      EXPECT_EQ(range.begin, hinted_until);
    }
    EXPECT_GE(range.begin, offset + 128 * kKiB) << "only beyond what was read";
    EXPECT_LE(range.end, offset + 128 * kKiB + kMaximumWindowBytes);
    hinted_until = range.end;
    longest = std::max(longest, range.end - range.begin);
  }
  EXPECT_GE(hinted_until, 64 * kMiB);
  EXPECT_GE(longest, kMaximumWindowBytes / 2);
}

TEST(StreamDetector, StopsAtTheEndOfTheFile) {
  StreamDetector detector;
  detector.observe(0, 512 * kKiB, 2 * kMiB);
  EXPECT_EQ(detector.observe(512 * kKiB, 512 * kKiB, 2 * kMiB), (Range{kMiB, 2 * kMiB}));
  EXPECT_TRUE(detector.observe(kMiB, 512 * kKiB, 2 * kMiB).empty());
  EXPECT_TRUE(detector.observe(kMiB + 512 * kKiB, 512 * kKiB, 2 * kMiB).empty());
}

TEST(StreamDetector, FollowsFourInterleavedStreams) {
  StreamDetector detector;
  const std::vector<uint64_t> starts = {0, 50 * kMiB, 100 * kMiB, 200 * kMiB};
  for (uint64_t step = 0; step < 8; ++step) {
    for (const uint64_t start : starts) {
      const Range range = detector.observe(start + step * 128 * kKiB, 128 * kKiB, kFile);
      if (step == 1) {
        EXPECT_EQ(range.begin, start + 256 * kKiB);
      }
    }
  }
}

TEST(StreamDetector, RandomReadsGiveNoHints) {
  StreamDetector detector;
  std::mt19937_64 random(1);
  for (int i = 0; i < 10'000; ++i) {
    EXPECT_TRUE(detector.observe(random() % (kFile / 4096) * 2 * 4096, 4096, 2 * kFile).empty());
  }
}

TEST(StreamDetector, OvertakenReadsBelongToTheirStream) {
  StreamDetector detector;
  detector.observe(0, kMiB, kFile);
  detector.observe(kMiB, kMiB, kFile);
  const Range ahead = detector.observe(3 * kMiB, kMiB, kFile);
  EXPECT_GE(ahead.begin, 4 * kMiB);
  const Range late = detector.observe(2 * kMiB, kMiB, kFile);
  EXPECT_TRUE(late.empty() || late.begin >= ahead.end);
}

TEST(Hints, StayWithinExtentsOfTheObject) {
  std::vector<Range> pieces;
  const uint64_t layout_base = kMiB;
  for_each_hint({kMiB, 9 * kMiB}, layout_base, [&](uint64_t begin, uint64_t length) {
    pieces.push_back({begin, begin + length});
  });
  EXPECT_EQ(pieces, (std::vector<Range>{{kMiB, 3 * kMiB}, {3 * kMiB, 7 * kMiB}, {7 * kMiB, 9 * kMiB}}));
}

TEST(Hints, NothingForNothing) {
  for_each_hint({}, 0, [](uint64_t, uint64_t) { ADD_FAILURE(); });
}

TEST(OpenFileTest, SmallFilesGetNoHints) {
  OpenFile file;
  for (uint64_t offset = 0; offset < 512 * kKiB; offset += 4096) {
    EXPECT_TRUE(file.observe(offset, 4096, 512 * kKiB).empty());
  }
}

TEST(OpenFileTest, RemembersTheFirstRead) {
  OpenFile file;
  EXPECT_TRUE(file.observe(0, kMiB, kFile).empty());
  EXPECT_EQ(file.observe(kMiB, kMiB, kFile), (Range{2 * kMiB, 3 * kMiB}));
}

}  // namespace
}  // namespace cached::mount
