// Figures for the operator: see status.h.
#include "cached/server/status.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "base/heap.h"
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

constexpr NamedCounter kTopCounters[] = {
    {"reads", shm::Counter::kReads},     {"read_bytes", shm::Counter::kReadBytes},
    {"hits", shm::Counter::kHits},       {"hit_bytes", shm::Counter::kHitBytes},
    {"misses", shm::Counter::kMisses},   {"miss_bytes", shm::Counter::kMissBytes},
    {"lookups", shm::Counter::kLookups},
};

constexpr size_t kUsersShown = 1000;
constexpr uint32_t kOtherUsers = UINT32_MAX;  // whom a client's or our own table had no room for

void add_use(const Session::Use& use, Session::Use* sum) {
  sum->reads += use.reads;
  sum->hit_bytes += use.hit_bytes;
  sum->miss_bytes += use.miss_bytes;
}

json use_json(const Session::Use& use) {
  return {{"reads", use.reads},
          {"read_bytes", use.hit_bytes + use.miss_bytes},
          {"hit_bytes", use.hit_bytes},
          {"miss_bytes", use.miss_bytes}};
}

double ratio_of(uint64_t part, uint64_t rest) {
  return part + rest == 0 ? 0 : static_cast<double>(part) / static_cast<double>(part + rest);
}

// What was read between two samples, and what of it memory and the origin gave. A session that ended between
// them takes counters along that a sample saw only in part; differences below 0 are shown as 0.
json traffic_json(const TrafficSample& from, const TrafficSample& to) {
  const auto between = [](uint64_t before, uint64_t after) { return after - std::min(before, after); };
  const uint64_t hits = between(from.hits, to.hits);
  const uint64_t hit_bytes = between(from.hit_bytes, to.hit_bytes);
  const uint64_t misses = between(from.misses, to.misses);
  const uint64_t miss_bytes = between(from.miss_bytes, to.miss_bytes);
  const uint64_t read_bytes = between(from.read_bytes, to.read_bytes);
  const uint64_t origin_bytes = between(from.origin_bytes, to.origin_bytes);
  return {
      {"seconds", static_cast<double>(to.at_ns - from.at_ns) / static_cast<double>(kNanosecondsPerSecond)},
      {"reads", between(from.reads, to.reads)},
      {"read_bytes", read_bytes},
      {"hits", hits},
      {"hit_bytes", hit_bytes},
      {"misses", misses},
      {"miss_bytes", miss_bytes},
      {"hit_ratio_requests", ratio_of(hits, misses)},
      {"hit_ratio_bytes", ratio_of(hit_bytes, miss_bytes)},
      {"origin_reads", between(from.origin_reads, to.origin_reads)},
      {"origin_bytes", origin_bytes},
      {"saved_bytes", read_bytes - std::min(read_bytes, origin_bytes)}};
}

}  // namespace

StatusReporter::StatusReporter(memory_tier::SharedMemory& memory, memory_tier::NameTable& names,
                               std::vector<Shard*> shards, std::vector<volume::Volume*> volumes,
                               SessionServer& sessions, SsdReporter& ssd, const CurrentDataSets& sets)
    : memory_(memory),
      names_(names),
      shards_(std::move(shards)),
      sessions_(sessions),
      ssd_(ssd),
      sets_(sets),
      started_ns_(system_clock().monotonic_ns()),
      volumes_(std::move(volumes)) {}

void StatusReporter::set_volumes(std::vector<volume::Volume*> current, std::vector<volume::Volume*> retired) {
  const std::lock_guard lock(mutex_);
  volumes_ = std::move(current);
  retired_volumes_ = std::move(retired);
}

std::vector<volume::Volume*> StatusReporter::all_volumes() const {
  const std::lock_guard lock(mutex_);
  std::vector<volume::Volume*> all = volumes_;
  all.insert(all.end(), retired_volumes_.begin(), retired_volumes_.end());
  return all;
}

OriginSums StatusReporter::origin_sums() const {
  OriginSums sums;
  for (const volume::Volume* const volume : all_volumes()) {
    const origin::OriginCounters& counters = volume->origin_counters();
    sums.reads += counters.reads;
    sums.bytes += counters.read_bytes;
    sums.errors += counters.errors;
    sums.in_flight += counters.in_flight;
  }
  return sums;
}

TrafficSample StatusReporter::traffic(const SessionServer::Snapshot& clients, const OriginSums& origin) {
  return {.at_ns = system_clock().monotonic_ns(),
          .reads = clients.sum(shm::Counter::kReads),
          .read_bytes = clients.sum(shm::Counter::kReadBytes),
          .hits = clients.sum(shm::Counter::kHits),
          .hit_bytes = clients.sum(shm::Counter::kHitBytes),
          .misses = clients.sum(shm::Counter::kMisses),
          .miss_bytes = clients.sum(shm::Counter::kMissBytes),
          .origin_reads = origin.reads,
          .origin_bytes = origin.bytes};
}

void StatusReporter::sample() {
  samples_.push_back(traffic(sessions_.snapshot(), origin_sums()));
  if (samples_.size() > kSamplesKept) samples_.pop_front();
}

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
  std::vector<volume::Volume*> current;
  {
    const std::lock_guard lock(mutex_);
    current = volumes_;
  }
  json list = json::array();
  for (volume::Volume* const volume : all_volumes()) {
    // One that a reload took away is told of as long as it is mounted.
    if (uses[volume] == 0 && std::ranges::find(current, volume) == current.end()) continue;
    const shm::VolumeStatistics statistics = volume->known_statistics();
    list.push_back({{"name", volume->name()},
                    {"source", volume->source()},
                    {"id", volume->id()},
                    {"bytes", statistics.bytes},
                    {"files", statistics.files},
                    {"counted", statistics.complete != 0},
                    {"sessions", uses[volume]},
                    {"mountable", std::ranges::find(current, volume) != current.end()},
                    {"trouble", volume->trouble()}});
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
  const OriginSums origin = origin_sums();
  const SessionServer::Snapshot clients = sessions_.snapshot();
  json counters;
  for (const NamedCounter& counter : kCounters) counters[counter.name] = clients.sum(counter.counter);
  const TrafficSample now = traffic(clients, origin);
  const uint64_t uptime_ns = system_clock().monotonic_ns() - started_ns_;
  char instance[17];
  std::snprintf(instance, sizeof instance, "%016lx",
                static_cast<unsigned long>(memory_.superblock()->daemon_instance));
  const HeapFigures heap = heap_figures();
  Result<json> ssd = ssd_.summary();
  if (!ssd.ok()) return ssd.status();
  json answer{
      {"daemon",
       {{"pid", ::getpid()},
        {"version", CACHED_VERSION},
        {"uptime_s", uptime_ns / kNanosecondsPerSecond},
        {"shards", shards_.size()},
        {"instance", instance},
        {"requests", requests},
        {"violations", violations},
        {"heap_allocated_bytes", heap.allocated_bytes},
        {"heap_mapped_bytes", heap.mapped_bytes}}},
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
       {{"reads", origin.reads},
        {"read_bytes", origin.bytes},
        {"errors", origin.errors},
        {"in_flight", origin.in_flight},
        {"prefetch_bytes", reads.prefetch_bytes},
        {"prefetch_dropped", reads.prefetch_dropped},
        {"buffer_answers", reads.buffer_answers}}},
      {"clients", counters},
      {"traffic",
       {{"total", traffic_json({.at_ns = started_ns_}, now)},
        {"recent",
         traffic_json(samples_.empty() ? TrafficSample{.at_ns = started_ns_} : samples_.front(), now)}}},
      {"sessions", clients.sessions.size()},
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

Result<json> StatusReporter::top() {
  std::map<uint64_t, Session::Use> uses;
  json mounts = json::array();
  for (const std::shared_ptr<Session>& session : sessions_.sessions()) {
    session->add_uses(&uses);
    json entry{{"id", session->id()},
               {"pid", session->peer().pid},
               {"uid", session->peer().uid},
               {"volume", session->volume()->name()},
               {"label", session->label()}};
    for (const NamedCounter& counter : kTopCounters) entry[counter.name] = session->counter(counter.counter);
    mounts.push_back(std::move(entry));
  }
  std::map<uint32_t, Session::Use> users;
  std::map<uint16_t, Session::Use> tags;
  for (const auto& [key, use] : uses) {
    // Clients write the keys: so many users are shown, the others together.
    const auto uid = static_cast<uint32_t>(key >> 32);
    add_use(use, &users[users.size() < kUsersShown || users.contains(uid) ? uid : kOtherUsers]);
    add_use(use, &tags[static_cast<uint16_t>(key >> 16)]);
  }
  json user_list = json::array();
  for (const auto& [uid, use] : users) {
    json entry = use_json(use);
    entry["uid"] = uid;
    user_list.push_back(std::move(entry));
  }
  json set_list = json::array();
  const std::shared_ptr<const dataset::DataSets> sets = sets_.load();
  for (const dataset::DataSet& set : sets->list()) {
    Session::Use sum;
    for (const uint16_t tag : set.tags) {
      if (tags.contains(tag)) add_use(tags.at(tag), &sum);
    }
    json entry = use_json(sum);
    entry["name"] = set.name;
    set_list.push_back(std::move(entry));
  }
  return json{{"at_ns", system_clock().monotonic_ns()},
              {"mounts", mounts},
              {"users", user_list},
              {"data_sets", set_list}};
}

Result<json> StatusReporter::volumes() {
  return json{{"volumes", volume_list()}};
}

}  // namespace cached::server
