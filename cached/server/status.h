// What `cachedctl status`, `sessions` and `volumes` show, as JSON. CONTROL_PROTOCOL.md says what each field
// means.
#pragma once

#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cached/memory_tier/name_table.h"
#include "cached/memory_tier/shared_memory.h"
#include "cached/server/data_set_status.h"
#include "cached/server/session_server.h"
#include "cached/server/shard.h"
#include "cached/server/ssd_status.h"
#include "cached/volume/volume.h"

namespace cached::server {

// What was read and from where, at one moment, since the start.
struct TrafficSample {
  uint64_t at_ns = 0;
  uint64_t reads = 0;
  uint64_t read_bytes = 0;
  uint64_t hits = 0;  // in memory
  uint64_t hit_bytes = 0;
  uint64_t misses = 0;
  uint64_t miss_bytes = 0;
  uint64_t origin_reads = 0;
  uint64_t origin_bytes = 0;
};

// What all volumes have read, and are reading, from their sources.
struct OriginSums {
  uint64_t reads = 0;
  uint64_t bytes = 0;
  uint64_t errors = 0;
  uint64_t in_flight = 0;
};

class StatusReporter {
 public:
  // How often sample() is to be called, and how far back the recent traffic goes.
  static constexpr unsigned kSampleIntervalMs = 10'000;
  static constexpr unsigned kSamplesKept = 6;
  StatusReporter(memory_tier::SharedMemory& memory, memory_tier::NameTable& names, std::vector<Shard*> shards,
                 std::vector<volume::Volume*> volumes, SessionServer& sessions, SsdReporter& ssd,
                 const CurrentDataSets& sets);
  // Each asks the shards and waits for their answers; EIO when a shard does not answer within a second.
  Result<nlohmann::json> status();
  Result<nlohmann::json> sessions();
  Result<nlohmann::json> volumes();
  // What is read by whom, in sums since the sessions began: for a client that compares two answers.
  Result<nlohmann::json> top();
  // Takes note of the traffic, for the recent figures of status(). The control thread.
  void sample();
  // The volumes that can be mounted from now on, and those that cannot any more but still may be. Any thread.
  void set_volumes(std::vector<volume::Volume*> current, std::vector<volume::Volume*> retired);

 private:
  struct Collected {
    std::vector<ShardStats> shards;
    memory_tier::NameTableStats names;
  };
  Result<Collected> collect();
  nlohmann::json volume_list();
  std::vector<volume::Volume*> all_volumes() const;
  OriginSums origin_sums() const;
  static TrafficSample traffic(const SessionServer::Snapshot& clients, const OriginSums& origin);

  memory_tier::SharedMemory& memory_;
  memory_tier::NameTable& names_;
  const std::vector<Shard*> shards_;
  SessionServer& sessions_;
  SsdReporter& ssd_;
  const CurrentDataSets& sets_;
  const uint64_t started_ns_;
  std::deque<TrafficSample> samples_;  // the control thread's
  mutable std::mutex mutex_;           // guards all below
  std::vector<volume::Volume*> volumes_;
  std::vector<volume::Volume*> retired_volumes_;
};

}  // namespace cached::server
