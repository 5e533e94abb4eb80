// The control commands that do something with what is cached: warm, evict, pin, unpin, and the jobs that they
// start. CONTROL_PROTOCOL.md says what each takes and answers.
//
// Rights: an operator may do all of it; a user may warm and evict what that user can read
// (dataset/tree_walk.h), pin nothing, and cancel what that user started.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cached/admin/control_server.h"
#include "cached/server/data_set_status.h"
#include "cached/server/jobs.h"
#include "cached/server/warm.h"

namespace cached::server {

class DataSetCommands {
 public:
  // All outlive this; the shards' reactors run until this is gone.
  DataSetCommands(std::vector<Shard*> shards, const CurrentDataSets& sets, uint64_t pin_limit_bytes)
      : shards_(std::move(shards)), sets_(sets), pins_(pin_limit_bytes) {}
  // Ends all jobs, and waits for them a while.
  ~DataSetCommands();

  // Each runs on the control thread.
  admin::ControlCommands commands();
  PinTable& pins() { return pins_; }

 private:
  // A place that a request names: a data set by its name, or VOLUME:/PATH.
  struct Place {
    volume::Volume* volume = nullptr;
    std::string path;            // in the volume
    std::vector<uint16_t> tags;  // of the data set that it is exactly; empty if it is none
    std::string name;            // VOLUME:/PATH
  };
  Result<Place> place_of(const admin::ControlRequest& request) const;
  static dataset::Caller caller_of(const admin::ControlRequest& request);
  Result<nlohmann::json> warm(const admin::ControlRequest& request, JobKind kind);
  Result<nlohmann::json> evict(const admin::ControlRequest& request);
  Result<nlohmann::json> unpin(const admin::ControlRequest& request);
  Result<nlohmann::json> job(const admin::ControlRequest& request) const;
  Result<nlohmann::json> cancel(const admin::ControlRequest& request);

  const std::vector<Shard*> shards_;
  const CurrentDataSets& sets_;
  JobTable jobs_;
  PinTable pins_;
};

}  // namespace cached::server
