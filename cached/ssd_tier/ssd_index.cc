#include "cached/ssd_tier/ssd_index.h"

#include <algorithm>
#include <utility>

#include "shm/hash.h"

namespace cached::ssd_tier {

namespace {

// Bytes an entry, for the number of sub-tables: what a 128 KiB block takes.
constexpr uint64_t kExpectedEntryBytes = 64;
// How many buckets insert_unknown() asks memory for at a time.
constexpr size_t kInsertsAhead = 16;

Location location_of(const IndexEntry& entry, const Layout& layout) {
  return {entry.device, layout.segment_of(entry.offset_bytes()), entry.offset_bytes(), entry.length_bytes()};
}

memory_tier::DataSetCount count_of(const IndexEntry& entry) {
  return {1, entry.length_bytes(), entry.head, 0};
}

}  // namespace

SsdIndex::SsdIndex(uint64_t limit_bytes)
    : limit_bytes_(std::max(limit_bytes, kMinimumLimitBytes)), table_(limit_bytes_ / kExpectedEntryBytes) {}

void SsdIndex::add_device(uint32_t device, const Layout& layout) {
  devices_[device] = {layout, std::vector<Segment>(layout.segment_count)};
  segment_list_bytes_ += layout.segment_count * sizeof(Segment);
}

bool SsdIndex::insert(const shm::BlockKey& key, const Location& location, const Checksums& checksums) {
  const ReferenceTable::Hash hash = ReferenceTable::split(shm::hash_block(key));
  EntryRef* const older = table_.find(entries_, hash);
  if (older != nullptr) {
    const EntryRef replaced = *older;
    mark_removed(entries_[replaced]);
    const EntryRef ref = make_entry(key, hash.fingerprint, location, checksums);
    if (ref == kNoEntry) {
      table_.erase(hash.fingerprint, replaced);
      return false;
    }
    *older = ref;
    return true;
  }
  return add(hash, key, location, checksums);
}

bool SsdIndex::add(const ReferenceTable::Hash& hash, const shm::BlockKey& key, const Location& location,
                   const Checksums& checksums) {
  if (!table_.reserve(entries_, hash, budget_bytes())) return false;
  const EntryRef ref = make_entry(key, hash.fingerprint, location, checksums);
  if (ref == kNoEntry) return false;
  table_.insert(hash, ref);
  return true;
}

bool SsdIndex::insert_unknown(std::span<const RecoveredEntry> entries) {
  std::array<ReferenceTable::Hash, kInsertsAhead> hashes;
  bool all = true;
  for (size_t i = 0; i < entries.size() + kInsertsAhead; ++i) {
    ReferenceTable::Hash& hash = hashes[i % kInsertsAhead];
    if (i >= kInsertsAhead && table_.find(entries_, hash) == nullptr) {
      const RecoveredEntry& entry = entries[i - kInsertsAhead];
      all = add(hash, entry.key, entry.location, entry.checksums) && all;
    }
    if (i >= entries.size()) continue;
    hash = ReferenceTable::split(shm::hash_block(entries[i].key));
    __builtin_prefetch(table_.first_read(hash));
  }
  return all;
}

std::optional<Found> SsdIndex::find(const shm::BlockKey& key) const {
  const EntryRef* const ref = table_.find(entries_, ReferenceTable::split(shm::hash_block(key)));
  if (ref == nullptr) return std::nullopt;
  const IndexEntry& entry = entries_[*ref];
  Found found{location_of(entry, devices_[entry.device].layout), {}, entry.data_set};
  std::copy_n(entries_.checksums(*ref), EntrySlabs::chunks(*ref), found.checksums.begin());
  return found;
}

bool SsdIndex::contains(const shm::BlockKey& key) const {
  return table_.find(entries_, ReferenceTable::split(shm::hash_block(key))) != nullptr;
}

void SsdIndex::retag(const shm::BlockKey& key) {
  const EntryRef* const ref = table_.find(entries_, ReferenceTable::split(shm::hash_block(key)));
  if (ref == nullptr) return;
  IndexEntry& entry = entries_[*ref];
  use_.remove(entry.data_set, count_of(entry));
  entry.data_set = key.data_set;
  use_.add(entry.data_set, count_of(entry));
}

bool SsdIndex::remove(const shm::BlockKey& key, const Location& location) {
  const ReferenceTable::Hash hash = ReferenceTable::split(shm::hash_block(key));
  const EntryRef* const ref = table_.find(entries_, hash);
  if (ref == nullptr) return false;
  IndexEntry& entry = entries_[*ref];
  if (entry.device != location.device || entry.offset_bytes() != location.offset_bytes) return false;
  mark_removed(entry);
  table_.erase(hash.fingerprint, *ref);
  return true;
}

SsdIndex::Removed SsdIndex::drop_segment(uint32_t device, uint32_t segment) {
  Removed removed;
  Segment& list = devices_[device].segments[segment];
  for (EntryRef ref = std::exchange(list.first, kNoEntry); ref != kNoEntry;) {
    IndexEntry& entry = entries_[ref];
    const EntryRef next = entry.next;
    if (next != kNoEntry) entries_.prefetch(next);
    if (entry.removed == 0) {
      ++removed.entries;
      removed.bytes += entry.length_bytes();
      table_.erase(entry.fingerprint(), ref);
      mark_removed(entry);
    }
    entries_.free(ref);
    ref = next;
  }
  return removed;
}

SsdIndex::Removed SsdIndex::drop_device(uint32_t device) {
  Removed removed;
  for (uint32_t segment = 0; segment < devices_[device].segments.size(); ++segment) {
    const Removed part = drop_segment(device, segment);
    removed.entries += part.entries;
    removed.bytes += part.bytes;
  }
  segment_list_bytes_ -= devices_[device].segments.size() * sizeof(Segment);
  devices_[device] = {};
  return removed;
}

SsdIndex::Segment& SsdIndex::segment_of(const IndexEntry& entry) {
  Device& device = devices_[entry.device];
  return device.segments[device.layout.segment_of(entry.offset_bytes())];
}

EntryRef SsdIndex::make_entry(const shm::BlockKey& key, uint64_t fingerprint, const Location& location,
                              const Checksums& checksums) {
  const uint32_t chunks = chunks_of(location.length_bytes);
  const EntryRef ref = entries_.allocate(chunks, budget_bytes());
  if (ref == kNoEntry) return kNoEntry;
  Segment& segment = devices_[location.device].segments[location.segment];
  const uint64_t position = location.offset_bytes / kUnitBytes;
  IndexEntry& entry = entries_[ref];
  entry.fingerprint_low = static_cast<uint32_t>(fingerprint);
  entry.fingerprint_high = static_cast<uint16_t>(fingerprint >> 32);
  entry.data_set = key.data_set;
  entry.position_low = static_cast<uint32_t>(position);
  entry.position_high = static_cast<uint32_t>(position >> 32) & 0x3f;
  entry.device = location.device & 0x3f;
  entry.length_less_one = (location.length_bytes - 1) & 0x1ffff;
  entry.removed = 0;
  entry.head = key.block == 0 ? 1 : 0;
  entry.spare = 0;
  entry.next = std::exchange(segment.first, ref);
  std::copy_n(checksums.begin(), chunks, entries_.checksums(ref));
  DeviceTotals& totals = devices_[location.device].totals;
  totals.bytes += location.length_bytes;
  ++totals.entries;
  segment.live_bytes += location.length_bytes;
  bytes_live_ += location.length_bytes;
  ++entry_count_;
  use_.add(entry.data_set, count_of(entry));
  return ref;
}

void SsdIndex::mark_removed(IndexEntry& entry) {
  entry.removed = 1;
  DeviceTotals& totals = devices_[entry.device].totals;
  totals.bytes -= entry.length_bytes();
  --totals.entries;
  segment_of(entry).live_bytes -= entry.length_bytes();
  bytes_live_ -= entry.length_bytes();
  --entry_count_;
  use_.remove(entry.data_set, count_of(entry));
}

}  // namespace cached::ssd_tier
