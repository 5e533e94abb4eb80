// Tests of the allocator's figures. Unit tests are not linked with tcmalloc, so these are glibc's; the system
// test of the metrics sees tcmalloc's.
#include "base/heap.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

namespace cached {
namespace {

// The sanitizers' allocators keep no such figures.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kHasFigures = false;
#else
constexpr bool kHasFigures = true;
#endif

TEST(HeapFigures, GrowByWhatIsAllocatedAndShrinkAgain) {
  if (!kHasFigures) GTEST_SKIP() << "a sanitizer's allocator has no figures";
  constexpr size_t kBytes = 32 << 20;
  const uint64_t before_bytes = heap_figures().allocated_bytes;
  {
    const std::vector<std::byte> block(kBytes);
    EXPECT_GE(heap_figures().allocated_bytes, before_bytes + kBytes);
    EXPECT_GE(heap_figures().mapped_bytes, heap_figures().allocated_bytes);
  }
  EXPECT_LT(heap_figures().allocated_bytes, before_bytes + kBytes);
}

}  // namespace
}  // namespace cached
