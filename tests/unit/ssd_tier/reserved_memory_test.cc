// Address space whose pages come and go.
#include "cached/ssd_tier/reserved_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace cached::ssd_tier {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kMegabyte = 1 << 20;

size_t resident_pages(const ReservedMemory& memory, size_t length_bytes) {
  std::array<unsigned char, 256> pages{};
  EXPECT_LE(length_bytes / kPage, pages.size());
  EXPECT_EQ(::mincore(memory.data(), length_bytes, pages.data()), 0);
  return static_cast<size_t>(
      std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; }));
}

TEST(ReservedMemory, TakesPagesAsTheyAreUsedAndGivesThemBack) {
  // More than a machine for tests has, and little of the 1.5 TiB of addresses that ThreadSanitizer leaves us.
  constexpr size_t kLarge = 100'000 * kMegabyte;
  ReservedMemory memory(kLarge);
  ASSERT_EQ(memory.size(), kLarge);
  ASSERT_TRUE(memory.commit(0, kMegabyte));
  EXPECT_EQ(resident_pages(memory, kMegabyte), 0U);
  std::memset(memory.data(), 1, 10 * kPage);
  EXPECT_EQ(resident_pages(memory, kMegabyte), 10U);
  memory.give_back(2 * kPage, 4 * kPage);
  EXPECT_EQ(resident_pages(memory, kMegabyte), 6U);
  EXPECT_EQ(memory.data()[0], std::byte{1});
  EXPECT_EQ(memory.data()[3 * kPage], std::byte{0});
}

TEST(ReservedMemory, IsEmptyWhereTheKernelRefuses) {
  const ReservedMemory memory(size_t{1} << 60);
  EXPECT_EQ(memory.size(), 0U);
}

TEST(ReservedMemory, MovesWithWhatItHolds) {
  ReservedMemory memory(kMegabyte);
  ASSERT_TRUE(memory.commit(kPage, kPage));
  memory.data()[kPage] = std::byte{7};
  const ReservedMemory moved = std::move(memory);
  EXPECT_EQ(moved.data()[kPage], std::byte{7});
}

}  // namespace
}  // namespace cached::ssd_tier
