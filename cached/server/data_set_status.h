// What `cachedctl du` shows: what the tiers hold of each data set, from counters that shards keep, and what
// the origin has of it, as counted last. CONTROL_PROTOCOL.md says what each field means.
#pragma once

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "cached/admin/control_server.h"
#include "cached/dataset/data_sets.h"
#include "cached/server/shard.h"

namespace cached::server {

// The data sets in force; a reload puts others in their place. Any thread.
using CurrentDataSets = std::atomic<std::shared_ptr<const dataset::DataSets>>;

class DataSetReporter {
 public:
  // All outlive this.
  DataSetReporter(std::vector<Shard*> shards, const CurrentDataSets& sets)
      : shards_(std::move(shards)), sets_(sets) {}

  // Of the data set that the request names, or of all. ENOENT for one that is not registered, EIO when a
  // shard does not answer within a second.
  Result<nlohmann::json> du(const admin::ControlRequest& request);

 private:
  const std::vector<Shard*> shards_;
  const CurrentDataSets& sets_;
};

}  // namespace cached::server
