// ReferenceTable: from a key's hash to its entry. A part of SsdIndex, for its files only.
//
// Buckets of one cache line hold 12 references and 12 tags of 8 bits; an entry that finds its bucket full
// goes to the next one with room, and every bucket that it passed counts it, so that a search ends at the
// first bucket that nobody passed. The top bits of the hash choose a sub-table, the 32 bits below them the
// bucket, the lowest 8 are the tag. The rest of the hash is compared in the entry, which the table does not
// read but to find its bucket when a sub-table grows. Each sub-table grows in its own part of one address
// space.
//
// One thread.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cached/ssd_tier/entry_slabs.h"
#include "cached/ssd_tier/reserved_memory.h"

namespace cached::ssd_tier {

class ReferenceTable {
 public:
  // Made for up to `entries` in sub-tables of some thousand each.
  explicit ReferenceTable(uint64_t entries);

  // What a key is looked up by: two disjoint parts of its hash.
  struct Hash {
    uint64_t fingerprint;  // 48 bits
    uint8_t tag;
  };
  static Hash split(uint64_t hash) { return {hash >> 16, static_cast<uint8_t>(hash)}; }

  // The place of a reference; null: not found. Valid until the next insert().
  EntryRef* find(const EntrySlabs& entries, const Hash& hash);
  const EntryRef* find(const EntrySlabs& entries, const Hash& hash) const;

  // Where find() and insert() will read first, to be asked for ahead. (The caller asks: g++ 12 takes a
  // function that only prefetches for one without effect.)
  const void* first_read(const Hash& hash) const {
    const SubTable& table = sub_tables_[sub_table_of(hash.fingerprint)];
    return &table.buckets[home_of(hash.fingerprint, table.bucket_count)];
  }

  // So many entries are to be expected, all told: sub-tables that must grow grow to their share of it at
  // once.
  void expect(uint64_t entries);
  // Makes room for one more entry of this hash. False if that takes more than `budget_bytes` of new memory.
  bool reserve(const EntrySlabs& entries, const Hash& hash, uint64_t budget_bytes);
  // Adds a reference; reserve() came before, and find() finds nothing.
  void insert(const Hash& hash, EntryRef ref);
  // Removes the reference `ref`, whose entry has this fingerprint. It must be there.
  void erase(uint64_t fingerprint, EntryRef ref);

  uint64_t memory_bytes() const { return memory_bytes_; }

 private:
  static constexpr uint32_t kSlots = 12;
  struct alignas(64) Bucket {
    std::array<EntryRef, kSlots> refs;
    std::array<uint8_t, kSlots> tags;
    uint16_t used;    // bit i: slot i
    uint16_t passed;  // entries that belong here or before and lie behind
  };
  static_assert(sizeof(Bucket) == 64);
  static constexpr uint16_t kFull = (1U << kSlots) - 1;

  struct SubTable {
    Bucket* buckets = nullptr;
    uint32_t nominal = 0;  // buckets: what is rounded up to whole pages
    uint32_t bucket_count = 0;
    uint32_t used = 0;

    uint32_t next(uint32_t bucket) const { return bucket + 1 == bucket_count ? 0 : bucket + 1; }
    void insert(uint32_t home, uint8_t tag, EntryRef ref);
  };

  size_t sub_table_of(uint64_t fingerprint) const { return fingerprint >> (48 - sub_table_bits_); }
  uint32_t home_of(uint64_t fingerprint, uint32_t bucket_count) const {
    const auto fraction = static_cast<uint32_t>(fingerprint << sub_table_bits_ >> 16);
    return static_cast<uint32_t>(uint64_t{fraction} * bucket_count >> 32);
  }
  static uint32_t whole_pages(uint32_t buckets);
  static uint32_t most_entries(uint32_t bucket_count) { return bucket_count * kSlots / 8 * 7; }
  uint32_t next_nominal(const SubTable& table, uint64_t budget_bytes) const;
  void grow(const EntrySlabs& entries, SubTable& table, uint32_t bucket_count);

  unsigned sub_table_bits_;
  ReservedMemory memory_;
  std::vector<SubTable> sub_tables_;
  std::vector<Bucket> outgrown_;  // of the sub-table that grows
  double expected_each_ = 0;      // entries of a sub-table
  uint64_t memory_bytes_ = 0;
};

}  // namespace cached::ssd_tier
