// Collector: the daemon's figures as of one scrape.
//
// Nothing is counted for the exporter's sake and nothing is kept between scrapes: a scrape asks every shard,
// at once, for a copy of what it counts anyway (a message to its thread, some ten microseconds), and reads
// the atomics of sessions, volumes and devices. A shard that does not answer within kShardPatience is shown
// as not responding and its share is missing; the scrape goes on.
//
// Threads: collect() is called on the exporter's; scrapes may overlap.
#pragma once

#include <prometheus/metric_family.h>

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cached/memory_tier/name_table.h"
#include "cached/memory_tier/shared_memory.h"
#include "cached/metrics/families.h"
#include "cached/server/session_server.h"
#include "cached/server/shard.h"
#include "cached/ssd_tier/ssd_tier.h"
#include "cached/volume/volume.h"

namespace cached::metrics {

// Where figures are. All of it outlives the collector.
struct Sources {
  memory_tier::SharedMemory* memory = nullptr;
  memory_tier::NameTable* names = nullptr;
  std::vector<server::Shard*> shards;
  server::SessionServer* sessions = nullptr;
  ssd_tier::SsdTier* ssd = nullptr;  // null: no SSD tier
  uint64_t ssd_index_limit_bytes = 0;
};

class Collector {
 public:
  explicit Collector(Sources sources);
  // All volumes that the daemon ever had, in order of their start, and how many sessions there may be. Those
  // of one name are told of as one: their sums go on where a reload put one in another's place. Any thread.
  void reconfigure(std::vector<volume::Volume*> volumes, unsigned max_sessions);
  // Any thread.
  std::vector<prometheus::MetricFamily> collect() const;

 private:
  // What one shard answers.
  struct ShardAnswer {
    server::ShardFigures figures;
    std::optional<server::ShardSsdStats> ssd;
    memory_tier::NameTableStats names;  // shard 0's
  };
  using Answers = std::vector<std::optional<ShardAnswer>>;  // by shard; nothing: it did not answer

  Answers ask_shards() const;
  void add_daemon(Families* families) const;
  static void add_shards(const Answers& answers, Families* families);
  void add_reads(const Answers& answers, Families* families) const;
  void add_memory(const Answers& answers, Families* families) const;
  void add_names(const Answers& answers, Families* families) const;
  static void add_prefetch(const Answers& answers, Families* families);
  void add_volumes(Families* families) const;
  static void add_volume(const std::vector<volume::Volume*>& of_one_name,
                         const server::SessionServer::Snapshot& clients, Families* families);
  static void add_session(const server::Session& session, uint64_t now_ns, Families* families);
  void add_ssd(const Answers& answers, Families* families) const;
  static void add_device(const ssd_tier::DeviceLog& device, const Answers& answers, Families* families);
  static void add_log(Families* families);

  const Sources sources_;
  const uint64_t started_ns_;
  mutable std::mutex mutex_;  // guards all below
  std::map<std::string, std::vector<volume::Volume*>> volumes_;
  unsigned max_sessions_ = 0;
};

}  // namespace cached::metrics
