// RadosObject: reads a data object, or a table of metadata, of a data set: pieces from the store, zeros for
// holes, and proof of each block before anybody sees it.
//
// A block whose bytes are not those that were imported is EIO, with a line in the log that names the piece.
// Checking costs about 8 us for 128 KiB. Only whole blocks can be proved: a read that begins or ends inside
// of one reads it to its ends into a buffer of its own. The pages of tables carry checksums of their own.
// They are proved here, so that a damaged one enters no cache and can be read once it is repaired, and again
// by who uses them, since caches lie between.
//
// Any thread that runs coroutines.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cached/origin/dir_file.h"
#include "cached/origin/failure_log.h"
#include "cached/origin/object_store.h"
#include "cached/origin/source.h"
#include "cached/volume/dataset_layout.h"
#include "cached/volume/lru_map.h"

namespace cached::volume {

class RadosObject : public origin::ObjectReader {
 public:
  // Where blocks' checksums come from: `count` of them from number `first` of the object on. Ends on
  // `caller`.
  using Checksums = std::function<io::Task<Result<std::vector<uint64_t>>>(io::Reactor& caller, uint64_t first,
                                                                          uint64_t count)>;
  using Group = std::shared_ptr<const std::vector<uint64_t>>;
  // Checksums that were fetched lately, in groups of kGroup, which cover 128 MiB each: 64 MiB of them at
  // most.
  class ChecksumCache {
   public:
    Group find(const shm::ObjectId& object, uint64_t group);
    void put(const shm::ObjectId& object, uint64_t group, Group checksums);

   private:
    struct Key {
      shm::ObjectId object;
      uint64_t group = 0;
      friend bool operator==(const Key&, const Key&) = default;
    };
    struct KeyHash {
      size_t operator()(const Key& key) const {
        return std::hash<shm::ObjectId>{}(key.object) ^ (key.group * 0xD6E8FEB86659FD93ULL);
      }
    };
    std::mutex mutex_;  // guards groups_
    LruMap<Key, Group, KeyHash> groups_{8192};
  };
  // What all objects of a volume share; outlives them.
  struct Context {
    std::shared_ptr<origin::ObjectStore> store;
    std::shared_ptr<origin::FailureLog> damage;
    std::string volume;
    origin::OriginCounters* counters = nullptr;
    std::shared_ptr<ChecksumCache> checksums = std::make_shared<ChecksumCache>();
  };
  RadosObject(const Context& context, ObjectLayout layout, Checksums checksums);
  // A table of metadata, which lies at `place`.
  static std::shared_ptr<RadosObject> table(const Context& context, Table table, const TablePlace& place);

  uint64_t size() const override { return layout_.size(); }
  uint64_t run_bytes() const override { return kPieceBytes; }
  bool is_pack() const override { return (layout_.record().flags & kObjectPack) != 0; }
  io::Task<origin::Outcome> read(io::Reactor& reactor, uint64_t offset, uint64_t length,
                                 std::vector<iovec> iovecs) override;

 private:
  static constexpr uint64_t kGroup = 1024;

  io::Task<origin::Outcome> read_whole(io::Reactor& reactor, uint64_t begin, uint64_t end,
                                       const std::vector<iovec>& iovecs);
  // Fills iovecs with [begin, end), which lies in one piece, without proof.
  io::Task<origin::Outcome> read_piece(io::Reactor& reactor, uint64_t begin, uint64_t end,
                                       std::vector<iovec> iovecs);
  io::Task<origin::Outcome> prove(io::Reactor& reactor, uint64_t begin, uint64_t end,
                                  const std::vector<iovec>& iovecs);
  // Proves the pages that lie in [begin, end) whole.
  origin::Outcome prove_pages(uint64_t begin, uint64_t end, const std::vector<iovec>& iovecs) const;
  io::Task<Result<Group>> group(io::Reactor& reactor, uint64_t number);

  const Context& context_;
  const ObjectLayout layout_;
  const Checksums checksums_;  // null: a table
  Table table_ = {};           // which one
};

}  // namespace cached::volume
