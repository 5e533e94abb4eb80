// RadosStore: an ObjectStore in RADOS, through librados alone.
//
// One client for the node: stores whose options name the same cluster and user share a connection
// (RadosCluster), which has librados's threads, sockets and maps. Connecting, and looking up pools, happens
// on a thread of the store's own, so nothing here ever blocks its caller except list(), close() and the
// destructor.
//
// Time. librados waits for ever by default. Here each attempt is given a quarter of `origin_timeout`; what
// times out, or fails in a way that may pass, is tried again with exponential backoff until `origin_timeout`
// is over (an attempt that runs then may take its quarter to the end). Operations that come while the cluster
// cannot be reached wait in the same way; while a key or a pool is missing they fail at once with the reason.
// librados touches a caller's buffer for the last time before it reports an attempt's end, a time-out
// included, so no buffer is ever written to later.
//
// Log. The first operation that fails or has to be retried is logged with object and reason, then at most a
// few lines a minute with a count of the rest, and one line when the cluster answers again.
#pragma once

#include <cstdint>
#include <memory>
#include <rados/librados_fwd.hpp>
#include <string>
#include <vector>

#include "cached/origin/object_store.h"

namespace cached::origin {

class RadosEngine;

struct RadosOptions {
  std::string conf_file = "/etc/ceph/ceph.conf";
  std::string user = "admin";           // "client." in front is allowed
  std::string keyring;                  // file with the user's key; empty: where ceph.conf says
  std::string pool;                     // of data objects
  std::string metadata_pool;            // of metadata objects; empty: `pool`
  std::string rados_namespace;          // of all objects; empty: the default one
  uint32_t origin_timeout_ms = 60'000;  // at least kMinimumOriginTimeoutMs
};

inline constexpr uint32_t kMinimumOriginTimeoutMs = 1'000;

// How long one operation may take before it fails: its last attempt may begin just before its time is over,
// and has a quarter of it.
constexpr uint32_t longest_operation_ms(uint32_t origin_timeout_ms) {
  return origin_timeout_ms + origin_timeout_ms / 4;
}

class RadosStore : public ObjectStore {
 public:
  // Begins to connect in the background and returns at once. EINVAL for options that can never work.
  static Result<std::shared_ptr<RadosStore>> open(const RadosOptions& options);
  // Closes it if that was not done.
  ~RadosStore() override;
  RadosStore(const RadosStore&) = delete;
  RadosStore& operator=(const RadosStore&) = delete;

  // Waits until the store is ready or `timeout_ms` have passed; for tools. The error says what is missing;
  // one that only a change of the configuration can mend is returned at once.
  Status wait_ready(uint32_t timeout_ms);

  Call<uint64_t> read(ObjectName object, uint64_t offset, std::vector<iovec> iovecs) override;
  Call<VersionedBytes> read_small(ObjectName object, uint64_t limit_bytes) override;
  Call<uint64_t> stat(ObjectName object) override;
  Call<void> write_full(ObjectName object, std::span<const std::byte> bytes) override;
  Call<void> create(ObjectName object, std::span<const std::byte> bytes) override;
  Call<void> replace(ObjectName object, uint64_t version, std::span<const std::byte> bytes) override;
  Call<void> remove(ObjectName object) override;
  Call<std::string> get_xattr(ObjectName object, std::string key) override;
  Call<void> set_xattr(ObjectName object, std::string key, std::string value) override;
  Call<OmapPage> omap_get(ObjectName object, std::string after, uint64_t limit) override;
  Call<void> omap_set(ObjectName object, std::vector<OmapEntry> entries) override;
  Call<void> omap_remove(ObjectName object, std::vector<std::string> keys) override;
  Status list(Pool pool, const std::string& prefix,
              const std::function<bool(const std::string& name)>& visit) override;
  StoreState state() const override;
  std::string description() const override;
  const StoreCounters& counters() const override;
  void close() override;

 private:
  enum class WriteKind : uint8_t { kFull, kCreate, kReplace };
  using Fill = std::function<void(librados::ObjectWriteOperation*)>;
  explicit RadosStore(std::shared_ptr<RadosEngine> engine) : engine_(std::move(engine)) {}
  Call<void> write(ObjectName object, std::span<const std::byte> bytes, WriteKind kind, uint64_t version);
  Call<void> change(ObjectName object, const char* verb, Fill fill);

  const std::shared_ptr<RadosEngine> engine_;
};

}  // namespace cached::origin
