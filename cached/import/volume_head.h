// The head of a volume as tools see it: read, made, and changed under its guard. Everything here blocks.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "cached/origin/object_store.h"
#include "cached/volume/dataset_format.h"

namespace cached::import {

// 64 random bits, not 0.
uint64_t random_id();

// The head; ENOENT with a message if there is no such volume, or it was destroyed.
Result<volume::Head> load_head(origin::ObjectStore& store, const std::string& volume);

// Makes an empty volume if there is none. EINVAL for a bad name.
Status ensure_volume(origin::ObjectStore& store, const std::string& volume);

// Reads the head, lets `change` change it, and replaces it under its guard; starts over if somebody else was
// faster. An error of `change` ends it with the head untouched.
Status update_head(origin::ObjectStore& store, const std::string& volume,
                   const std::function<Status(volume::Head*)>& change);

// The record of a snapshot that the head marks.
Result<volume::SnapshotRecord> load_snapshot(origin::ObjectStore& store, const std::string& volume,
                                             const volume::SnapshotMark& mark);

// The volumes of the store's namespace, by name.
Result<std::vector<std::string>> list_volumes(origin::ObjectStore& store);

}  // namespace cached::import
