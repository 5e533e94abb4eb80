// NameTable: the one writer of the shared name and inode tables, which it keeps as bounded caches.
//
// A record is written over the record of the same key (unless that one is newer: answers may overtake each
// other), else into a free place, else over the record with the oldest validated_at among the candidates of
// its two buckets: that one is the nearest to being too old for its readers.
//
// Threads: shard 0's, throughout. Readers (shm::SeqTableReader) are anybody's.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "shm/hash.h"
#include "shm/index_layout.h"
#include "shm/seq_table.h"
#include "shm/types.h"

namespace cached::memory_tier {

struct NameTableStats {
  uint64_t names = 0;  // records present
  uint64_t inodes = 0;
  uint64_t name_displacements = 0;  // records lost because both their buckets were full
  uint64_t inode_displacements = 0;
};

class NameTable {
 public:
  // `name_hash_key` is the superblock's. The tables are those that `names` and `inodes` write, empty at this
  // time.
  NameTable(const uint64_t name_hash_key[2], shm::SeqTableWriter<shm::NameRecord> names,
            shm::SeqTableWriter<shm::InodeRecord> inodes);

  // (volume, parent, name) leads to `child`; the origin was asked at `validated_at_ns` (CLOCK_MONOTONIC) or
  // later.
  void put_name(uint32_t volume, const shm::Handle& parent, std::string_view name, const shm::Handle& child,
                uint64_t validated_at_ns);
  // (volume, parent, name) is known not to exist.
  void put_absent(uint32_t volume, const shm::Handle& parent, std::string_view name,
                  uint64_t validated_at_ns);
  // Nothing is known of (volume, parent, name) any more. False: nothing was.
  bool remove_name(uint32_t volume, const shm::Handle& parent, std::string_view name);

  // All that is known of inode info.handle; freshness is info.validated_at_ns.
  void put_inode(uint32_t volume, const shm::InodeInfo& info);
  bool remove_inode(uint32_t volume, const shm::Handle& handle);

  // What the tables hold, for the writer's own thread.
  std::optional<shm::NameRecord> find_name(uint32_t volume, const shm::Handle& parent,
                                           std::string_view name) const;
  std::optional<shm::InodeInfo> find_inode(uint32_t volume, const shm::Handle& handle) const;

  NameTableStats stats() const { return stats_; }

 private:
  void put_name_record(const shm::NameRecord& record);

  uint64_t name_hash_key_[2];
  shm::SeqTableWriter<shm::NameRecord> names_;
  shm::SeqTableWriter<shm::InodeRecord> inodes_;
  NameTableStats stats_;
};

}  // namespace cached::memory_tier
