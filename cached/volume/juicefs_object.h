// JuicefsObject: reads one slice of a JuiceFS volume, whose blocks are objects of a store.
//
// A plain block is read where it is asked for and no further. A compressed one is read as a whole and
// decompressed once, on threads of their own; the last of them are kept (PlainBlocks), because its 128 KiB
// pieces are asked for one after another, and unit_bytes() tells the read path to ask for all of them.
//
// A block that is not there was either taken away by compaction, which wrote its bytes elsewhere, or is lost:
// only the file's metadata can tell, so MissingBlocks decides.
//
// Any thread that runs coroutines.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "cached/io/blocking_pool.h"
#include "cached/origin/block_store.h"
#include "cached/origin/dir_file.h"
#include "cached/origin/failure_log.h"
#include "cached/origin/source.h"
#include "cached/volume/juicefs_format.h"
#include "cached/volume/lru_map.h"

namespace cached::volume {

// What a missing block means for who reads `handle`.
class MissingBlocks {
 public:
  // ESTALE with `changed` if the file's bytes may lie elsewhere by now, EIO if they are lost. Ends on
  // `reactor`.
  virtual io::Task<origin::Outcome> missing_block(io::Reactor& reactor, shm::Handle handle,
                                                  juicefs::SliceName slice) = 0;

 protected:
  ~MissingBlocks() = default;
};

// Blocks that were decompressed lately. Any thread.
class PlainBlocks {
 public:
  using Block = std::shared_ptr<const std::string>;
  struct Decompressing {
    io::Event done;
    Block block;  // null: failed
    origin::Outcome outcome;
  };
  using Key = std::pair<uint64_t, uint64_t>;  // slice, index

  explicit PlainBlocks(size_t blocks) : blocks_(blocks) {}
  Block find(const Key& key);
  void put(const Key& key, Block block);
  // The fetch of `key` that is under way on `reactor`, or a new one, which the caller carries out and ends.
  std::shared_ptr<Decompressing> join(const Key& key, io::Reactor& reactor, bool* is_new);
  void end(const Key& key, io::Reactor& reactor);

 private:
  struct KeyHash {
    size_t operator()(const Key& key) const { return key.first * 0x9E3779B97F4A7C15ULL + key.second; }
  };
  std::mutex mutex_;  // guards all below
  LruMap<Key, Block, KeyHash> blocks_;
  std::map<std::tuple<uint64_t, uint64_t, io::Reactor*>, std::shared_ptr<Decompressing>> running_;
};

class JuicefsObject : public origin::ObjectReader {
 public:
  // What all slices of a volume share.
  struct Context {
    Context(juicefs::Setting set, std::shared_ptr<origin::BlockStore> blocks,
            std::shared_ptr<origin::FailureLog> log, MissingBlocks& decides, origin::OriginCounters& counts);
    const juicefs::Setting setting;
    const std::shared_ptr<origin::BlockStore> store;
    const std::shared_ptr<origin::FailureLog> damage;
    MissingBlocks& missing;
    origin::OriginCounters& counters;
    PlainBlocks plain;
    io::BlockingPool decompressors;
  };
  JuicefsObject(std::shared_ptr<Context> context, shm::Handle handle, juicefs::SliceName slice)
      : context_(std::move(context)), handle_(handle), slice_(slice) {}

  uint64_t size() const override { return slice_.size; }
  uint64_t run_bytes() const override { return shm::kExtentBytes; }
  uint64_t unit_bytes() const override {
    return context_->setting.compression == juicefs::Compression::kNone ? 0 : context_->setting.block_bytes;
  }
  io::Task<origin::Outcome> read(io::Reactor& reactor, uint64_t offset, uint64_t length,
                                 std::vector<iovec> iovecs) override;

 private:
  struct Join {
    unsigned running = 0;
    io::Event done;
    origin::Outcome outcome;
  };
  io::Task<void> read_part(io::Reactor& reactor, uint64_t begin, uint64_t end, std::vector<iovec> iovecs,
                           Join* join);
  // [begin, end) of the slice, within one block.
  io::Task<origin::Outcome> read_block(io::Reactor& reactor, uint64_t begin, uint64_t end,
                                       std::vector<iovec> iovecs);
  io::Task<origin::Outcome> copy_plain(io::Reactor& reactor, uint64_t begin, uint64_t end,
                                       std::vector<iovec> iovecs);
  io::Task<void> fetch_plain(io::Reactor& reactor, uint64_t index, PlainBlocks::Decompressing* result);
  io::Task<origin::Outcome> failed(io::Reactor& reactor, const std::string& name, Status status);

  const std::shared_ptr<Context> context_;
  const shm::Handle handle_;
  const juicefs::SliceName slice_;
};

}  // namespace cached::volume
