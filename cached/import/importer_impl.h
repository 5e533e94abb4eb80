// What the two halves of the importer share: see importer.h.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "cached/import/importer.h"

namespace cached::import {

// One name on its way into the snapshot. Belongs to the walking thread, but for what a pack's thread fills in
// before the pack is done.
struct Importer::Item {
  std::string path;
  volume::Entry entry;
  SourceInode inode;
  bool failed = false;  // named as a problem
  // Content: one of these three, for a file that is not empty.
  bool found = false;  // in the base or in a journal; `object` says where
  std::shared_ptr<Pack> pack;
  std::shared_ptr<LargeFile> large;
  std::shared_ptr<const StoredObject> object;  // where it is, once it is stored
  uint64_t offset = 0;                         // in the object

  bool is_ready() const;
};

// Small files that one job reads and stores.
struct Importer::Pack {
  std::vector<Item*> items;
  uint64_t planned_bytes = 0;
  Latch done;
};

// A file with an object of its own, stored by a job for each piece.
struct Importer::LargeFile {
  Item* item = nullptr;
  UniqueFd fd;
  volume::ObjectLayout layout;
  StoredObject object;
  std::unique_ptr<Latch> pieces;
  std::atomic<bool> again{false};    // it changed, or its object is somebody else's
  std::atomic<bool> noted{false};    // the journal knows which object is this file's
  std::atomic<uint64_t> counted{0};  // bytes added to the progress
  std::string trouble;               // why it cannot be read; under the importer's mutex
  unsigned attempt = 1;
};

// A directory that scan threads look at.
struct Importer::Scan {
  PendingDirectory directory;
  Status status;
  UniqueFd fd;
  SourceInode self;
  std::vector<std::string> names;
  std::vector<Result<SourceInode>> inodes;
  Latch listed;
};

class Importer::BaseCursor {
 public:
  // Without a base, or with directory 0, there is nothing to find.
  BaseCursor(volume::SnapshotReader* base, uint32_t directory);
  // The entry of `name`, or null; valid until the next call. Names come in ascending order.
  Result<const volume::Entry*> find(const std::string& name);

 private:
  volume::SnapshotReader* const base_;
  const uint32_t directory_;
  std::vector<volume::Entry> batch_;
  size_t place_ = 0;
  bool end_ = false;
};

}  // namespace cached::import
