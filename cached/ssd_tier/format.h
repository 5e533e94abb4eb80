// What lies on a device of the SSD tier: structures, places, encoders, decoders. FORMAT.md says the same for
// a reader in another language; whoever changes one changes both, and kFormatVersion.
//
// A device is a superblock area and then segments. A segment is written once from its start as batches (a
// header that describes entries, then their data), each by one command, and when it is full a footer: a table
// of all its records and a trailer, written last. Three things make that safe to read after anything:
//
// - A filling of a segment has a sequence that the device never uses again. It is in every header and
// trailer,
//   in the seed of their checksums and in the seed of every chunk's checksum.
// - A chunk's checksum covers key, sequence, chunk number and bytes. A chunk that verifies is the right one,
//   wherever and whenever it was read; so a stale index, a torn batch or a misdirected write costs a miss.
// - Nothing is ever repaired: what does not decode is not there. A crash is an ordinary start.
//
// Everything here is a pure function of its arguments or an object of one thread. Decoders take their input
// for hostile: they check all that they return and never read outside of the span that they are given.
// Their errors: ENODATA where there is nothing of this device (no magic, or the tag of another device: it was
// formatted anew), EPROTONOSUPPORT for a newer version, ESTALE for a whole structure of another place than
// the one asked for, EBADMSG for damage.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/units.h"
#include "shm/types.h"

namespace cached::ssd_tier {

static_assert(std::endian::native == std::endian::little, "structures on devices are little-endian");

inline constexpr uint32_t kFormatVersion = 1;
inline constexpr uint64_t kSuperblockAreaBytes = kMiB;  // segments begin behind it
inline constexpr uint64_t kMinimumDeviceBytes = 16 * kMiB;
inline constexpr uint64_t kMaximumDeviceBytes = 128 * kTiB;  // what SsdIndex can address
inline constexpr uint64_t kMinimumSegmentBytes = kMiB;
inline constexpr uint64_t kMaximumSegmentBytes = 64 * kMiB;
inline constexpr uint32_t kUnitBytes = 512;              // offsets on the device are counted in it
inline constexpr uint32_t kMaximumBlockBytes = 4096;     // coarsest alignment that a device may want
inline constexpr uint32_t kLargeEntryBytes = 16 * 1024;  // from here on an entry starts at a page
inline constexpr uint32_t kMaximumEntryBytes = shm::kBlockBytes;
inline constexpr uint32_t kMaximumChunks = kMaximumEntryBytes / shm::kChunkBytes;
inline constexpr uint32_t kTrailerBytes = 4096;
// A batch has at most so many records: with its header it stays below IOV_MAX pieces, so it is one command.
inline constexpr uint32_t kMaximumBatchRecords = 880;
// No batch header is longer: one read of so many bytes shows it whole.
inline constexpr uint32_t kMaximumBatchHeaderBytes = 64 * 1024;

// ---- places

struct Uuid {
  std::array<uint8_t, 16> bytes{};
  friend bool operator==(const Uuid&, const Uuid&) = default;
};
// "01234567-89ab-cdef-0123-456789abcdef".
std::string to_string(const Uuid& uuid);

// How a device is divided. Fixed when it is formatted.
struct Layout {
  uint64_t capacity_bytes = 0;  // of the device when it was formatted; nothing is written beyond
  uint64_t data_offset = 0;     // where segment 0 begins
  uint32_t block_bytes = 0;     // alignment of every transfer: power of two, 512..4096
  uint32_t segment_bytes = 0;   // power of two
  uint32_t segment_count = 0;
  friend bool operator==(const Layout&, const Layout&) = default;

  // Where segment `number` begins on the device; `number` < segment_count.
  uint64_t segment_offset(uint32_t number) const { return data_offset + uint64_t{number} * segment_bytes; }
  // The segment that holds `offset_bytes`, which must lie in one.
  uint32_t segment_of(uint64_t offset_bytes) const {
    return static_cast<uint32_t>((offset_bytes - data_offset) / segment_bytes);
  }
  // Where the trailer of segment `number` lies on the device.
  uint64_t trailer_offset(uint32_t number) const {
    return segment_offset(number) + segment_bytes - kTrailerBytes;
  }
};

// The layout of a device of this capacity and alignment that is to be formatted: segments of 1/1024 of the
// capacity, a power of two from 1 to 64 MiB, as many as fit. EINVAL for an alignment that the format does not
// know, ENOSPC for less than 16 MiB, EFBIG for more than 128 TiB.
Result<Layout> layout_for(uint64_t capacity_bytes, uint32_t block_bytes);

// Whether `layout`, as read from a superblock, is one that this version can use. EBADMSG with what is wrong.
Status check_layout(const Layout& layout);

// The sequence of the `counter`-th filling (from 0) since start `start_count` of the daemon on this device.
constexpr uint64_t make_sequence(uint32_t start_count, uint32_t counter) {
  return uint64_t{start_count} << 32 | counter;
}

// One filling of one segment.
struct SegmentName {
  Uuid device;
  uint32_t number = 0;
  uint64_t sequence = 0;  // never 0
};

// What the start of an entry of `length_bytes` in its segment is a multiple of, and its extent too.
constexpr uint32_t entry_alignment(const Layout& layout, uint32_t length_bytes) {
  return length_bytes < kLargeEntryBytes ? layout.block_bytes : kMaximumBlockBytes;
}
// What an entry takes on the device. Bytes behind `length_bytes` have no meaning.
constexpr uint32_t entry_extent_bytes(const Layout& layout, uint32_t length_bytes) {
  return static_cast<uint32_t>(align_up(length_bytes, entry_alignment(layout, length_bytes)));
}

// ---- checksums

constexpr uint32_t chunks_of(uint32_t length_bytes) {
  return static_cast<uint32_t>((length_bytes + shm::kChunkBytes - 1) / shm::kChunkBytes);
}

// The checksum of chunk number `chunk` of the entry of `key` written in filling `sequence`: `data` is the
// chunk's bytes (16 KiB, or what the entry's last chunk has).
uint32_t chunk_checksum(const shm::BlockKey& key, uint64_t sequence, uint32_t chunk,
                        std::span<const std::byte> data);

using Checksums = std::array<uint32_t, kMaximumChunks>;

// The checksums of all chunks of an entry; those beyond chunks_of(data.size()) are 0. `data` is 1 to 128 KiB.
Checksums checksums_of(const shm::BlockKey& key, uint64_t sequence, std::span<const std::byte> data);

// Whether `data`, the bytes of an entry from chunk `first_chunk` on (whole chunks, or to the end of the
// entry), has the checksums `expected` (of the whole entry).
bool verify_chunks(const shm::BlockKey& key, uint64_t sequence, uint32_t first_chunk,
                   std::span<const std::byte> data, const Checksums& expected);

// ---- structures

// An entry, as the decoders give it. On the device: RecordHeader and the checksums that it has.
struct Record {
  shm::BlockKey key;
  uint32_t offset_bytes = 0;  // of its data in the segment
  uint32_t length_bytes = 0;  // 1..128 KiB
  Checksums checksums{};
  friend bool operator==(const Record& a, const Record& b) {
    return a.key.same_block(b.key) && a.key.data_set == b.key.data_set && a.offset_bytes == b.offset_bytes &&
           a.length_bytes == b.length_bytes && a.checksums == b.checksums;
  }
};

struct RecordHeader {
  uint64_t object_high;
  uint64_t object_low;
  uint32_t block;
  uint16_t volume;
  uint16_t data_set;
  uint32_t offset_units;  // of the data in the segment
  uint32_t length_bytes;
  // uint32_t checksums[chunks_of(length_bytes)] follow.
};
static_assert(sizeof(RecordHeader) == 32 && offsetof(RecordHeader, block) == 16 &&
              offsetof(RecordHeader, volume) == 20 && offsetof(RecordHeader, data_set) == 22 &&
              offsetof(RecordHeader, offset_units) == 24 && offsetof(RecordHeader, length_bytes) == 28);

// What a record takes in a batch header or a footer table.
constexpr uint32_t record_bytes(uint32_t length_bytes) {
  return static_cast<uint32_t>(sizeof(RecordHeader)) + 4 * chunks_of(length_bytes);
}

inline constexpr uint64_t kBatchMagic = 0x48435442'44484341;    // "ACHDBTCH"
inline constexpr uint64_t kTrailerMagic = 0x4c525454'44484341;  // "ACHDTTRL"

// Begins a batch; the records follow at once, ascending by offset.
struct BatchHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t batch_number;  // in this filling of the segment, from 0
  uint64_t sequence;
  uint32_t segment_number;
  uint32_t offset_units;   // of the batch in the segment
  uint32_t length_units;   // of the batch, header included; the next batch starts there
  uint32_t header_units;   // of the header with records and padding
  uint32_t record_count;   // 1..kMaximumBatchRecords
  uint32_t records_bytes;  // of all records
  uint64_t device_tag;     // the first 8 bytes of the device's uuid
  uint64_t checksum;       // of header and records, this field taken as 0
};
static_assert(sizeof(BatchHeader) == 64 && offsetof(BatchHeader, sequence) == 16 &&
              offsetof(BatchHeader, segment_number) == 24 && offsetof(BatchHeader, offset_units) == 28 &&
              offsetof(BatchHeader, length_units) == 32 && offsetof(BatchHeader, header_units) == 36 &&
              offsetof(BatchHeader, record_count) == 40 && offsetof(BatchHeader, records_bytes) == 44 &&
              offsetof(BatchHeader, device_tag) == 48 && offsetof(BatchHeader, checksum) == 56);
static_assert(sizeof(BatchHeader) + kMaximumBatchRecords * record_bytes(kMaximumEntryBytes) +
                  2 * kMaximumBlockBytes <=
              kMaximumBatchHeaderBytes);

// The last 4 KiB of a sealed segment.
struct Trailer {
  uint64_t magic;
  uint32_t version;
  uint32_t segment_number;
  uint64_t sequence;
  uint32_t table_offset_units;  // in the segment
  uint32_t table_bytes;         // of all records
  uint32_t record_count;
  uint32_t batch_count;
  uint64_t table_checksum;
  uint64_t checksum;                                 // of the 4096 bytes, this field taken as 0
  uint64_t device_tag;                               // the first 8 bytes of the device's uuid
  std::array<uint8_t, kTrailerBytes - 64> reserved;  // 0
};
static_assert(sizeof(Trailer) == kTrailerBytes && offsetof(Trailer, segment_number) == 12 &&
              offsetof(Trailer, sequence) == 16 && offsetof(Trailer, table_offset_units) == 24 &&
              offsetof(Trailer, table_bytes) == 28 && offsetof(Trailer, record_count) == 32 &&
              offsetof(Trailer, batch_count) == 36 && offsetof(Trailer, table_checksum) == 40 &&
              offsetof(Trailer, checksum) == 48 && offsetof(Trailer, device_tag) == 56 &&
              offsetof(Trailer, reserved) == 64);

// ---- encoding

// A batch that is ready to be written: `header` and then the extents of the entries lie one after another
// without a gap, so that one vectored write of header and entries at `offset_bytes` writes it all.
struct Batch {
  struct Piece {
    uint32_t entry = 0;         // which one, in the order of SegmentBuilder::add, from 0 in each batch
    uint32_t offset_bytes = 0;  // of its data in the segment
    uint32_t extent_bytes = 0;  // to write: the entry's bytes, padded with anything
  };
  uint32_t number = 0;
  uint32_t offset_bytes = 0;  // of the batch in the segment
  uint32_t length_bytes = 0;  // header and extents
  std::vector<std::byte> header;
  std::vector<Piece> pieces;  // ascending by offset
};

// What seals a segment: bytes to be written at `offset_bytes`, up to the segment's end. One command, or
// several if the one with the last 4 KiB comes last.
struct Footer {
  uint32_t offset_bytes = 0;
  std::vector<std::byte> bytes;
};

// Encodes one filling of a segment: batch after batch, then the footer. Owns no I/O and no data: the caller
// writes what it is given. Keeps room for the footer at all times. One thread.
class SegmentBuilder {
 public:
  // `layout` is copied. `name.number` < layout.segment_count.
  SegmentBuilder(const Layout& layout, const SegmentName& name);

  const SegmentName& name() const { return name_; }

  // Adds an entry to the batch that is being built: `checksums` by checksums_of() with name().sequence.
  // `length_bytes` is 1 to 128 KiB. False, and nothing is added, where the batch has kMaximumBatchRecords or
  // the segment no room: finish the batch; if it was empty, finish the segment.
  bool add(const shm::BlockKey& key, uint32_t length_bytes, const Checksums& checksums);
  // Entries and bytes (header and extents) of the batch that is being built.
  uint32_t batch_entries() const { return static_cast<uint32_t>(batch_.size()); }
  uint32_t batch_bytes() const { return batch_bytes_; }

  // Ends the batch, which has at least one entry, and begins the next. Pages come before smaller entries, so
  // that there are no gaps; otherwise entries keep their order.
  Batch finish_batch();

  // Ends the segment; batch_entries() must be 0, and nothing may follow.
  Footer finish() const;

  uint32_t entries() const { return record_count_ + batch_entries(); }
  // Bytes of the segment in finished batches: where the next one begins.
  uint32_t used_bytes() const { return used_bytes_; }

 private:
  struct Sizes {
    uint32_t records_bytes = 0;  // of the batch's records
    uint32_t large_bytes = 0;    // extents of entries that start at a page
    uint32_t small_bytes = 0;    // extents of the others
    uint32_t header_bytes(const Layout& layout, uint32_t offset_bytes) const;
  };
  Sizes sizes_with(uint32_t length_bytes) const;
  void place(Batch& batch);

  const Layout layout_;
  const SegmentName name_;
  std::vector<Record> batch_;  // offsets are not known yet
  Sizes batch_sizes_;
  uint32_t batch_bytes_ = 0;
  uint32_t batch_number_ = 0;
  uint32_t used_bytes_ = 0;
  uint32_t record_count_ = 0;
  std::vector<std::byte> table_;  // records of finished batches
};

// ---- decoding

struct BatchInfo {
  uint64_t sequence = 0;
  uint32_t number = 0;
  uint32_t offset_bytes = 0;  // of the batch in the segment
  uint32_t length_bytes = 0;  // the next batch begins behind it
  uint32_t header_bytes = 0;
  uint32_t record_count = 0;
};

// Decodes the batch header at `bytes`, which were read from `offset_bytes` of segment `number` of the device
// `device` (kMaximumBatchHeaderBytes of them, or up to the segment's end). `records` is overwritten, and
// empty after an error. Checks that the header is whole, is of this device, segment and place, and that its
// records lie in its batch, aligned, without overlap. To walk a segment: begin at 0, go on at offset_bytes +
// length_bytes, and stop at an error, another sequence than the first batch has, or a number out of turn.
Result<BatchInfo> decode_batch(const Layout& layout, const Uuid& device, uint32_t number,
                               uint32_t offset_bytes, std::span<const std::byte> bytes,
                               std::vector<Record>& records);

// How many bytes decode_batch() needs for the batch header that `bytes` begin with, as far as can be said
// without checking it: between bytes.size() and kMaximumBatchHeaderBytes.
uint32_t batch_header_bytes_wanted(std::span<const std::byte> bytes);

struct TrailerInfo {
  uint64_t sequence = 0;
  uint32_t number = 0;
  uint32_t table_offset_bytes = 0;  // in the segment, a multiple of block_bytes
  uint32_t table_bytes = 0;
  uint32_t record_count = 0;
  uint32_t batch_count = 0;
  uint64_t table_checksum = 0;
};

// Decodes the trailer of segment `number` from its last 4 KiB.
//
// A trailer stays behind when its segment is written anew, until the new footer is there. A segment is sealed
// with sequence s only if its trailer and the header of its first batch are both whole and have s.
Result<TrailerInfo> decode_trailer(const Layout& layout, const Uuid& device, uint32_t number,
                                   std::span<const std::byte, kTrailerBytes> bytes);

// Decodes the footer table of `trailer`, `bytes` being the trailer.table_bytes at trailer.table_offset_bytes.
// `records` is overwritten, and empty after an error. Checks that the records lie below the table, aligned,
// without overlap.
Status decode_table(const Layout& layout, const Uuid& device, const TrailerInfo& trailer,
                    std::span<const std::byte> bytes, std::vector<Record>& records);

// What one read at a segment's end takes so that it mostly holds trailer and table: a segment of 128 KiB
// blocks has a table of 32 KiB. A multiple of every block_bytes.
inline constexpr uint32_t kTailReadBytes = 64 * 1024;

}  // namespace cached::ssd_tier
