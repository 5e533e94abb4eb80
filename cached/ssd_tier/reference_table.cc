#include "cached/ssd_tier/reference_table.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace cached::ssd_tier {

namespace {

constexpr uint64_t kSubTableEntries = 4096;    // at the expected number of entries
constexpr unsigned kMaximumSubTableBits = 16;  // 48 bits less these must leave the 32 that choose a bucket
constexpr double kGrowth = 1.5;
constexpr double kFirstBuckets = 16;
constexpr double kGoldenRatio = 0.6180339887498949;

// The first size of sub-table `number`: spread evenly (on a logarithmic scale) over one step of growth, so
// that sub-tables, which fill alike, grow at different times.
uint32_t first_buckets(size_t number) {
  const double phase = std::fmod(static_cast<double>(number) * kGoldenRatio, 1.0);
  return static_cast<uint32_t>(std::lround(kFirstBuckets * std::pow(kGrowth, phase)));
}

}  // namespace

ReferenceTable::ReferenceTable(uint64_t entries)
    : sub_table_bits_(std::min<unsigned>(
          kMaximumSubTableBits,
          static_cast<unsigned>(std::countr_zero(std::bit_ceil(entries / kSubTableEntries + 1))))),
      sub_tables_(size_t{1} << sub_table_bits_) {
  for (size_t i = 0; i < sub_tables_.size(); ++i) {
    SubTable& table = sub_tables_[i];
    table.bucket_count = first_buckets(i);
    table.buckets = std::make_unique<Bucket[]>(table.bucket_count);
    memory_bytes_ += sizeof(SubTable) + table.bucket_count * sizeof(Bucket);
  }
}

const EntryRef* ReferenceTable::find(const EntrySlabs& entries, const Hash& hash) const {
  const SubTable& table = sub_tables_[sub_table_of(hash.fingerprint)];
  uint32_t number = home_of(hash.fingerprint, table.bucket_count);
  for (uint32_t step = 0; step < table.bucket_count; ++step, number = table.next(number)) {
    const Bucket& bucket = table.buckets[number];
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
      if (bucket.tags[slot] != hash.tag || (bucket.used >> slot & 1) == 0) continue;
      if (entries[bucket.refs[slot]].fingerprint() == hash.fingerprint) return &bucket.refs[slot];
    }
    if (bucket.passed == 0) break;
  }
  return nullptr;
}

EntryRef* ReferenceTable::find(const EntrySlabs& entries, const Hash& hash) {
  return const_cast<EntryRef*>(std::as_const(*this).find(entries, hash));
}

bool ReferenceTable::reserve(const EntrySlabs& entries, const Hash& hash, uint64_t budget_bytes) {
  SubTable& table = sub_tables_[sub_table_of(hash.fingerprint)];
  if (table.used + 1 <= table.bucket_count * kSlots / 8 * 7) return true;
  const uint32_t bucket_count = table.bucket_count + table.bucket_count / 2;
  const uint64_t growth_bytes = (bucket_count - table.bucket_count) * sizeof(Bucket);
  if (growth_bytes > budget_bytes) return false;
  grow(entries, table, bucket_count);
  memory_bytes_ += growth_bytes;
  return true;
}

void ReferenceTable::insert(const Hash& hash, EntryRef ref) {
  SubTable& table = sub_tables_[sub_table_of(hash.fingerprint)];
  table.insert(home_of(hash.fingerprint, table.bucket_count), hash.tag, ref);
}

void ReferenceTable::erase(uint64_t fingerprint, EntryRef ref) {
  SubTable& table = sub_tables_[sub_table_of(fingerprint)];
  for (uint32_t number = home_of(fingerprint, table.bucket_count);; number = table.next(number)) {
    Bucket& bucket = table.buckets[number];
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
      if (bucket.refs[slot] != ref || (bucket.used >> slot & 1) == 0) continue;
      bucket.used = static_cast<uint16_t>(bucket.used & ~(1U << slot));
      --table.used;
      return;
    }
    --bucket.passed;  // the entry lies behind this bucket, and passes it no more
  }
}

void ReferenceTable::SubTable::insert(uint32_t home, uint8_t tag, EntryRef ref) {
  uint32_t number = home;
  while (buckets[number].used == kFull) {
    ++buckets[number].passed;
    number = next(number);
  }
  Bucket& bucket = buckets[number];
  const auto slot = static_cast<uint32_t>(std::countr_one(bucket.used));
  bucket.refs[slot] = ref;
  bucket.tags[slot] = tag;
  bucket.used = static_cast<uint16_t>(bucket.used | 1U << slot);
  ++used;
}

void ReferenceTable::grow(const EntrySlabs& entries, SubTable& table, uint32_t bucket_count) {
  SubTable larger{std::make_unique<Bucket[]>(bucket_count), bucket_count, 0};
  // Entries lie anywhere in memory: ask for those of the buckets ahead, so that several come at once.
  constexpr uint32_t kAhead = 2;
  for (uint32_t number = 0; number < table.bucket_count + kAhead; ++number) {
    if (number < table.bucket_count) {
      const Bucket& ahead = table.buckets[number];
      for (unsigned used = ahead.used; used != 0; used &= used - 1) {
        entries.prefetch(ahead.refs[static_cast<size_t>(std::countr_zero(used))]);
      }
    }
    if (number < kAhead) continue;
    const Bucket& bucket = table.buckets[number - kAhead];
    for (unsigned used = bucket.used; used != 0; used &= used - 1) {
      const auto slot = static_cast<size_t>(std::countr_zero(used));
      const EntryRef ref = bucket.refs[slot];
      larger.insert(home_of(entries[ref].fingerprint(), bucket_count), bucket.tags[slot], ref);
    }
  }
  table = std::move(larger);
}

}  // namespace cached::ssd_tier
