// The allocator's figures: see heap.h.
#include "base/heap.h"

#include <malloc.h>

#include <cstddef>

// Weak, because programs that bring another allocator (the sanitizers', the mount's glibc) do not link
// tcmalloc.
extern "C" __attribute__((weak)) int MallocExtension_GetNumericProperty(const char* property, size_t* value);

namespace cached {
namespace {

uint64_t tcmalloc_property(const char* property) {
  size_t value = 0;
  return MallocExtension_GetNumericProperty(property, &value) != 0 ? value : 0;
}

}  // namespace

HeapFigures heap_figures() {
  if (MallocExtension_GetNumericProperty == nullptr) {
    const struct mallinfo2 info = mallinfo2();
    return {.allocated_bytes = info.uordblks + info.hblkhd, .mapped_bytes = info.arena + info.hblkhd};
  }
  return {.allocated_bytes = tcmalloc_property("generic.current_allocated_bytes"),
          .mapped_bytes =
              tcmalloc_property("generic.heap_size") - tcmalloc_property("tcmalloc.pageheap_unmapped_bytes")};
}

}  // namespace cached
