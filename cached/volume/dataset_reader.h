// SnapshotReader: answers questions about one snapshot from its tables, page by page.
//
// The bytes come from a MetadataSource, which is the seam between the format and the caches: the daemon puts
// the node's cache behind it, tools read the store (store_metadata.h). Whoever is behind it need not be
// trusted: each page is checked when it is used. In memory a reader holds the index only.
//
// Threads: one, the source's. All answers are values. Errors: EIO for damage, what the source reports
// otherwise; ENOENT is never an error here.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "cached/io/task.h"
#include "cached/volume/dataset_entry.h"
#include "cached/volume/dataset_format.h"

namespace cached::volume {

// Bytes that stay as they are for as long as `keep` lives.
struct PinnedBytes {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> keep;
};

class MetadataSource {
 public:
  virtual ~MetadataSource() = default;
  // The bytes [offset, offset + length) of a metadata object, all of them or an error. They lie in one block
  // of 128 KiB. Called on the source's own thread, and ends there.
  virtual io::Task<Result<PinnedBytes>> read_metadata(shm::ObjectId object, uint64_t offset,
                                                      uint64_t length) = 0;
};

class SnapshotReader {
 public:
  // Reads the index. `source` outlives the reader.
  static io::Task<Result<std::unique_ptr<SnapshotReader>>> open(SnapshotRecord record,
                                                                MetadataSource& source);

  const SnapshotRecord& record() const { return record_; }

  // Entry `number`; EIO if there is none.
  io::Task<Result<Entry>> entry(uint64_t number);
  // The entry of `name` in a directory, if it is there.
  io::Task<Result<std::optional<Entry>>> find(uint32_t directory, std::string name);
  // Up to `limit` entries of a directory, in order, from entry `from` on (0: from the first). Fewer only at
  // its end.
  io::Task<Result<std::vector<Entry>>> list(uint32_t directory, uint64_t from, size_t limit);
  // The entry that holds the inode of `entry`: itself, unless it is a further hard link.
  io::Task<Result<Entry>> inode_of(Entry entry);

  io::Task<Result<AttributeRecord>> attributes(uint64_t number);
  io::Task<Result<std::vector<Xattr>>> xattrs(AttributeRecord attributes);
  io::Task<Result<ObjectRecord>> object(uint64_t number);
  io::Task<Result<std::vector<Extent>>> extents(ObjectRecord object);
  // `count` checksums from number `first` of the table on; at most kPagePayloadBytes / 8.
  io::Task<Result<std::vector<uint64_t>>> checksums(uint64_t first, uint64_t count);
  // Proves page `page` of a table.
  io::Task<Status> check(Table table, uint64_t page);

 private:
  struct Page {
    PageView view;
    std::shared_ptr<const void> keep;
  };
  SnapshotReader(SnapshotRecord record, MetadataSource& source)
      : record_(std::move(record)), source_(source) {}
  io::Task<Result<Page>> page(Table table, uint64_t number);
  // `length` bytes at `offset` of a table that is a stream.
  io::Task<Result<std::string>> stream(Table table, uint64_t offset, uint64_t length);
  template <typename Record>
  io::Task<Result<Record>> fixed_record(Table table, uint64_t number);
  // The page of entries in which (directory, name) is, if it is anywhere.
  uint64_t page_of(uint32_t directory, std::string_view name) const;
  uint64_t page_of(uint64_t entry) const;

  const SnapshotRecord record_;
  MetadataSource& source_;
  std::vector<IndexKey> index_;
};

}  // namespace cached::volume
