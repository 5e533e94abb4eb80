// Figures for the operator: see status.h.
#include "cached/server/status.h"

#include <unistd.h>

#include "cached/server/ask_shards.h"

namespace cached::server {
namespace {

using nlohmann::json;

struct NamedCounter {
  const char* name;
  shm::Counter counter;
};
constexpr NamedCounter kCounters[] = {
    {"reads", shm::Counter::kReads},
    {"read_bytes", shm::Counter::kReadBytes},
    {"hits", shm::Counter::kHits},
    {"hit_bytes", shm::Counter::kHitBytes},
    {"misses", shm::Counter::kMisses},
    {"miss_bytes", shm::Counter::kMissBytes},
    {"lookups", shm::Counter::kLookups},
    {"lookup_hits", shm::Counter::kLookupHits},
    {"attribute_reads", shm::Counter::kAttributeReads},
    {"attribute_hits", shm::Counter::kAttributeHits},
    {"requests", shm::Counter::kRequests},
    {"wakeups", shm::Counter::kWakeups},
};

}  // namespace

StatusReporter::StatusReporter(memory_tier::SharedMemory& memory, memory_tier::NameTable& names,
                               std::vector<Shard*> shards, std::vector<volume::Volume*> volumes,
                               SessionServer& sessions, SsdReporter& ssd)
    : memory_(memory),
      names_(names),
      shards_(std::move(shards)),
      volumes_(std::move(volumes)),
      sessions_(sessions),
      ssd_(ssd),
      started_ns_(system_clock().monotonic_ns()) {}

Result<StatusReporter::Collected> StatusReporter::collect() {
  Collected collected;
  Result<std::vector<ShardStats>> shards =
      ask_shards(shards_, [](const Shard& shard) { return shard.stats(); });
  if (!shards.ok()) return shards.status();
  collected.shards = std::move(shards).value();
  // The name table is the first shard's.
  const auto names =
      ask_shards({shards_.front()}, [table = &names_](const Shard&) { return table->stats(); });
  if (!names.ok()) return names.status();
  collected.names = names->front();
  return collected;
}

json StatusReporter::volume_list() {
  std::map<const volume::Volume*, unsigned> uses;
  for (const std::shared_ptr<Session>& session : sessions_.sessions())
    uses[session->volume()] += session->serving() ? 1 : 0;
  json list = json::array();
  for (volume::Volume* const volume : volumes_) {
    const shm::VolumeStatistics statistics = volume->known_statistics();
    list.push_back({{"name", volume->name()},
                    {"source", volume->source()},
                    {"id", volume->id()},
                    {"bytes", statistics.bytes},
                    {"files", statistics.files},
                    {"counted", statistics.complete != 0},
                    {"sessions", uses[volume]}});
  }
  return list;
}

Result<json> StatusReporter::status() {
  const Result<Collected> collected = collect();
  if (!collected.ok()) return collected.status();
  memory_tier::MemoryTierStats memory;
  readpath::ReadPathStats reads;
  uint64_t requests = 0;
  uint64_t violations = 0;
  for (const ShardStats& shard : collected->shards) {
    memory.regions += shard.memory.regions;
    memory.regions_used += shard.memory.regions_used;
    memory.slots_present += shard.memory.slots_present;
    memory.bytes_present += shard.memory.bytes_present;
    memory.bytes_reserved += shard.memory.bytes_reserved;
    memory.slots_limbo += shard.memory.slots_limbo;
    memory.slots_pinned += shard.memory.slots_pinned;
    memory.evictions += shard.memory.evictions;
    memory.insertions += shard.memory.insertions;
    reads.prefetch_bytes += shard.reads.prefetch_bytes;
    reads.prefetch_dropped += shard.reads.prefetch_dropped;
    reads.buffer_answers += shard.reads.buffer_answers;
    requests += shard.requests;
    violations += shard.violations;
  }
  uint64_t origin_reads = 0;
  uint64_t origin_bytes = 0;
  uint64_t origin_errors = 0;
  uint64_t origin_in_flight = 0;
  for (const volume::Volume* const volume : volumes_) {
    const origin::OriginCounters& counters = volume->origin_counters();
    origin_reads += counters.reads;
    origin_bytes += counters.read_bytes;
    origin_errors += counters.errors;
    origin_in_flight += counters.in_flight;
  }
  json clients;
  const std::vector<std::shared_ptr<Session>> sessions = sessions_.sessions();
  const std::vector<uint64_t> past = sessions_.past_counters();
  for (const NamedCounter& counter : kCounters) {
    uint64_t sum = past[static_cast<size_t>(counter.counter)];
    for (const std::shared_ptr<Session>& session : sessions) sum += session->counter(counter.counter);
    clients[counter.name] = sum;
  }
  const uint64_t uptime_ns = system_clock().monotonic_ns() - started_ns_;
  char instance[17];
  std::snprintf(instance, sizeof instance, "%016lx",
                static_cast<unsigned long>(memory_.superblock()->daemon_instance));
  Result<json> ssd = ssd_.summary();
  if (!ssd.ok()) return ssd.status();
  json answer{{"daemon",
               {{"pid", ::getpid()},
                {"version", CACHED_VERSION},
                {"uptime_s", uptime_ns / kNanosecondsPerSecond},
                {"shards", shards_.size()},
                {"instance", instance},
                {"requests", requests},
                {"violations", violations}}},
              {"memory",
               {{"capacity_bytes", memory_.arena_bytes()},
                {"used_bytes", memory.bytes_reserved},
                {"content_bytes", memory.bytes_present},
                {"entries", memory.slots_present},
                {"pinned", memory.slots_pinned},
                {"limbo", memory.slots_limbo},
                {"evictions", memory.evictions},
                {"insertions", memory.insertions},
                {"regions", memory.regions},
                {"regions_used", memory.regions_used}}},
              {"names", {{"entries", collected->names.names}, {"inodes", collected->names.inodes}}},
              {"origin",
               {{"reads", origin_reads},
                {"read_bytes", origin_bytes},
                {"errors", origin_errors},
                {"in_flight", origin_in_flight},
                {"prefetch_bytes", reads.prefetch_bytes},
                {"prefetch_dropped", reads.prefetch_dropped},
                {"buffer_answers", reads.buffer_answers}}},
              {"clients", clients},
              {"sessions", sessions.size()},
              {"volumes", volume_list()}};
  if (!ssd->is_null()) answer["ssd"] = std::move(ssd).value();
  return answer;
}

Result<json> StatusReporter::sessions() {
  json list = json::array();
  const uint64_t now_ns = system_clock().monotonic_ns();
  for (const std::shared_ptr<Session>& session : sessions_.sessions()) {
    json entry{{"id", session->id()},
               {"pid", session->peer().pid},
               {"uid", session->peer().uid},
               {"volume", session->volume()->name()},
               {"label", session->label()},
               {"age_s", (now_ns - session->started_ns()) / kNanosecondsPerSecond},
               {"queues", session->geometry().queue_count},
               {"pins", session->pins().load()},
               {"state", session->serving() ? "attached" : "detached"}};
    for (const NamedCounter& counter : kCounters) entry[counter.name] = session->counter(counter.counter);
    list.push_back(std::move(entry));
  }
  return json{{"sessions", list}};
}

Result<json> StatusReporter::volumes() {
  return json{{"volumes", volume_list()}};
}

}  // namespace cached::server
