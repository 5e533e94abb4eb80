// StoreMetadataSource: metadata of data sets straight from the object store, with a bounded memory of the
// blocks that were read last.
//
// Tools read through it, and block; the daemon gives it a reactor, and coroutines wait. One read serves all
// who want a block at the same time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "cached/io/reactor.h"
#include "cached/io/task.h"
#include "cached/origin/object_store.h"
#include "cached/volume/dataset_reader.h"
#include "cached/volume/lru_map.h"

namespace cached::volume {

class StoreMetadataSource : public MetadataSource {
 public:
  struct Options {
    uint64_t unit_bytes = kChecksumBlockBytes;  // of one read: a power of two from a block to a piece
    size_t units_kept = 512;
  };
  // Blocks the calling thread if `reactor` is null; otherwise belongs to that reactor's thread.
  StoreMetadataSource(std::shared_ptr<origin::ObjectStore> store, std::string volume, io::Reactor* reactor,
                      const Options& options);
  io::Task<Result<PinnedBytes>> read_metadata(shm::ObjectId object, uint64_t offset,
                                              uint64_t length) override;

 private:
  using Unit = std::shared_ptr<const std::string>;
  struct Key {
    shm::ObjectId object;
    uint64_t unit = 0;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const {
      return std::hash<shm::ObjectId>{}(key.object) ^ (key.unit * 0xD6E8FEB86659FD93ULL);
    }
  };
  struct Fetch {
    io::Event done;
    Result<Unit> result = Status(EIO, "not read yet");
  };
  io::Task<Result<Unit>> fetch(Key key);
  io::Task<Result<Unit>> read_unit(Key key);

  const std::shared_ptr<origin::ObjectStore> store_;
  const std::string volume_;
  io::Reactor* const reactor_;
  const Options options_;
  LruMap<Key, Unit, KeyHash> kept_;
  std::unordered_map<Key, std::shared_ptr<Fetch>, KeyHash> in_flight_;
};

// Runs a task that never waits for a reactor to its end: everything below it blocks.
template <typename T>
T run_blocking(io::Task<T> task) {
  std::optional<T> result;
  const auto keep = [](io::Task<T> inner, std::optional<T>* place) -> io::Task<void> {
    place->emplace(co_await std::move(inner));
  };
  io::spawn(keep(std::move(task), &result));
  return std::move(*result);
}

}  // namespace cached::volume
