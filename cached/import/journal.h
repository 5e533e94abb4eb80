// The journal of an import: what it has stored so far, kept in the store, so that the next import finds it
// done whatever became of this one.
//
// Written every few seconds; what was stored after the last time is stored again by the next import, under
// other ids. Read once, at the start of an import, into a table from a file's version to its content.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "cached/import/snapshot_builder.h"
#include "cached/import/source_tree.h"
#include "cached/origin/object_store.h"
#include "cached/volume/dataset_bytes.h"

namespace cached::import {

// Names a version of a file's content: a hash of all that would differ for another.
struct ContentKey {
  uint64_t high = 0;
  uint64_t low = 0;
  friend bool operator==(const ContentKey&, const ContentKey&) = default;
};
ContentKey content_key(const SourceInode& inode);

// One piece of an object with the checksums of its blocks.
struct StoredPiece {
  uint64_t piece = 0;
  std::vector<uint64_t> checksums;
};

// Who runs an import, for others to see.
struct ImportOwner {
  std::string host;
  std::string boot_id;
  uint64_t pid = 0;
  uint64_t process_started = 0;  // clock ticks since boot: tells reused pids apart
  int64_t last_seen_ns = 0;      // since the epoch

  static ImportOwner self();
  // Whether the import may still be going on: for a process of this boot exactly, for others by the last sign
  // of life.
  bool alive(int64_t now_ns) const;
};
Result<ImportOwner> load_owner(origin::ObjectStore& store, const std::string& volume, uint64_t import_id);

// Any thread may add; one writes.
class JournalWriter {
 public:
  JournalWriter(origin::ObjectStore& store, std::string volume, uint64_t import_id);
  // Notes a stored piece. `object` has the extents; its checksums do not matter.
  void add_piece(const StoredObject& object, const StoredPiece& piece);
  // Notes that the content of a version of a file begins at `offset` of the object.
  void add_file(const ContentKey& key, const shm::ObjectId& object, uint64_t offset);
  // Writes what was noted, if it is time or `now`, and a sign of life. Blocks.
  Status write(bool now);

 private:
  Status write_owner();
  // The journal object's bytes for what was noted, which is forgotten; empty if nothing was.
  std::string take_content();

  origin::ObjectStore& store_;
  const std::string volume_;
  const uint64_t import_id_;
  uint32_t sequence_ = 0;
  uint64_t last_written_ns_ = 0;
  std::mutex mutex_;  // guards all below
  volume::ByteWriter pieces_;
  volume::ByteWriter files_;
  uint64_t piece_count_ = 0;
  uint64_t file_count_ = 0;
};

// What former imports have stored.
class JournalContent {
 public:
  // Adds the journals of an import. ENOENT cannot happen: there may be none yet.
  Status load(origin::ObjectStore& store, const std::string& volume, uint64_t import_id);

  struct Object {
    StoredObject stored;  // checksums left out
    std::map<uint64_t, std::vector<uint64_t>> pieces;
    // Whether all of it is stored.
    bool complete() { return whole() != nullptr; }
    // The object with its checksums if it is complete, else null. Put together once.
    std::shared_ptr<const StoredObject> whole();
    // Those of a stored piece, or null.
    const std::vector<uint64_t>* checksums_of(uint64_t piece) const;

    bool examined = false;
    std::shared_ptr<const StoredObject> put_together;
  };
  struct Content {
    std::shared_ptr<Object> object;
    uint64_t offset = 0;
  };
  // Null if nothing is known of this version.
  const Content* find(const ContentKey& key) const;
  // Calls `visit(id, pieces)` for all objects that were stored, wholly or partly.
  const std::unordered_map<shm::ObjectId, std::shared_ptr<Object>>& objects() const { return objects_; }

 private:
  Status decode(std::string_view bytes, const std::string& what);

  struct KeyHash {
    size_t operator()(const ContentKey& key) const { return key.low; }
  };
  std::unordered_map<shm::ObjectId, std::shared_ptr<Object>> objects_;
  std::unordered_map<ContentKey, Content, KeyHash> files_;
};

// Removes the sign of life and the journals of an import; what is not there does not matter.
Status remove_journal(origin::ObjectStore& store, const std::string& volume, uint64_t import_id);

}  // namespace cached::import
