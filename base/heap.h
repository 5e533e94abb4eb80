// What the process has of its allocator, by the allocator's own figures: growth of the first is a leak, of
// the second alone fragmentation.
#pragma once

#include <cstdint>

namespace cached {

struct HeapFigures {
  uint64_t allocated_bytes = 0;  // handed out and not given back
  uint64_t mapped_bytes = 0;     // taken from the system for it, what was returned to it left out
};

// Of tcmalloc ("generic.current_allocated_bytes"; "generic.heap_size" without
// "tcmalloc.pageheap_unmapped_bytes", gperftools/malloc_extension.h) where the program is linked with it,
// else of glibc (mallinfo2). Any thread; takes the allocator's locks for some microseconds.
HeapFigures heap_figures();

}  // namespace cached
