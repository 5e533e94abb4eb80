// The index memfd: superblock, block index, name table. Written by the daemon, mapped read-only by clients.
//
// PROTOCOL.md describes the same for those who write a client in another language. Change both, and
// kProtocolVersion.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "shm/seq_table.h"
#include "shm/types.h"

namespace cached::shm {

inline constexpr uint32_t kProtocolVersion = 1;
inline constexpr uint64_t kIndexMagic = 0x3158444944484343ULL;  // "CCHDIDX1"
inline constexpr unsigned kMaximumShards = 16;

// A piece of a block that is present: bytes [start, start + length) of the block lie at arena page `page`. A
// block that is present as a whole has one record with start 0; several records for one block hold different
// pieces of it.
struct BlockRecord {
  BlockKey key;
  uint32_t page = 0;    // arena offset / kPageBytes
  uint32_t start = 0;   // offset in the block, bytes; a multiple of kChunkBytes
  uint32_t length = 0;  // bytes of content; the last piece of an object may end anywhere
  uint32_t flags = 0;
  uint64_t reserved[2] = {};
  bool covers(uint32_t offset_in_block) const {
    return offset_in_block >= start && offset_in_block - start < length;
  }
};
static_assert(sizeof(BlockRecord) == 56 && sizeof(SeqRecord<BlockRecord>) == 64 &&
              offsetof(BlockRecord, page) == 24);

enum NameFlags : uint32_t {
  kNameAbsent = 1U << 0,  // the name is known not to exist
};

// (volume, parent handle, name) -> handle. The name is present as its keyed 128-bit hash (hash.h), so a
// record has one size for every name; the key is secret to those who may map the table, so nobody outside can
// make two names collide.
struct NameRecord {
  uint64_t name_hash_high = 0;
  uint64_t name_hash_low = 0;
  Handle child;
  uint64_t validated_at_ns = 0;
  uint32_t flags = 0;  // NameFlags
  uint32_t volume = 0;
  uint64_t reserved = 0;
};
static_assert(sizeof(NameRecord) == 56 && sizeof(SeqRecord<NameRecord>) == 64);

// (volume, handle) -> all that is known of the inode.
struct InodeRecord {
  InodeInfo info;
  uint32_t volume = 0;
  uint32_t reserved0 = 0;
  uint64_t reserved1[3] = {};
};
static_assert(sizeof(InodeRecord) == 184 && sizeof(SeqRecord<InodeRecord>) == 192);

// Where a table lies in the memfd.
struct TableGeometry {
  uint64_t offset_bytes = 0;
  uint64_t buckets_per_partition = 0;  // a power of two
  uint32_t partitions = 0;
  uint32_t record_bytes = 0;
};
static_assert(sizeof(TableGeometry) == 24);

// A shard's sleeping flag, alone in its cache line. 1: the shard waits in the kernel and must be woken by its
// eventfd.
struct alignas(64) ShardState {
  std::atomic<uint32_t> sleeping;
  uint32_t reserved[15];
};
static_assert(sizeof(ShardState) == 64);

struct IndexSuperblock {
  uint64_t magic;
  uint32_t version;
  uint32_t shards;
  uint64_t total_bytes;
  uint64_t arena_bytes;
  uint64_t daemon_instance;  // random; differs for every start of the daemon
  uint64_t name_hash_key[2];
  TableGeometry blocks;
  TableGeometry names;
  TableGeometry inodes;
  uint64_t reserved[16];
  ShardState shard_states[kMaximumShards];
};
static_assert(offsetof(IndexSuperblock, blocks) == 56 && offsetof(IndexSuperblock, shard_states) == 256 &&
              sizeof(IndexSuperblock) == 256 + 64 * kMaximumShards);
static_assert(sizeof(IndexSuperblock) <= kPageBytes);

}  // namespace cached::shm
