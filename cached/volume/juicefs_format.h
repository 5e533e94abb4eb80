// What a JuiceFS volume keeps in Redis, taken apart: the `setting` record, attributes, directory entries,
// slices, ACL rules, and the names of blocks. JuiceFS writes all numbers big-endian.
//
// Pure functions over bytes that others wrote: whatever comes in, the result is a value within its limits or
// an EINVAL that says what is wrong. Nothing here asks anybody or allocates more than its input is worth.
//
// How a file's bytes are found. A file is cut into chunks of 64 MiB. A chunk has a list of slice records in
// the order of writing; a record lays bytes [offset, offset + length) of a slice over [position, ...) of the
// chunk, and later ones cover earlier ones. Slice 0, and what nobody covers, reads as zeros. A slice is
// immutable; it is cut into blocks, each an object of the store.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "shm/file_map.h"
#include "shm/types.h"

namespace cached::volume::juicefs {

inline constexpr uint64_t kChunkBytes = uint64_t{64} << 20;
inline constexpr uint64_t kRootIno = 1;
inline constexpr uint64_t kTrashIno = 0x7FFFFFFF10000000;
inline constexpr uint64_t kMaximumBlockBytes = uint64_t{16} << 20;
inline constexpr size_t kSliceRecordBytes = 24;
inline constexpr size_t kMaximumSlices = 1U
                                         << 16;  // records of one chunk; JuiceFS compacts from a hundred on
inline constexpr uint64_t kMaximumFileBytes = uint64_t{1} << 62;

enum class Compression : uint8_t { kNone, kLz4, kZstd };

// The record `setting`: what the volume is.
struct Setting {
  std::string name;
  std::string uuid;
  std::string storage;  // "ceph", "file"
  std::string bucket;
  uint64_t block_bytes = 0;
  Compression compression = Compression::kNone;
  bool hash_prefix = false;
};
// ENOTSUP, in one line, for what exists in JuiceFS and not here; EINVAL for what is no setting.
Result<Setting> parse_setting(std::string_view json);
// The pool of "ceph://POOL"; empty if it is none.
std::string pool_of_bucket(const std::string& bucket);

enum class FileType : uint8_t {
  kFile = 1,
  kDirectory,
  kSymlink,
  kFifo,
  kBlockDevice,
  kCharacterDevice,
  kSocket
};
// S_IFMT bits of a type, DT_* of a type.
uint32_t mode_of_type(FileType type);
uint8_t dirent_of_type(FileType type);

// `i<ino>`.
struct Attributes {
  FileType type = FileType::kFile;
  uint16_t permissions = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t atime_s = 0;
  int64_t mtime_s = 0;
  int64_t ctime_s = 0;
  uint32_t atime_ns = 0;
  uint32_t mtime_ns = 0;
  uint32_t ctime_ns = 0;
  uint32_t nlink = 0;
  uint64_t length = 0;
  uint32_t rdev = 0;
  uint64_t parent = 0;
  uint32_t access_acl = 0;   // 0: none
  uint32_t default_acl = 0;  // 0: none
};
Result<Attributes> parse_attributes(std::string_view bytes);

// A value of `d<ino>`.
struct DirectoryEntry {
  FileType type = FileType::kFile;
  uint64_t ino = 0;
};
Result<DirectoryEntry> parse_entry(std::string_view bytes);

struct Slice {
  uint32_t position = 0;  // in the chunk
  uint64_t id = 0;        // 0: zeros
  uint32_t size = 0;      // of the whole slice
  uint32_t offset = 0;    // in the slice
  uint32_t length = 0;
  friend bool operator==(const Slice&, const Slice&) = default;
};
// Records one after another, as the list `c<ino>_<idx>` holds them.
Result<std::vector<Slice>> parse_slices(std::string_view records);

// Merges a chunk's slices: pieces that cover [0, length) of the chunk without a gap, in order, neighbours
// joined where they continue each other. `base` is the chunk's offset in its file, `length` how much of the
// chunk the file has.
std::vector<shm::MapPiece> merge_slices(const std::vector<Slice>& slices, uint64_t base, uint64_t length);

// The object id of a slice. It says all that reading needs, so a reader asks nobody.
shm::ObjectId object_of_slice(uint64_t id, uint32_t size);
struct SliceName {
  uint64_t id = 0;
  uint32_t size = 0;
};
// EINVAL for an id that is not of a slice.
Result<SliceName> slice_of_object(const shm::ObjectId& object);
// The id under which clients know a version of a file that has a map. Never that of a slice.
shm::ObjectId version_of(uint64_t ino, const Attributes& attributes);

// What clients are told of an inode. `tag` begins its handle; `slices` are the first records of a file's only
// chunk, if it has no more than kFewSlices of them. A file that lies in one slice is that slice's object
// (LayoutKind::kObject), every other one has a map. EINVAL for damaged attributes.
inline constexpr size_t kFewSlices = 8;
Result<shm::InodeInfo> inode_info(uint64_t tag, uint64_t ino, std::string_view attributes,
                                  std::string_view slices, bool has_xattrs);

// Block `index` of a slice: its name in the store, without the bucket, and its length.
uint64_t block_length(const Setting& setting, const SliceName& slice, uint64_t index);
std::string block_name(const Setting& setting, const SliceName& slice, uint64_t index);

// Decompresses a block that must give exactly `length` bytes.
Status decompress(Compression compression, std::string_view stored, char* plain, size_t length);

// A value of the hash `acl`, as the xattr system.posix_acl_* that Linux knows.
Result<std::string> acl_as_xattr(std::string_view rule);

// An inode number from a Redis key "i17", "d17", "c17_3", "s17", "x17"; 0 if it is none.
uint64_t ino_of_key(std::string_view key);

}  // namespace cached::volume::juicefs
