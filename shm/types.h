// The words that both sides of the shared memory speak: ids, keys, attributes. Fixed layout, no pointers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

namespace cached::shm {

inline constexpr uint64_t kBlockBytes = 128 * 1024;  // unit of caching: an aligned piece of an object
inline constexpr uint64_t kChunkBytes = 16 * 1024;   // unit of checksums and of small SSD reads
inline constexpr uint64_t kPageBytes = 4096;         // unit in which the arena is addressed
inline constexpr uint64_t kExtentBytes =
    4 * 1024 * 1024;  // unit that belongs to one shard; no request crosses its edge
inline constexpr uint64_t kMaximumReadBytes = 1024 * 1024;  // longest READ

// 128 bits that name an immutable run of bytes at the origin, and never other bytes. All zero: no object.
struct ObjectId {
  uint64_t high = 0;
  uint64_t low = 0;
  friend bool operator==(const ObjectId&, const ObjectId&) = default;
  bool empty() const { return high == 0 && low == 0; }
};

// The opaque name of an inode: given by the daemon, sent back by clients, the same after any restart of the
// daemon.
struct Handle {
  uint64_t high = 0;
  uint64_t low = 0;
  friend bool operator==(const Handle&, const Handle&) = default;
};

// Names one block. Identity is (object, block, volume). The data-set tag travels with the key so that
// accounting needs no second look-up, but it is not compared: registering a data set later must not lose what
// is cached.
struct BlockKey {
  ObjectId object;
  uint32_t block = 0;  // offset in the object / kBlockBytes
  uint16_t volume = 0;
  uint16_t data_set = 0;
  bool same_block(const BlockKey& other) const {
    return object == other.object && block == other.block && volume == other.volume;
  }
};
static_assert(sizeof(BlockKey) == 24);

// The file types and permission bits of st_mode, st_rdev in Linux encoding, times in nanoseconds apart from
// seconds.
enum InodeFlags : uint32_t {
  kInodeNoXattrs = 1U << 0,   // listxattr is known to be empty, so no ACL either
  kInodeImmutable = 1U << 1,  // never expires (published data sets)
};

enum class LayoutKind : uint8_t {
  kObject = 0,  // the file is bytes [layout_base, layout_base + size) of the object `object`
  kAsk = 1,     // only the daemon can say: send READ, do not probe (later volume kinds)
  kMap = 2,  // the file's map (file_map.h) says which object each range is; `object` names the file's version
};

// validated_at_ns of an answer that is good for this once and has to be asked for again.
inline constexpr uint64_t kNeverValidatedNs = 1;

// All that is known of an inode. Lies in the name table and in the buffers of LOOKUP, GETATTR, RESOLVE and
// READDIR.
struct InodeInfo {
  Handle handle;
  uint64_t validated_at_ns =
      0;            // CLOCK_MONOTONIC just before the origin was asked; freshness is judged by clients
  ObjectId object;  // regular files; changes whenever the content may have
  uint64_t layout_base = 0;
  uint64_t ino = 0;  // st_ino to show
  uint64_t size = 0;
  uint64_t blocks_512 = 0;
  int64_t atime_s = 0;
  int64_t mtime_s = 0;
  int64_t ctime_s = 0;
  uint32_t atime_ns = 0;
  uint32_t mtime_ns = 0;
  uint32_t ctime_ns = 0;
  uint32_t mode = 0;
  uint32_t nlink = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t rdev = 0;
  uint32_t flags = 0;  // InodeFlags
  uint16_t data_set = 0;
  LayoutKind layout = LayoutKind::kObject;
  uint8_t reserved0 = 0;
  uint64_t reserved1[2] = {};
};
static_assert(sizeof(InodeInfo) == 152 && offsetof(InodeInfo, object) == 24 &&
              offsetof(InodeInfo, mode) == 108);
static_assert(std::is_trivially_copyable_v<InodeInfo>);

// Answer of STATFS: the data set's own figures, not those of the file system below it.
struct VolumeStatistics {
  uint64_t bytes = 0;
  uint64_t files = 0;
  uint32_t complete = 0;  // 0 while the first count is still going on
  uint32_t reserved = 0;
};
static_assert(sizeof(VolumeStatistics) == 24);

}  // namespace cached::shm

template <>
struct std::hash<cached::shm::ObjectId> {
  size_t operator()(const cached::shm::ObjectId& id) const noexcept {
    return id.high ^ (id.low * 0x9E3779B97F4A7C15ULL);
  }
};
template <>
struct std::hash<cached::shm::Handle> {
  size_t operator()(const cached::shm::Handle& h) const noexcept {
    return h.high ^ (h.low * 0x9E3779B97F4A7C15ULL);
  }
};
