// A snapshot opened by a tool: its reader with the source that it reads from, and walks over its objects. All
// of it blocks and belongs to one thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "cached/import/snapshot_builder.h"
#include "cached/origin/object_store.h"
#include "cached/volume/dataset_layout.h"
#include "cached/volume/dataset_reader.h"
#include "cached/volume/rados_metadata.h"

namespace cached::import {

class SnapshotAccess {
 public:
  static Result<std::unique_ptr<SnapshotAccess>> open(const std::shared_ptr<origin::ObjectStore>& store,
                                                      const std::string& volume,
                                                      const volume::SnapshotMark& mark);
  volume::SnapshotReader& reader() { return *reader_; }
  const volume::SnapshotRecord& record() const { return reader_->record(); }

  // The record of an object with its layout.
  Result<volume::ObjectLayout> layout(const volume::ObjectRecord& record);
  // All checksums of an object.
  Result<std::vector<uint64_t>> checksums(const volume::ObjectRecord& record);
  // An object as a new snapshot takes it over.
  Result<StoredObject> stored_object(uint64_t number);
  // Calls `visit` for each object of the snapshot, until it returns an error.
  Status for_each_object(const std::function<Status(const volume::ObjectRecord&)>& visit);

 private:
  SnapshotAccess() = default;
  std::unique_ptr<volume::StoreMetadataSource> source_;
  std::unique_ptr<volume::SnapshotReader> reader_;
};

}  // namespace cached::import
