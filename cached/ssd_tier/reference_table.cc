#include "cached/ssd_tier/reference_table.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <new>

#include "base/units.h"

namespace cached::ssd_tier {

namespace {

constexpr uint64_t kSubTableEntries = 8192;    // at the expected number of entries
constexpr uint32_t kMaximumBuckets = 4096;     // of a sub-table: for four times as many
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
          kMaximumSubTableBits, static_cast<unsigned>(std::countr_zero(
                                    std::bit_ceil((entries + kSubTableEntries - 1) / kSubTableEntries))))),
      memory_((size_t{kMaximumBuckets} * sizeof(Bucket)) << sub_table_bits_),
      sub_tables_(size_t{1} << sub_table_bits_) {
  if (memory_.size() == 0 || !memory_.commit(0, memory_.size())) throw std::bad_alloc();
  for (size_t i = 0; i < sub_tables_.size(); ++i) {
    SubTable& table = sub_tables_[i];
    table.nominal = first_buckets(i);
    table.bucket_count = whole_pages(table.nominal);
    table.buckets = reinterpret_cast<Bucket*>(memory_.data()) + i * kMaximumBuckets;
    memory_bytes_ += sizeof(SubTable) + table.bucket_count * sizeof(Bucket);
  }
}

// So many buckets, and those that share their last page.
uint32_t ReferenceTable::whole_pages(uint32_t buckets) {
  constexpr uint32_t kPageBytes = 4096;
  return static_cast<uint32_t>(align_up(buckets, kPageBytes / sizeof(Bucket)));
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

void ReferenceTable::expect(uint64_t entries) {
  const double mean = static_cast<double>(entries) / static_cast<double>(sub_tables_.size());
  expected_each_ = mean + 3 * std::sqrt(mean);  // they scatter
}

bool ReferenceTable::reserve(const EntrySlabs& entries, const Hash& hash, uint64_t budget_bytes) {
  SubTable& table = sub_tables_[sub_table_of(hash.fingerprint)];
  if (table.used + 1 <= most_entries(table.bucket_count)) return true;
  const uint32_t nominal = next_nominal(table, budget_bytes);
  const uint32_t bucket_count = whole_pages(nominal);
  const uint64_t growth_bytes = (bucket_count - table.bucket_count) * sizeof(Bucket);
  if (bucket_count > kMaximumBuckets || growth_bytes > budget_bytes) return false;
  table.nominal = nominal;
  grow(entries, table, bucket_count);
  memory_bytes_ += growth_bytes;
  return true;
}

// One step on, or as many as bring room for what is expected, if the budget has that.
uint32_t ReferenceTable::next_nominal(const SubTable& table, uint64_t budget_bytes) const {
  uint32_t next = table.nominal;
  do {
    next += next / 2;
  } while (whole_pages(next) <= table.bucket_count);
  uint32_t wanted = next;
  while (most_entries(whole_pages(wanted)) < expected_each_ && wanted < kMaximumBuckets) wanted += wanted / 2;
  const bool fits = whole_pages(wanted) <= kMaximumBuckets &&
                    (whole_pages(wanted) - table.bucket_count) * sizeof(Bucket) <= budget_bytes;
  return fits ? wanted : next;
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
  outgrown_.assign(table.buckets, table.buckets + table.bucket_count);
  std::fill_n(table.buckets, table.bucket_count, Bucket{});
  table.bucket_count = bucket_count;
  table.used = 0;
  // Entries lie anywhere in memory: ask for those of the buckets ahead, so that several come at once.
  constexpr size_t kAhead = 2;
  for (size_t number = 0; number < outgrown_.size() + kAhead; ++number) {
    if (number < outgrown_.size()) {
      const Bucket& ahead = outgrown_[number];
      for (unsigned used = ahead.used; used != 0; used &= used - 1) {
        entries.prefetch(ahead.refs[static_cast<size_t>(std::countr_zero(used))]);
      }
    }
    if (number < kAhead) continue;
    const Bucket& bucket = outgrown_[number - kAhead];
    for (unsigned used = bucket.used; used != 0; used &= used - 1) {
      const auto slot = static_cast<size_t>(std::countr_zero(used));
      const EntryRef ref = bucket.refs[slot];
      table.insert(home_of(entries[ref].fingerprint(), bucket_count), bucket.tags[slot], ref);
    }
  }
}

}  // namespace cached::ssd_tier
