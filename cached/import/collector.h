// Collector: takes away what no snapshot of a volume needs any more.
//
// Removing a snapshot has two steps, so that readers can finish: mark_snapshot() says in the head when it may
// go, collect() deletes what only marked snapshots refer to, once that time has come. Everything may be
// interrupted and repeated: data goes first, then the tables that say which data, then the record, then the
// mark. FORMAT.md ("Removing") says why nobody can begin to refer to what is being deleted.
//
// If any snapshot that stays cannot be read, nothing is deleted: what it refers to is not known then.
//
// Everything blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/status.h"
#include "cached/origin/object_store.h"
#include "cached/volume/dataset_format.h"

namespace cached::import {

// Marks a snapshot for deletion at `delete_at_ns` (since the epoch). ENOENT if there is none, EBUSY for the
// current one.
Status mark_snapshot(origin::ObjectStore& store, const std::string& volume, uint64_t number,
                     int64_t delete_at_ns);

struct CollectOptions {
  bool orphans = false;     // look at all objects of the pools for such that nothing refers to
  bool unfinished = false;  // forget interrupted imports first; what they stored is an orphan then
};

struct CollectReport {
  uint64_t snapshots = 0;         // removed
  uint64_t objects = 0;           // RADOS objects removed
  int64_t next_delete_at_ns = 0;  // when the next marked snapshot is due, 0: none is marked
};

Result<CollectReport> collect(const std::shared_ptr<origin::ObjectStore>& store, const std::string& volume,
                              const CollectOptions& options);

// Names of objects of the volume that nothing refers to.
Result<std::vector<origin::ObjectName>> find_orphans(const std::shared_ptr<origin::ObjectStore>& store,
                                                     const std::string& volume);

// Removes the volume with all its snapshots, at once, whoever reads it. ENOENT if there is none. Yields how
// many objects were removed.
Result<uint64_t> destroy_volume(origin::ObjectStore& store, const std::string& volume);

}  // namespace cached::import
