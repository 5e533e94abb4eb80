// BlockStore: where the immutable blocks of a JuiceFS volume lie, by name: RADOS objects, or files below a
// directory.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "cached/io/blocking_pool.h"
#include "cached/io/reactor.h"
#include "cached/io/task.h"
#include "cached/origin/object_store.h"

namespace cached::origin {

class BlockStore {
 public:
  virtual ~BlockStore() = default;
  // Reads from `offset` of the block into `iovecs`; ends on `reactor`, the caller's, with how many bytes
  // there were, which is less than asked for only at the block's end. ENOENT if there is no such block.
  virtual io::Task<Result<uint64_t>> read(io::Reactor& reactor, std::string name, uint64_t offset,
                                          std::vector<iovec> iovecs) = 0;
  // Ends what is in flight; to be called once the reactors have stopped.
  virtual void close() = 0;
};

// Blocks as files `directory`/name.
class FileBlockStore : public BlockStore {
 public:
  FileBlockStore(std::string directory, unsigned threads);
  io::Task<Result<uint64_t>> read(io::Reactor& reactor, std::string name, uint64_t offset,
                                  std::vector<iovec> iovecs) override;
  void close() override {}

 private:
  const std::string directory_;
  io::BlockingPool pool_;
};

// Blocks as objects of the data pool of `store`.
class RadosBlockStore : public BlockStore {
 public:
  explicit RadosBlockStore(std::shared_ptr<ObjectStore> store) : store_(std::move(store)) {}
  io::Task<Result<uint64_t>> read(io::Reactor& reactor, std::string name, uint64_t offset,
                                  std::vector<iovec> iovecs) override;
  void close() override { store_->close(); }

 private:
  const std::shared_ptr<ObjectStore> store_;
};

}  // namespace cached::origin
