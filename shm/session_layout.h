// The session memfd: one client's doorbells, counters, queue pairs, hazards, touch rings and buffers. Daemon
// and client both map it for writing; the daemon believes nothing it reads here. No other client can map it.
//
//   page 0        SessionHeader: geometry (written once by the daemon), doorbells
//   page 1...     QueueArea x queue_count, each `queue_stride_bytes` long, and in it behind the queue:
//   UseRows then          buffers: queue_count x buffer_bytes, each page aligned
//
// A QueueArea is: QueueControl, hazards, touches, counters, submissions[depth], completions[depth].
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "shm/index_layout.h"
#include "shm/types.h"

namespace cached::shm {

inline constexpr uint64_t kSessionMagic = 0x3153534548434143ULL;  // "CACHESS1"
inline constexpr unsigned kMaximumQueues = 64;                    // one bit each in a doorbell
inline constexpr unsigned kMinimumQueueDepth = 4;                 // a power of two
inline constexpr unsigned kMaximumQueueDepth = 256;               // a power of two
inline constexpr unsigned kHazardsPerQueue = 72;   // 1 MiB in pieces of one chunk, unaligned, and some room
inline constexpr unsigned kTouchesPerQueue = 256;  // a power of two
inline constexpr unsigned kExtentsPerCompletion = 10;
inline constexpr uint64_t kMinimumBufferBytes = 64 * 1024;
inline constexpr uint64_t kMaximumBufferBytes = 16 * 1024 * 1024;
// A READ that gets no slots needs this much buffer beyond its length, for the alignment of direct I/O at both
// ends.
inline constexpr uint64_t kReadBufferSlackBytes = 2 * kPageBytes;

// Counters that the client keeps, each queue's own, and the daemon shows and sums. Cumulative over the
// session. A queue's counters have one writer, so counting costs a plain store and is never late. Append
// only.
enum class Counter : unsigned {
  kReads,  // reads asked of the client library
  kReadBytes,
  kHits,  // blocks (or pieces) found in memory without the daemon
  kHitBytes,
  kMisses,  // blocks (or pieces) asked of the daemon
  kMissBytes,
  kLookups,         // names looked up
  kLookupHits,      // answered from the name table
  kAttributeReads,  // inodes asked for
  kAttributeHits,   // answered from the name table
  kRequests,        // ring requests that expect a completion
  kWakeups,         // eventfd writes to the daemon
  kReattachments,
  kCount
};
inline constexpr unsigned kCounters = 64;  // room
static_assert(static_cast<unsigned>(Counter::kCount) <= kCounters);

struct SessionGeometry {
  uint64_t magic = kSessionMagic;
  uint64_t total_bytes = 0;
  uint32_t version = kProtocolVersion;
  uint32_t queue_count = 0;
  uint32_t queue_depth = 0;
  uint32_t shards = 0;
  uint64_t queues_offset_bytes = 0;
  uint64_t queue_stride_bytes = 0;
  uint64_t buffers_offset_bytes = 0;
  uint64_t buffer_bytes = 0;  // of each queue
};
static_assert(sizeof(SessionGeometry) == 64);

// Bit q set: queue q has submissions that this shard has not looked at. Client: fetch_or; daemon:
// exchange(0).
struct alignas(64) Doorbell {
  std::atomic<uint64_t> queues;
  uint64_t reserved[7];
};

struct SessionHeader {
  SessionGeometry geometry;
  uint64_t use_rows;                   // kUseRows if each queue area has them, else 0
  uint64_t reserved[23];               // to 256
  Doorbell doorbells[kMaximumShards];  // 1024 bytes
};
static_assert(offsetof(SessionHeader, doorbells) == 256);
static_assert(sizeof(SessionHeader) == 1280 && sizeof(SessionHeader) <= kPageBytes);

enum class Opcode : uint8_t {
  kLookup = 1,     // handle: parent; input: name. Output: InodeInfo
  kGetAttributes,  // handle. Output: InodeInfo
  kResolve,   // handle: the one expected; input: path from the root, '/' between names. Output: InodeInfo
  kRead,      // handle, object, offset in the object, length. Extents, or bytes in the buffer
  kRelease,   // pinned_request: gives back the pins of that READ. No completion
  kPrefetch,  // as kRead, a hint; length up to kExtentBytes. No completion
  kReadLink,  // handle. Output: the target
  kReadDirectory,  // handle, offset: cookie (0: start), length: entries wanted at most (0: any), flags:
                   // kSubmissionWithAttributes. Output: DirectoryRecords
  kGetXattr,       // handle; input: name. Output: the value
  kListXattr,      // handle. Output: names, each ended by a zero byte
  kStatVolume,     // Output: VolumeStatistics
  kFileMap,        // handle, object: the version of a kMap file, offset: in the file. Output: MapPieces that
                   // begin at or before offset and reach beyond it
};

enum SubmissionFlags : uint8_t {
  kSubmissionWithAttributes = 1U << 0,
};

// A request. Written by the client, copied once by the daemon, then validated. Unused fields are zero.
struct Submission {
  uint64_t request_number = 0;  // unique in the session for its life, re-attachments included
  Opcode opcode{};
  uint8_t flags = 0;
  uint16_t reserved0 = 0;
  uint32_t length = 0;
  Handle handle;
  ObjectId object;
  uint64_t offset = 0;
  uint64_t pinned_request = 0;
  uint32_t buffer_offset =
      0;  // in the queue's buffer; input is read from its start, output is written to its start
  uint32_t buffer_length = 0;
  uint32_t input_length = 0;  // bytes of name or path in the buffer
  uint32_t reserved1 = 0;
  uint64_t deadline_ns = 0;  // CLOCK_MONOTONIC after which nobody waits for the answer; 0: none
  uint64_t reserved2[5] = {};
};
static_assert(sizeof(Submission) == 128 && offsetof(Submission, handle) == 16 &&
              offsetof(Submission, offset) == 48 && offsetof(Submission, buffer_offset) == 64 &&
              offsetof(Submission, deadline_ns) == 80);

// A pinned piece of the arena.
struct Extent {
  uint64_t arena_offset_bytes = 0;
  uint32_t length = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(Extent) == 16);

enum CompletionFlags : uint32_t {
  kCompletionPinned = 1U << 0,         // READ: extents are pinned until RELEASE
  kCompletionInBuffer = 1U << 1,       // READ: bytes lie in the buffer at `buffer_offset`
  kCompletionHandleUnknown = 1U << 2,  // status -ESTALE: send RESOLVE with the path, then again
  kCompletionObjectChanged =
      1U << 3,  // READ, status -ESTALE: the file has another object id now; send GETATTR
  kCompletionEndOfDirectory = 1U << 4,  // READDIR: no more records after these
};

// An answer. Written by the daemon.
struct Completion {
  uint64_t request_number = 0;
  int32_t status = 0;   // 0 or -errno
  uint32_t flags = 0;   // CompletionFlags
  uint64_t result = 0;  // bytes of output
  uint32_t buffer_offset = 0;
  uint32_t extent_count = 0;
  Extent extents[kExtentsPerCompletion];
};
static_assert(sizeof(Completion) == 192 && offsetof(Completion, extents) == 32);

// Indices run freely and are masked with depth - 1. A ring is full when tail - head == depth. The daemon ends
// the session of a client that has more than `depth` requests without consumed completions.
struct QueueControl {
  alignas(64) std::atomic<uint32_t> submission_tail;  // client stores (release)
  alignas(64) std::atomic<uint32_t> submission_head;  // daemon stores (release)
  alignas(64) std::atomic<uint32_t> completion_tail;  // daemon stores (release), then wakes; clients wait on
                                                      // it (futex)
  std::atomic<uint32_t> client_waiting;  // client: 1 before it waits; daemon wakes only if it is 1
  alignas(64) std::atomic<uint32_t> completion_head;  // client stores (release)
  alignas(64) std::atomic<uint64_t> touch_head;       // client: number of touches written so far
  uint64_t reserved[7];
};
static_assert(sizeof(QueueControl) == 320);

// Offsets inside a QueueArea.
inline constexpr uint64_t kHazardsOffset = sizeof(QueueControl);  // atomic u64: page + 1, or 0
inline constexpr uint64_t kTouchesOffset = kHazardsOffset + 8 * kHazardsPerQueue;   // atomic u32: page + 1
inline constexpr uint64_t kCountersOffset = kTouchesOffset + 4 * kTouchesPerQueue;  // atomic u64, by Counter
inline constexpr uint64_t kSubmissionsOffset = kCountersOffset + 8 * kCounters;
static_assert(kHazardsOffset == 320 && kTouchesOffset == 896 && kCountersOffset == 1920 &&
              kSubmissionsOffset == 2432);
inline constexpr uint64_t completions_offset(unsigned depth) {
  return kSubmissionsOffset + uint64_t{depth} * sizeof(Submission);
}
inline constexpr uint64_t queue_area_bytes(unsigned depth) {
  return completions_offset(depth) + uint64_t{depth} * sizeof(Completion);
}

// Who reads which data set, for `cachedctl top`: sums since the session began, written by the client's thread
// of the queue alone, believed for nothing else. A row is taken when its key is first needed and keeps it;
// the last row takes those that found none.
struct UseRow {
  std::atomic<uint64_t> key;  // use_key(), or 0: not taken
  std::atomic<uint64_t> reads;
  std::atomic<uint64_t> hit_bytes;   // found in memory without the daemon
  std::atomic<uint64_t> miss_bytes;  // asked of the daemon
};
static_assert(sizeof(UseRow) == 32);
inline constexpr unsigned kUseRows = 64;
inline constexpr uint64_t use_key(uint32_t uid, uint16_t data_set) {
  return uint64_t{uid} << 32 | uint64_t{data_set} << 16 | 1;
}
inline constexpr uint64_t kUseKeyOfOthers = UINT64_MAX;
inline constexpr uint64_t use_rows_offset(unsigned depth) {
  return (queue_area_bytes(depth) + alignof(QueueControl) - 1) / alignof(QueueControl) *
         alignof(QueueControl);
}
inline constexpr uint64_t use_rows_end(unsigned depth) {
  return use_rows_offset(depth) + kUseRows * sizeof(UseRow);
}

// One entry of READDIR's output; entries are 8-byte aligned and follow each other.
struct DirectoryRecord {
  uint32_t record_bytes = 0;  // to the next entry
  uint16_t name_length = 0;
  uint8_t type = 0;      // DT_* of dirent.h
  uint8_t has_info = 0;  // 1: `info` holds attributes
  uint64_t ino = 0;
  uint64_t next_cookie = 0;  // where a listing goes on after this entry
  InodeInfo info;
  // the name follows, without a terminator
};
static_assert(sizeof(DirectoryRecord) == 176);

// The places of one queue in a mapped session.
class QueueView {
 public:
  QueueView() = default;
  QueueView(std::byte* session, const SessionGeometry& geometry, unsigned queue)
      : area_(session + geometry.queues_offset_bytes + geometry.queue_stride_bytes * queue),
        buffer_(session + geometry.buffers_offset_bytes + geometry.buffer_bytes * queue),
        depth_(geometry.queue_depth),
        buffer_bytes_(geometry.buffer_bytes) {}
  QueueControl& control() const { return *reinterpret_cast<QueueControl*>(area_); }
  std::atomic<uint64_t>& hazard(unsigned i) const {
    return reinterpret_cast<std::atomic<uint64_t>*>(area_ + kHazardsOffset)[i];
  }
  std::atomic<uint32_t>& touch(uint64_t i) const {
    return reinterpret_cast<std::atomic<uint32_t>*>(area_ + kTouchesOffset)[i & (kTouchesPerQueue - 1)];
  }
  std::atomic<uint64_t>& counter(unsigned i) const {
    return reinterpret_cast<std::atomic<uint64_t>*>(area_ + kCountersOffset)[i];
  }
  Submission* submission(uint32_t index) const {
    return reinterpret_cast<Submission*>(area_ + kSubmissionsOffset) + (index & (depth_ - 1));
  }
  Completion* completion(uint32_t index) const {
    return reinterpret_cast<Completion*>(area_ + completions_offset(depth_)) + (index & (depth_ - 1));
  }
  // Only where the session has them.
  UseRow& use_row(unsigned i) const { return reinterpret_cast<UseRow*>(area_ + use_rows_offset(depth_))[i]; }
  std::byte* buffer() const { return buffer_; }
  uint64_t buffer_bytes() const { return buffer_bytes_; }
  unsigned depth() const { return depth_; }

 private:
  std::byte* area_ = nullptr;
  std::byte* buffer_ = nullptr;
  unsigned depth_ = 0;
  uint64_t buffer_bytes_ = 0;
};

// The geometry of a session with these parameters (already within limits).
inline SessionGeometry make_session_geometry(unsigned queue_count, unsigned queue_depth,
                                             uint64_t buffer_bytes, unsigned shards) {
  SessionGeometry g;
  g.queue_count = queue_count;
  g.queue_depth = queue_depth;
  g.shards = shards;
  g.queues_offset_bytes = kPageBytes;
  g.queue_stride_bytes = (use_rows_end(queue_depth) + kPageBytes - 1) / kPageBytes * kPageBytes;
  g.buffers_offset_bytes = g.queues_offset_bytes + g.queue_stride_bytes * queue_count;
  g.buffer_bytes = (buffer_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  g.total_bytes = g.buffers_offset_bytes + g.buffer_bytes * queue_count;
  return g;
}

}  // namespace cached::shm
