#include "cached/memory_tier/size_classes.h"

#include <gtest/gtest.h>

namespace cached::memory_tier {
namespace {

TEST(SizeClasses, SmallestClassThatHoldsTheLength) {
  for (uint32_t length = 1; length <= shm::kBlockBytes; ++length) {
    const unsigned size_class = class_of_length(length);
    ASSERT_LT(size_class, kSizeClasses);
    ASSERT_LE(length, pages_of_class(size_class) * shm::kPageBytes);
    if (size_class > 0) {
      ASSERT_GT(length, pages_of_class(size_class - 1) * shm::kPageBytes);
    }
  }
}

TEST(SizeClasses, MeanWasteOfEveryClassAbove32KiBIsAtMostEightPercent) {
  for (unsigned size_class = class_of_length(32 * 1024) + 1; size_class < kSizeClasses; ++size_class) {
    const double slot_pages = pages_of_class(size_class);
    const double mean_waste_pages = (slot_pages - pages_of_class(size_class - 1)) / 2;
    EXPECT_LE(mean_waste_pages / slot_pages, 0.08) << slot_pages << " pages";
  }
}

TEST(SizeClasses, SlotsFillTheirRegionToNinetySixPercent) {
  for (unsigned size_class = 0; size_class < kSizeClasses; ++size_class) {
    EXPECT_GE(slots_per_region(size_class) * pages_of_class(size_class), kPagesPerRegion * 96 / 100)
        << size_class;
  }
}

}  // namespace
}  // namespace cached::memory_tier
