// ObjectStore: named objects, which data sets are kept in. RadosStore (rados_store.h) is the one that ships;
// the formats above it depend on this interface alone.
//
// Two pools. Data objects are large and written once; their pool may be erasure-coded, so it takes only read,
// stat, write_full, create, remove and list. Metadata objects are small, their pool is replicated, and it
// takes everything. Both may be the same pool. A RADOS namespace, where one is configured, is applied to both
// by the store.
//
// Operations are Calls: call.h says how to await, block for or collect them. Errors, all with a message that
// names the object:
//   ENOENT     the object (or the xattr) is not there
//   EEXIST     create: it is there already
//   ECANCELED  replace: another writer was faster; also every operation of a store that was closed
//   ENOSPC, EDQUOT   the cluster or the pool is full
//   EFBIG      read_small: the object is longer than allowed
//   ETIMEDOUT  no answer within the store's time-out, retries included
//   EIO and others   what the cluster reported
// A failed write may have happened or may yet happen, as with every remote store: write_full, remove, xattr
// and omap operations may simply be repeated, create and replace say what they do.
//
// Any thread may call anything. Callbacks run on the store's own threads.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "cached/origin/call.h"

namespace cached::origin {

enum class Pool : uint8_t { kData, kMetadata };

struct ObjectName {
  Pool pool = Pool::kData;
  std::string name;  // at most kMaximumNameBytes, no NUL
};

inline constexpr size_t kMaximumNameBytes = 1024;                   // RADOS takes 2048
inline constexpr uint64_t kMaximumReadBytes = uint64_t{4} << 20;    // one read
inline constexpr uint64_t kMaximumWriteBytes = uint64_t{16} << 20;  // one write_full, create or replace

// A small object as it was at one moment. `version` is not 0, and no other content of an object of that name
// ever has the same one.
struct VersionedBytes {
  std::string bytes;
  uint64_t version = 0;
};

struct OmapEntry {
  std::string key;
  std::string value;
};

struct OmapPage {
  std::vector<OmapEntry> entries;  // in order of key
  bool more = false;               // there are keys after the last one
};

// Whether a store can be used now. Operations may be begun in any state: they wait while it connects.
struct StoreState {
  enum class Phase : uint8_t { kConnecting, kReady, kFailed };
  Phase phase = Phase::kConnecting;
  std::string why;  // kFailed: one line, what is missing; it is tried again in the background all the same
};

// What a store was asked for and what came of it, for figures and tests. Retries of one operation count once.
struct StoreCounters {
  std::atomic<uint64_t> reads{0};  // read and read_small
  std::atomic<uint64_t> read_bytes{0};
  std::atomic<uint64_t> writes{0};  // write_full, create, replace
  std::atomic<uint64_t> written_bytes{0};
  std::atomic<uint64_t> others{0};  // everything else
  std::atomic<uint64_t> retries{0};
  std::atomic<uint64_t> errors{0};  // ENOENT, EEXIST and a lost replace are answers, not errors
  std::atomic<uint64_t> in_flight{0};
};

class ObjectStore {
 public:
  virtual ~ObjectStore() = default;

  // Reads from `offset` into `iovecs` (kMaximumReadBytes in sum at most); yields how many bytes there were,
  // which is less than asked for only at the end of the object, 0 beyond it. One round trip. The buffers may
  // be written to until the call ended, also if it failed.
  virtual Call<uint64_t> read(ObjectName object, uint64_t offset, std::vector<iovec> iovecs) = 0;

  // The whole object with its version, in one round trip; EFBIG if it is longer than `limit_bytes`.
  virtual Call<VersionedBytes> read_small(ObjectName object, uint64_t limit_bytes) = 0;

  // Length in bytes.
  virtual Call<uint64_t> stat(ObjectName object) = 0;

  // Makes the object, or replaces its content as a whole. `bytes` are copied when the
  // call begins.
  virtual Call<void> write_full(ObjectName object, std::span<const std::byte> bytes) = 0;

  // Makes the object; EEXIST if there is one. If a time-out hid our own success, the object that is there is
  // compared, and one with exactly `bytes` counts as ours.
  virtual Call<void> create(ObjectName object, std::span<const std::byte> bytes) = 0;

  // The guarded switch: replaces the content if the object still has `version` (from read_small), otherwise
  // ECANCELED; ENOENT if it is gone. Of several contenders with one version exactly one succeeds. After a
  // time-out an object that has exactly `bytes` counts as ours: give contenders content that differs (a
  // nonce, a writer's id). Yields nothing: read_small tells the new version.
  virtual Call<void> replace(ObjectName object, uint64_t version, std::span<const std::byte> bytes) = 0;

  // ENOENT if it is not there.
  virtual Call<void> remove(ObjectName object) = 0;

  // Extended attributes of objects in the metadata pool.
  virtual Call<std::string> get_xattr(ObjectName object, std::string key) = 0;
  virtual Call<void> set_xattr(ObjectName object, std::string key, std::string value) = 0;

  // Small sorted tables in objects of the metadata pool: up to `limit` entries with keys greater than
  // `after`; set and remove take effect all at once. omap_set makes the object if need be.
  virtual Call<OmapPage> omap_get(ObjectName object, std::string after, uint64_t limit) = 0;
  virtual Call<void> omap_set(ObjectName object, std::vector<OmapEntry> entries) = 0;
  virtual Call<void> omap_remove(ObjectName object, std::vector<std::string> keys) = 0;

  // Calls `visit` for every object of the pool whose name begins with `prefix`, in no order, in constant
  // memory, until it returns false. The whole namespace is walked, since the cluster knows no prefixes.
  // Objects made or removed meanwhile may be seen or not. Blocks: never on a reactor's thread. ETIMEDOUT as
  // for other operations.
  virtual Status list(Pool pool, const std::string& prefix,
                      const std::function<bool(const std::string& name)>& visit) = 0;

  virtual StoreState state() const = 0;
  // What messages call it: "rados pool `p` namespace `n`".
  virtual std::string description() const = 0;
  virtual const StoreCounters& counters() const = 0;

  // Ends everything: operations in flight end with ECANCELED (or with their result), and so does every later
  // one at once. When it returns no callback runs any more and no buffer is written to. The order of a
  // shutdown: stop the reactors, close the stores, then free buffers, coroutines' owners and reactors. Not
  // from a callback.
  virtual void close() = 0;
};

}  // namespace cached::origin
