// The format of data sets in RADOS: names of objects, head, snapshot record, pages, records of fixed size.
// FORMAT.md is its description and gives the reasons; change both, and kFormatVersion.
//
// decode_...() take bytes that anybody may have written: they check everything and return EIO for damage,
// EPROTO for a version of the format that is not ours. Pure functions; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "cached/origin/object_store.h"
#include "shm/types.h"

namespace cached::volume {

inline constexpr uint32_t kFormatVersion = 1;
inline constexpr uint64_t kPieceBytes = uint64_t{4} << 20;
inline constexpr uint64_t kPageBytes = 16 * 1024;  // of metadata
inline constexpr uint64_t kPageHeaderBytes = 64;
inline constexpr uint64_t kPagePayloadBytes = kPageBytes - kPageHeaderBytes;
inline constexpr uint64_t kChecksumBlockBytes = shm::kBlockBytes;  // unit of data checksums
inline constexpr uint64_t kBlocksPerPiece = kPieceBytes / kChecksumBlockBytes;
inline constexpr uint64_t kPackedFileLimit = uint64_t{1} << 20;  // longer files have an object of their own
inline constexpr uint64_t kMaximumObjectBytes = uint64_t{512} << 40;
inline constexpr uint64_t kMaximumEntries = UINT32_MAX - uint64_t{1};
inline constexpr uint64_t kMaximumTablePages = uint64_t{1} << 24;
inline constexpr uint64_t kMaximumExtents = uint64_t{1} << 20;
inline constexpr uint64_t kMaximumXattrBytes = uint64_t{1} << 20;  // of one inode, names and values
inline constexpr size_t kMaximumTargetBytes = 4095;
inline constexpr size_t kMaximumSnapshots = 4096;
inline constexpr size_t kMaximumImports = 64;
inline constexpr size_t kMaximumNameBytes = 255;
inline constexpr uint64_t kMaximumHeadBytes = uint64_t{1} << 20;
inline constexpr uint64_t kMaximumRecordBytes = uint64_t{64} << 10;

// Names of RADOS objects. -------------------------------------------------------------------------------

// Whether a volume may be called so: 1 to 64 of A-Z a-z 0-9 . _ - and not "." or "-" first.
bool valid_volume_name(std::string_view name);

inline constexpr const char* kVolumesObject = "cached.volumes";
inline constexpr uint64_t kMetadataObjectBit = uint64_t{1} << 63;

inline bool is_metadata_object(const shm::ObjectId& id) {
  return (id.low & kMetadataObjectBit) != 0;
}

origin::ObjectName head_name(const std::string& volume);
origin::ObjectName snapshot_name(const std::string& volume, uint64_t import_id);
origin::ObjectName import_name(const std::string& volume, uint64_t import_id);
origin::ObjectName journal_name(const std::string& volume, uint64_t import_id, uint32_t sequence);
// The RADOS object of a piece of a logical object, in the pool that belongs to its kind.
origin::ObjectName piece_name(const std::string& volume, const shm::ObjectId& id, uint64_t piece);

// What the name of an object says; for walks over all of them.
struct ParsedName {
  enum class Kind : uint8_t { kForeign, kHead, kSnapshot, kImport, kJournal, kPiece };
  Kind kind = Kind::kForeign;
  uint64_t import_id = 0;
  shm::ObjectId object = {};  // kPiece
  uint64_t number = 0;        // piece, or sequence of a journal
};
ParsedName parse_name(const std::string& volume, std::string_view name);

// Sealed records: bytes with their XXH3-128 behind them. --------------------------------------------------

struct Checksum {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const Checksum&, const Checksum&) = default;
};
Checksum checksum_of(std::string_view bytes);
std::string seal(std::string bytes);
// The bytes before the seal, in place; EIO with `what` in the message if the seal does not fit.
Result<std::string_view> unseal(std::string_view sealed, const std::string& what);

// XXH3-64 of a block of data.
uint64_t block_checksum(std::span<const std::byte> block);

// The head. -----------------------------------------------------------------------------------------------

struct SnapshotMark {
  uint64_t number = 0;
  uint64_t import_id = 0;
  int64_t published_at_ns = 0;  // since the epoch
  int64_t delete_at_ns = 0;     // 0: not marked for deletion
  Checksum record = {};         // of the whole `snapshot` object
  uint64_t files = 0;
  uint64_t bytes = 0;
};
static_assert(sizeof(SnapshotMark) == 64);

struct ImportMark {
  uint64_t id = 0;
  uint64_t base = 0;  // number of the snapshot that was current, 0: none
  int64_t started_at_ns = 0;
  uint64_t reserved = 0;
};
static_assert(sizeof(ImportMark) == 32);

struct Head {
  bool destroyed = false;
  uint64_t volume_id[2] = {};
  uint64_t generation = 0;
  uint64_t nonce = 0;
  uint64_t current = 0;  // snapshot number, 0: none
  uint64_t next_number = 1;
  std::vector<SnapshotMark> snapshots;  // by number
  std::vector<ImportMark> imports;

  // Null if there is none.
  const SnapshotMark* find_snapshot(uint64_t number) const;
  SnapshotMark* find_snapshot(uint64_t number);
  const ImportMark* find_import(uint64_t id) const;
};

std::string encode_head(const Head& head);
Result<Head> decode_head(std::string_view bytes, const std::string& volume);

// The snapshot record. ------------------------------------------------------------------------------------

enum class Table : uint8_t { kEntries, kIndex, kAttributes, kExtras, kObjects, kExtents, kChecksums };
inline constexpr size_t kTables = 7;
const char* table_name(Table table);

struct TablePlace {
  shm::ObjectId object = {};
  uint64_t pages = 0;
  uint64_t payload_bytes = 0;
};
static_assert(sizeof(TablePlace) == 32);

struct SnapshotRecord {
  uint64_t volume_id[2] = {};
  uint64_t import_id = 0;
  uint64_t base = 0;
  int64_t started_at_ns = 0;
  uint64_t entries = 0;       // names, the root included
  uint64_t files = 0;         // inodes that are not directories
  uint64_t directories = 0;   // the root included
  uint64_t bytes = 0;         // sum of sizes of regular files, each inode once
  uint64_t stored_bytes = 0;  // what its data objects hold
  uint64_t objects = 0;
  uint64_t attributes = 0;
  std::array<TablePlace, kTables> tables = {};
  std::string source;  // directory that was imported
  std::string host;    // where

  const TablePlace& table(Table which) const { return tables[static_cast<size_t>(which)]; }
  uint64_t metadata_bytes() const;
};

std::string encode_snapshot(const SnapshotRecord& record);
Result<SnapshotRecord> decode_snapshot(std::string_view bytes, const std::string& what);

// Pages. --------------------------------------------------------------------------------------------------

struct PageHeader {
  uint64_t checksum_low;
  uint64_t checksum_high;
  uint32_t magic;
  uint8_t table;
  uint8_t version;
  uint16_t reserved0;
  uint64_t import_id;
  uint64_t page;
  uint32_t payload_bytes;
  uint32_t reserved1;
  uint64_t first_entry;
  uint64_t reserved2;
};
static_assert(sizeof(PageHeader) == kPageHeaderBytes && offsetof(PageHeader, payload_bytes) == 40);

// A page of `table` with `payload` (at most kPagePayloadBytes).
std::string encode_page(Table table, uint64_t import_id, uint64_t page, uint64_t first_entry,
                        std::string_view payload);

struct PageView {
  std::string_view payload;  // in the bytes that were checked
  uint64_t first_entry = 0;
};
// Checks the kPageBytes at `bytes`, which should be page `page` of that table. EIO with the reason.
Result<PageView> check_page(std::span<const std::byte> bytes, Table table, uint64_t import_id, uint64_t page);

// Records of fixed size. ----------------------------------------------------------------------------------

struct AttributeRecord {
  uint32_t mode = 0;  // with the file type
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t xattr_bytes = 0;  // 0: none
  uint64_t xattr_offset = 0;
  uint64_t reserved = 0;
  friend bool operator==(const AttributeRecord&, const AttributeRecord&) = default;
};
static_assert(sizeof(AttributeRecord) == 32);

enum ObjectFlags : uint32_t { kObjectDense = 1U << 0, kObjectPack = 1U << 1 };

struct ObjectRecord {
  shm::ObjectId id = {};
  uint64_t size = 0;
  uint64_t first_checksum = 0;
  uint64_t first_extent = 0;
  uint32_t extent_count = 0;
  uint32_t flags = 0;  // ObjectFlags
  uint64_t checksum_count = 0;
  uint64_t reserved = 0;
};
static_assert(sizeof(ObjectRecord) == 64);

struct Extent {
  uint64_t offset = 0;
  uint64_t length = 0;
  uint64_t end() const { return offset + length; }
  friend bool operator==(const Extent&, const Extent&) = default;
};
static_assert(sizeof(Extent) == 16 && kPagePayloadBytes % 64 == 0);

// Sets of xattrs. -----------------------------------------------------------------------------------------

struct Xattr {
  std::string name;
  std::string value;
  friend bool operator==(const Xattr&, const Xattr&) = default;
};
std::string encode_xattrs(const std::vector<Xattr>& xattrs);
Result<std::vector<Xattr>> decode_xattrs(std::string_view bytes);

}  // namespace cached::volume
