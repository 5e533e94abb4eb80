// Which names are learned ahead of lookups.
#include "cached/volume/name_streams.h"

#include <gtest/gtest.h>

namespace cached::volume {
namespace {

using Ahead = NameStreams::Ahead;

// Looks up all entries from `first` to `end`, but those that were learned ahead. Returns how often it asked.
unsigned look_up_in_order(NameStreams* streams, uint32_t directory, uint64_t first, uint64_t end) {
  unsigned questions = 0;
  for (uint64_t number = first; number < end;) {
    const Ahead ahead = streams->observe(directory, number);
    ++questions;
    number = ahead.count == 0 ? number + 1 : ahead.first + ahead.count;
  }
  return questions;
}

TEST(NameStreams, TheThirdLookupInOrderLearnsAhead) {
  NameStreams streams;
  EXPECT_EQ(streams.observe(1, 100), Ahead{});
  EXPECT_EQ(streams.observe(1, 101), Ahead{});
  EXPECT_EQ(streams.observe(1, 102), (Ahead{103, kMinimumNamesAhead}));
}

TEST(NameStreams, AStreamThatGoesOnAsksLessAndLess) {
  NameStreams streams;
  EXPECT_LT(look_up_in_order(&streams, 1, 0, 10'000), 10'000 / kMaximumNamesAhead + 10);
}

TEST(NameStreams, AWindowIsNeverLargerThanTheLimit) {
  NameStreams streams;
  uint64_t number = 0;
  for (int i = 0; i < 100; ++i) {
    const Ahead ahead = streams.observe(1, number);
    ASSERT_LE(ahead.count, kMaximumNamesAhead);
    number = ahead.count == 0 ? number + 1 : ahead.first + ahead.count;
  }
}

TEST(NameStreams, WhoSkipsSomeNamesIsFollowed) {
  NameStreams streams;
  streams.observe(1, 10);
  streams.observe(1, 13);
  EXPECT_EQ(streams.observe(1, 15).first, 16U);
}

TEST(NameStreams, RandomAndBackwardLookupsLearnNothing) {
  NameStreams streams;
  for (const uint64_t number : {500, 20, 900, 1, 350, 349, 348, 347, 700, 100}) {
    EXPECT_EQ(streams.observe(1, number), Ahead{}) << number;
  }
}

TEST(NameStreams, AskingAgainForTheSameNamesLearnsThemOnce) {
  NameStreams streams;
  for (const uint64_t number : {10, 11, 12}) streams.observe(1, number);
  for (const uint64_t number : {12, 13, 14, 15}) EXPECT_EQ(streams.observe(1, number), Ahead{}) << number;
}

TEST(NameStreams, DirectoriesAreFollowedApart) {
  NameStreams streams;
  for (uint64_t number = 0; number < 2; ++number) {
    for (uint32_t directory = 1; directory <= 8; ++directory)
      streams.observe(directory, directory * 1000 + number);
  }
  for (uint32_t directory = 1; directory <= 8; ++directory) {
    EXPECT_EQ(streams.observe(directory, directory * 1000 + 2).count, kMinimumNamesAhead);
  }
}

}  // namespace
}  // namespace cached::volume
