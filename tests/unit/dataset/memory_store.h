// An ObjectStore in memory, for tests of the format and of imports: counts, fails and damages on request.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "cached/origin/object_store.h"

namespace cached::testing_dataset {

class MemoryStore : public origin::ObjectStore {
 public:
  using Name = std::pair<origin::Pool, std::string>;

  // Called before each write with the object's name; an error is what the write ends with. May block.
  std::function<Status(const std::string& name)> before_write;
  // Called before each read.
  std::function<Status(const std::string& name)> before_read;

  origin::Call<uint64_t> read(origin::ObjectName object, uint64_t offset, std::vector<iovec> iovecs) override;
  origin::Call<origin::VersionedBytes> read_small(origin::ObjectName object, uint64_t limit_bytes) override;
  origin::Call<uint64_t> stat(origin::ObjectName object) override;
  origin::Call<void> write_full(origin::ObjectName object, std::span<const std::byte> bytes) override;
  origin::Call<void> create(origin::ObjectName object, std::span<const std::byte> bytes) override;
  origin::Call<void> replace(origin::ObjectName object, uint64_t version,
                             std::span<const std::byte> bytes) override;
  origin::Call<void> remove(origin::ObjectName object) override;
  origin::Call<std::string> get_xattr(origin::ObjectName object, std::string key) override;
  origin::Call<void> set_xattr(origin::ObjectName object, std::string key, std::string value) override;
  origin::Call<origin::OmapPage> omap_get(origin::ObjectName object, std::string after,
                                          uint64_t limit) override;
  origin::Call<void> omap_set(origin::ObjectName object, std::vector<origin::OmapEntry> entries) override;
  origin::Call<void> omap_remove(origin::ObjectName object, std::vector<std::string> keys) override;
  Status list(origin::Pool pool, const std::string& prefix,
              const std::function<bool(const std::string& name)>& visit) override;
  origin::StoreState state() const override { return {origin::StoreState::Phase::kReady, ""}; }
  std::string description() const override { return "a store in memory"; }
  const origin::StoreCounters& counters() const override { return counters_; }
  void close() override {}

  // For tests. All names, with their pool's prefix "d:" or "m:".
  std::set<std::string> names();
  // Lets a test change the bytes of an object; false if there is none.
  bool damage(const std::string& name, const std::function<void(std::string* bytes)>& change);
  // read_small() does not end from now on until release_small_reads().
  void hold_small_reads();
  void release_small_reads();
  uint64_t reads() const { return counters_.reads; }
  uint64_t written_bytes() const { return counters_.written_bytes; }
  uint64_t bytes_in(origin::Pool pool);

 private:
  struct Object {
    std::string bytes;
    uint64_t version = 0;
    std::map<std::string, std::string> omap;
  };
  template <typename T>
  origin::Call<T> later(std::function<origin::CallResult<T>()> run);
  Status put(const origin::ObjectName& object, const std::string& bytes);

  std::mutex mutex_;
  std::map<Name, Object> objects_;
  uint64_t next_version_ = 1;
  bool holding_ = false;
  std::vector<std::function<void()>> held_;  // small reads, to be ended
  origin::StoreCounters counters_;
};

}  // namespace cached::testing_dataset
