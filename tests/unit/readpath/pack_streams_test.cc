// What counts as a stream through packs.
#include "cached/readpath/pack_streams.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace cached::readpath {
namespace {

constexpr uint64_t kFile = 64 * 1024;

shm::ObjectId pack(uint64_t number) {
  return {1, number};
}

TEST(PackStreams, ThirdReadInOrderNamesTheRestAndOnePackMore) {
  PackStreams streams;
  EXPECT_FALSE(streams.note(pack(1), 0, kFile).rest);
  EXPECT_FALSE(streams.note(pack(1), kFile, 2 * kFile).rest);
  const PackStreams::Ahead ahead = streams.note(pack(1), 2 * kFile, 3 * kFile);
  EXPECT_TRUE(ahead.rest);
  EXPECT_EQ(ahead.packs, 1U);
  EXPECT_FALSE(streams.note(pack(1), 3 * kFile, 4 * kFile).rest) << "once is enough";
}

TEST(PackStreams, ReadsOfSeveralThreadsComeALittleOutOfOrder) {
  PackStreams streams;
  EXPECT_FALSE(streams.note(pack(1), 2 * kFile, 3 * kFile).rest);
  EXPECT_FALSE(streams.note(pack(1), 0, kFile).rest);
  EXPECT_TRUE(streams.note(pack(1), 5 * kFile, 6 * kFile).rest);
}

TEST(PackStreams, ReadsFarApartAreNoStream) {
  PackStreams streams;
  for (uint64_t at : {0, 40, 3, 50, 20, 60})
    EXPECT_FALSE(streams.note(pack(1), at * kFile, (at + 1) * kFile).rest);
}

TEST(PackStreams, WindowDoublesFromPackToPackUpToItsLimit) {
  PackStreams streams;
  unsigned window = 1;
  for (uint64_t number = 1; number < 8; ++number) {
    streams.announce(pack(number), window);
    const PackStreams::Ahead ahead = streams.note(pack(number), 0, kFile);
    EXPECT_EQ(ahead.packs, std::min(2 * window, PackStreams::kLongestWindow));
    window = ahead.packs;
  }
}

TEST(PackStreams, AnnouncingAPackThatAReaderHasMetChangesNothing) {
  PackStreams streams;
  streams.announce(pack(1), 2);
  EXPECT_TRUE(streams.note(pack(1), 0, kFile).rest);
  streams.announce(pack(1), 4);
  EXPECT_FALSE(streams.note(pack(1), kFile, 2 * kFile).rest);
}

TEST(PackStreams, PacksThatNobodyCameBackToAreForgotten) {
  PackStreams streams;
  streams.announce(pack(1), 4);
  for (uint64_t number = 100; number < 200; ++number) (void)streams.note(pack(number), 0, kFile);
  EXPECT_FALSE(streams.knows(pack(1)));
  EXPECT_TRUE(streams.knows(pack(199)));
}

}  // namespace
}  // namespace cached::readpath
