// What `cachedctl status`, `sessions` and `volumes` show, as JSON. CONTROL_PROTOCOL.md says what each field
// means.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cached/memory_tier/name_table.h"
#include "cached/memory_tier/shared_memory.h"
#include "cached/server/session_server.h"
#include "cached/server/shard.h"
#include "cached/server/ssd_status.h"
#include "cached/volume/volume.h"

namespace cached::server {

class StatusReporter {
 public:
  StatusReporter(memory_tier::SharedMemory& memory, memory_tier::NameTable& names, std::vector<Shard*> shards,
                 std::vector<volume::Volume*> volumes, SessionServer& sessions, SsdReporter& ssd);
  // Each asks the shards and waits for their answers; EIO when a shard does not answer within a second.
  Result<nlohmann::json> status();
  Result<nlohmann::json> sessions();
  Result<nlohmann::json> volumes();

 private:
  struct Collected {
    std::vector<ShardStats> shards;
    memory_tier::NameTableStats names;
  };
  Result<Collected> collect();
  nlohmann::json volume_list();

  memory_tier::SharedMemory& memory_;
  memory_tier::NameTable& names_;
  const std::vector<Shard*> shards_;
  const std::vector<volume::Volume*> volumes_;
  SessionServer& sessions_;
  SsdReporter& ssd_;
  const uint64_t started_ns_;
};

}  // namespace cached::server
