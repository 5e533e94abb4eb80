// What `cachedctl devices` and the SSD line of `cachedctl status` show, as JSON. CONTROL_PROTOCOL.md says
// what each field means.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cached/admin/control_server.h"
#include "cached/server/shard.h"
#include "cached/ssd_tier/ssd_tier.h"

namespace cached::server {

// What the device can hold, and the size of its segments; 0 until its layout is known.
uint64_t capacity_bytes_of(const ssd_tier::DeviceLog& device);
uint64_t segment_bytes_of(const ssd_tier::DeviceLog& device);

class SsdReporter {
 public:
  // `ssd` is null where there is no SSD tier. All outlive this.
  SsdReporter(std::vector<Shard*> shards, ssd_tier::SsdTier* ssd, uint64_t index_limit_bytes);

  // The object `ssd` of `status`; null without an SSD tier. EIO when a shard does not answer within a second.
  Result<nlohmann::json> summary();
  Result<nlohmann::json> devices();
  // Begin to empty a device, or take that back; the device's object of devices().
  Result<nlohmann::json> drain(const admin::ControlRequest& request);
  Result<nlohmann::json> undrain(const admin::ControlRequest& request);

 private:
  using Change = io::Task<Status> (ssd_tier::DeviceLog::*)(io::Reactor&);
  Result<std::vector<ShardSsdStats>> collect();
  nlohmann::json device_json(const ssd_tier::DeviceLog& device,
                             const std::vector<ShardSsdStats>& shards) const;
  Result<nlohmann::json> change(const admin::ControlRequest& request, Change change);
  std::string device_names() const;

  const std::vector<Shard*> shards_;
  ssd_tier::SsdTier* const ssd_;
  const uint64_t index_limit_bytes_;
};

}  // namespace cached::server
