// SsdIndex: where the blocks of one shard lie on the SSDs, and the checksums that prove them.
//
// Memory is what limits an SSD cache of small files, so an entry is 20 bytes and 4 for each chunk's checksum,
// and the key is not kept: 48 bits of its hash and 8 more in the table stand for it. Two keys that agree in
// those (one look-up in 10^9 with 10^8 entries) are one entry here; a read through it fails its checksum,
// which covers the key, and is a miss.
//
// Entries lie in slabs, one series for each number of chunks, and are named by a u32: 3 bits of series and 29
// of place. A table of buckets (one cache line: 12 references, 12 tags of 8 bits) finds them. It is divided
// into sub-tables by the hash's top bits, each of which grows by half on its own when it is 7/8 full: that
// moves at most some ten thousand entries, well below a millisecond, and since the sub-tables' sizes are
// staggered they do not grow at the same time and the table as a whole is always about 70 % full.
//
// Entries of one segment are linked, because segments are evicted as a whole. The link has one direction: an
// entry that is removed or replaced is unlinked only when its segment is dropped, and takes memory until
// then.
//
// Bytes for an entry, all told, the table's 7.1 included, as the kernel counts (10 million entries;
// ssd_index_test bounds them):
//     4 KiB   16 KiB   32 KiB   64 KiB   100 KiB   128 KiB
//      31.2     31.2     35.2     43.2      55.2      59.2
// So an index of 128 KiB blocks takes 0.45 GB for 1 TB of SSD, 1.35 GB for 3 TB, 4.5 GB for 10 TB.
//
// An insert costs about one and a half reads of memory that no cache holds, a look-up two; insert_unknown()
// waits for few of them.
//
// Owned by one shard, used by its thread only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "cached/memory_tier/data_set_use.h"
#include "cached/ssd_tier/entry_slabs.h"
#include "cached/ssd_tier/format.h"
#include "cached/ssd_tier/reference_table.h"
#include "shm/types.h"

namespace cached::ssd_tier {

inline constexpr uint32_t kMaximumDevices = 64;

// A place on a device.
struct Location {
  uint32_t device = 0;  // number of the device, below kMaximumDevices
  uint32_t segment = 0;
  uint64_t offset_bytes = 0;  // on the device, a multiple of kUnitBytes
  uint32_t length_bytes = 0;  // of the entry, 1..128 KiB
  friend bool operator==(const Location&, const Location&) = default;
};

struct Found {
  Location location;
  Checksums checksums{};  // beyond chunks_of(length_bytes): 0
  uint16_t data_set = 0;
};

// An entry that was found on a device at the start.
struct RecoveredEntry {
  shm::BlockKey key;
  uint64_t hash = 0;  // shm::hash_block(key)
  Location location;
  Checksums checksums{};
};

class SsdIndex {
 public:
  // Takes at most `limit_bytes` (memory_bytes()), at least kMinimumLimitBytes.
  explicit SsdIndex(uint64_t limit_bytes);
  SsdIndex(const SsdIndex&) = delete;
  SsdIndex& operator=(const SsdIndex&) = delete;

  static constexpr uint64_t kMinimumLimitBytes = 4 * kMiB;

  // Makes device number `device` known, which must not be. Before its first entry. Takes 12 bytes a segment.
  void add_device(uint32_t device, const Layout& layout);

  // Puts `key` at `location`, which lies in a segment of a known device; an older entry of the key is
  // replaced. `key.data_set` is kept for accounting. False at the memory limit; an older entry of the key is
  // gone all the same.
  bool insert(const shm::BlockKey& key, const Location& location, const Checksums& checksums);

  // So many entries more will come soon: the table grows to that in one step. Asks for nothing by itself.
  void expect(uint64_t entries);

  // Inserts those of `entries` whose keys are not known; what is known stays as it is. False if one met the
  // memory limit. Faster than one after the other: the table's memory for several is fetched at a time.
  // Faster again if their hashes agree in the topmost bits: then they meet in a part of the table that caches
  // hold.
  bool insert_unknown(std::span<const RecoveredEntry> entries);

  // Where `key` lies.
  std::optional<Found> find(const shm::BlockKey& key) const;
  bool contains(const shm::BlockKey& key) const;

  // `key`, if it is here, belongs to `key.data_set` from now on.
  void retag(const shm::BlockKey& key);

  // Removes `key` if it still is at `location` (device and offset). Whether it was.
  bool remove(const shm::BlockKey& key, const Location& location);

  struct Removed {
    uint64_t entries = 0;
    uint64_t bytes = 0;
  };
  // Removes every entry of the segment.
  Removed drop_segment(uint32_t device, uint32_t segment);
  // Removes every entry of a device, and forgets it. A full device takes long (seconds for 10 million
  // entries): a shard that serves readers drops segment by segment before.
  Removed drop_device(uint32_t device);

  // Takes `key` out; with `dry_run` only says what that would be.
  Removed evict(const shm::BlockKey& key, bool dry_run);
  // The same for the entries of a segment whose data set `matches`.
  Removed evict_in_segment(uint32_t device, uint32_t segment, const std::function<bool(uint16_t)>& matches,
                           bool dry_run);
  // Segments of a device; 0 if it is not known.
  uint32_t segment_count(uint32_t device) const {
    return static_cast<uint32_t>(devices_[device].segments.size());
  }
  // An entry of the segment was read or written at `now_s`, seconds of whatever clock; the last such time.
  void note_use(uint32_t device, uint32_t segment, uint32_t now_s) {
    devices_[device].segments[segment].used_at_s = now_s;
  }
  uint32_t used_at_s(uint32_t device, uint32_t segment) const {
    return devices_[device].segments[segment].used_at_s;
  }

  struct DeviceTotals {
    uint64_t entries = 0;
    uint64_t bytes = 0;
  };
  // Of the entries on one device.
  DeviceTotals device_totals(uint32_t device) const { return devices_[device].totals; }
  // Sum of the lengths of the segment's entries.
  uint64_t segment_live_bytes(uint32_t device, uint32_t segment) const {
    return devices_[device].segments[segment].live_bytes;
  }

  // What is here of each data set.
  const memory_tier::DataSetUse& use() const { return use_; }
  uint64_t entries() const { return entry_count_; }
  // Sum of the lengths of all entries.
  uint64_t bytes_live() const { return bytes_live_; }
  // What the index takes: slabs, table and lists.
  uint64_t memory_bytes() const {
    return entries_.memory_bytes() + table_.memory_bytes() + segment_list_bytes_;
  }
  uint64_t limit_bytes() const { return limit_bytes_; }

 private:
  struct Segment {
    EntryRef first = kNoEntry;  // of the chain, removed entries included
    uint32_t live_bytes = 0;
    uint32_t used_at_s = 0;
  };
  struct Device {
    Layout layout;
    std::vector<Segment> segments;  // empty: not known
    DeviceTotals totals = {};
  };

  uint64_t budget_bytes() const { return memory_bytes() < limit_bytes_ ? limit_bytes_ - memory_bytes() : 0; }
  Segment& segment_of(const IndexEntry& entry);
  // Inserts a key that the table does not have.
  bool add(const ReferenceTable::Hash& hash, const shm::BlockKey& key, const Location& location,
           const Checksums& checksums);
  EntryRef make_entry(const shm::BlockKey& key, uint64_t fingerprint, const Location& location,
                      const Checksums& checksums);
  void mark_removed(IndexEntry& entry);

  const uint64_t limit_bytes_;
  EntrySlabs entries_;
  ReferenceTable table_;
  std::array<Device, kMaximumDevices> devices_;
  memory_tier::DataSetUse use_;
  uint64_t segment_list_bytes_ = 0;
  uint64_t expected_entries_ = 0;
  uint64_t entry_count_ = 0;
  uint64_t bytes_live_ = 0;
};

}  // namespace cached::ssd_tier
