// The hashes that both sides must compute alike.
#pragma once

#include <xxhash.h>

#include <cstdint>
#include <string_view>

#include "shm/types.h"

namespace cached::shm {

// XXH3_64bits over the 24 bytes {object.high, object.low, block, volume, 0}, little-endian: the identity of a
// block.
inline uint64_t hash_block(const BlockKey& key) {
  BlockKey identity = key;
  identity.data_set = 0;
  return XXH3_64bits(&identity, sizeof identity);
}

// XXH3_64bits over {object.high, object.low, extent, volume} with extent = block / 32: blocks of one 4 MiB
// extent share a shard, and with it a partition of the block index.
inline uint64_t hash_extent(const BlockKey& key) {
  struct {
    ObjectId object;
    uint32_t extent;
    uint32_t volume;
  } identity{key.object, static_cast<uint32_t>(key.block / (kExtentBytes / kBlockBytes)), key.volume};
  static_assert(sizeof identity == 24);
  return XXH3_64bits(&identity, sizeof identity);
}

// XXH3_64bits over {handle.high, handle.low, volume as u64}.
inline uint64_t hash_inode(const Handle& handle, uint32_t volume) {
  struct {
    Handle handle;
    uint64_t volume;
  } identity{handle, volume};
  return XXH3_64bits(&identity, sizeof identity);
}

struct NameHash {
  uint64_t high = 0;
  uint64_t low = 0;
  friend bool operator==(const NameHash&, const NameHash&) = default;
};

// SipHash-2-4-128 with the superblock's key over {volume u32, parent.high u64, parent.low u64, name bytes},
// little-endian; `high` is the first half of the output. `name` is at most 255 bytes; a longer one is cut (no
// file system has it). The table's bucket hash of a name is `low`.
NameHash hash_name(const uint64_t key[2], uint32_t volume, const Handle& parent, std::string_view name);

}  // namespace cached::shm
