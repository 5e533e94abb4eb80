// Segments as a daemon would have written them, for measuring recovery: real encoders, no data.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "cached/io/device.h"
#include "cached/ssd_tier/superblock.h"

namespace cached::bench {

struct SyntheticSegments {
  uint32_t first = 0;
  uint32_t end = 0;                  // behind the last one
  uint32_t entry_bytes = 128 << 10;  // of every entry
  uint64_t maximum_entries = UINT64_MAX;
};

// Fills segments with entries of unique keys and seals them. `superblock` is that of a start which was
// counted for this (begin_start). Writes what recovery reads of a sealed segment: the first batch's header
// and the footer; what lies between stays as it is, so a read of these entries fails its checksum. Returns
// the number of entries. Blocks.
Result<uint64_t> write_synthetic_segments(io::Device* device, const ssd_tier::Superblock& superblock,
                                          const SyntheticSegments& segments);

}  // namespace cached::bench
