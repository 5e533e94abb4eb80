// SnapshotBuilder: writes the tables of a new snapshot, front to back, in memory that does not grow with the
// tree but for the numbers of data objects and the shared attributes.
//
// Entries come in the order of the table (FORMAT.md): the root, then directory by directory. Pages gather
// into pieces of 4 MiB, which are stored in the background, a few at once.
//
// One thread. Errors of the store come out of whichever call is next, and of finish().
#pragma once

#include <array>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "cached/origin/object_store.h"
#include "cached/volume/dataset_entry.h"
#include "cached/volume/dataset_format.h"

namespace cached::import {

// A data object that is in the store, or partly on its way there.
struct StoredObject {
  volume::ObjectRecord record;          // places in tables not filled in
  std::vector<volume::Extent> extents;  // if not dense
  std::vector<uint64_t> checksums;
};

class SnapshotBuilder {
 public:
  SnapshotBuilder(origin::ObjectStore& store, std::string volume, uint64_t import_id);
  ~SnapshotBuilder();

  // The number of the record with these, made if need be.
  uint64_t add_attributes(uint32_t mode, uint32_t uid, uint32_t gid,
                          const std::vector<volume::Xattr>& xattrs);
  // The number of a data object that is in the snapshot already.
  const uint64_t* find_object(const shm::ObjectId& id) const;
  uint64_t add_object(const StoredObject& object);
  // Adds the next entry and gives it its number, which is returned. EFBIG beyond the limits of the format.
  Result<uint64_t> add_entry(volume::Entry entry);
  // The number that the next entry will have.
  uint64_t next_entry() const { return record_.entries; }
  // Stores what is left and waits for all of it; then the record, whose fields about the source and the base
  // are the caller's to fill in.
  Result<volume::SnapshotRecord> finish();

 private:
  class Uploads;
  // One table: pages on their way into pieces.
  struct TableWriter {
    std::string payload;  // of the page that is being filled; streams only
    std::string piece;
    uint64_t pieces = 0;
  };
  void append(volume::Table table, std::string_view bytes);
  void end_page(volume::Table table, std::string_view payload, uint64_t first_entry);
  void end_piece(volume::Table table);
  void end_entry_page();
  TableWriter& writer(volume::Table table) { return writers_[static_cast<size_t>(table)]; }
  volume::TablePlace& place(volume::Table table) { return record_.tables[static_cast<size_t>(table)]; }

  const std::string volume_;
  volume::SnapshotRecord record_;
  std::array<TableWriter, volume::kTables> writers_;
  volume::EntryPageWriter entry_page_;
  volume::IndexWriter index_;
  std::unordered_map<shm::ObjectId, uint64_t> objects_;
  std::unordered_map<std::string, uint64_t> attributes_;  // by their encoding's hash
  std::unique_ptr<Uploads> uploads_;
};

}  // namespace cached::import
