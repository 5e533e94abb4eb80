// What a scrape shows: see collector.h.
#include "cached/metrics/collector.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/heap.h"
#include "base/log.h"
#include "cached/server/ask_shards.h"
#include "cached/server/ssd_status.h"

namespace cached::metrics {
namespace {

using server::Session;
using ssd_tier::DeviceFigures;
using ssd_tier::DeviceLog;

constexpr std::array<const char*, readpath::kReadTiers> kTierNames = {"memory", "ssd", "origin"};
constexpr std::array<const char*, readpath::kReadOutcomes> kOutcomeNames = {"ok", "changed", "error"};
constexpr std::array<const char*, ssd_tier::kFaultKinds> kFaultNames = {"read_error", "write_error",
                                                                        "short_read", "mismatch", "timeout"};

// A client's counter and the metric that sums it over a volume.
constexpr std::pair<shm::Counter, Metric> kVolumeCounters[] = {
    {shm::Counter::kReads, Metric::kVolumeReads},
    {shm::Counter::kReadBytes, Metric::kVolumeReadBytes},
    {shm::Counter::kHits, Metric::kVolumeHits},
    {shm::Counter::kHitBytes, Metric::kVolumeHitBytes},
    {shm::Counter::kMisses, Metric::kVolumeMisses},
    {shm::Counter::kMissBytes, Metric::kVolumeMissBytes},
    {shm::Counter::kLookups, Metric::kVolumeLookups},
    {shm::Counter::kLookupHits, Metric::kVolumeLookupHits},
    {shm::Counter::kAttributeReads, Metric::kVolumeAttributeReads},
    {shm::Counter::kAttributeHits, Metric::kVolumeAttributeHits},
};
// The same for one session.
constexpr std::pair<shm::Counter, Metric> kSessionCounters[] = {
    {shm::Counter::kReads, Metric::kSessionReads},
    {shm::Counter::kReadBytes, Metric::kSessionReadBytes},
    {shm::Counter::kHitBytes, Metric::kSessionHitBytes},
    {shm::Counter::kMissBytes, Metric::kSessionMissBytes},
    {shm::Counter::kRequests, Metric::kSessionRequests},
};

double number(uint64_t value) {
  return static_cast<double>(value);
}
double number(const std::atomic<uint64_t>& value) {
  return number(value.load(std::memory_order_relaxed));
}
double seconds(uint64_t duration_ns) {
  return static_cast<double>(duration_ns) / 1e9;
}

uint64_t places_of(const shm::TableGeometry& table) {
  return table.buckets_per_partition * table.partitions * shm::kRecordsPerBucket;
}

}  // namespace

Collector::Collector(Sources sources)
    : sources_(std::move(sources)), started_ns_(system_clock().monotonic_ns()) {}

Collector::Answers Collector::ask_shards() const {
  const server::Shard* const first = sources_.shards.front();
  return server::ask_each_shard(sources_.shards, [first, names = sources_.names,
                                                  has_ssd = sources_.ssd != nullptr](server::Shard& shard) {
    ShardAnswer figures{shard.figures(), std::nullopt, {}};
    if (has_ssd) figures.ssd = shard.ssd_stats();
    // The name table is the first shard's.
    if (&shard == first) figures.names = names->stats();
    return figures;
  });
}

std::vector<prometheus::MetricFamily> Collector::collect() const {
  const Answers answers = ask_shards();
  Families families;
  add_daemon(&families);
  add_shards(answers, &families);
  add_reads(answers, &families);
  add_memory(answers, &families);
  add_names(answers, &families);
  add_prefetch(answers, &families);
  add_volumes(&families);
  if (sources_.ssd != nullptr) add_ssd(answers, &families);
  add_log(&families);
  return families.take();
}

void Collector::add_daemon(Families* families) const {
  char instance[17];
  std::snprintf(instance, sizeof instance, "%016lx",
                static_cast<unsigned long>(sources_.memory->superblock()->daemon_instance));
  families->add(Metric::kInfo, {CACHED_VERSION, instance}, 1);
  families->add(Metric::kUptime, seconds(system_clock().monotonic_ns() - started_ns_));
  const HeapFigures heap = heap_figures();
  families->add(Metric::kHeapAllocated, number(heap.allocated_bytes));
  families->add(Metric::kHeapMapped, number(heap.mapped_bytes));
}

void Collector::add_shards(const Answers& answers, Families* families) {
  for (size_t i = 0; i < answers.size(); ++i) {
    const LabelValues shard = {std::to_string(i)};
    families->add(Metric::kShardResponding, shard, answers[i] ? 1 : 0);
    if (!answers[i]) continue;
    const server::ShardFigures& figures = answers[i]->figures;
    families->add(Metric::kShardCpu, shard, seconds(figures.cpu_ns));
    families->add(Metric::kShardOperations, shard, number(figures.operations_in_flight));
    families->add(Metric::kShardRequests, shard, number(figures.stats.requests));
    families->add(Metric::kShardRunning, shard, number(figures.stats.running));
    families->add(Metric::kViolations, shard, number(figures.stats.violations));
  }
}

void Collector::add_reads(const Answers& answers, Families* families) const {
  readpath::ReadFigures sum;
  uint64_t buffer_answers = 0;
  for (const std::optional<ShardAnswer>& answer : answers) {
    if (!answer) continue;
    for (size_t i = 0; i < sum.cells.size(); ++i) {
      sum.cells[i].latency_us.merge(answer->figures.reads.cells[i].latency_us);
      sum.cells[i].bytes += answer->figures.reads.cells[i].bytes;
    }
    buffer_answers += answer->figures.stats.reads.buffer_answers;
  }
  for (unsigned tier = 0; tier < readpath::kReadTiers; ++tier) {
    for (unsigned outcome = 0; outcome < readpath::kReadOutcomes; ++outcome) {
      const auto& cell =
          sum.at(static_cast<readpath::ReadTier>(tier), static_cast<readpath::ReadOutcome>(outcome));
      const LabelValues labels = {kTierNames[tier], kOutcomeNames[outcome]};
      families->add(Metric::kReads, labels, number(cell.latency_us.count()));
      families->add(Metric::kReadBytes, labels, number(cell.bytes));
      families->add_histogram(Metric::kReadDuration, labels, cell.latency_us);
    }
  }
  const server::SessionServer::Snapshot clients = sources_.sessions->snapshot();
  families->add(Metric::kReads, {"shared_memory", "ok"}, number(clients.sum(shm::Counter::kHits)));
  families->add(Metric::kReadBytes, {"shared_memory", "ok"}, number(clients.sum(shm::Counter::kHitBytes)));
  families->add(Metric::kBufferAnswers, number(buffer_answers));
}

void Collector::add_memory(const Answers& answers, Families* families) const {
  memory_tier::MemoryTierStats sum;
  for (const std::optional<ShardAnswer>& answer : answers) {
    if (!answer) continue;
    const memory_tier::MemoryTierStats& stats = answer->figures.stats.memory;
    sum.bytes_reserved += stats.bytes_reserved;
    sum.bytes_present += stats.bytes_present;
    sum.slots_present += stats.slots_present;
    sum.slots_pinned += stats.slots_pinned;
    sum.slots_limbo += stats.slots_limbo;
    sum.insertions += stats.insertions;
    sum.evictions += stats.evictions;
    sum.index_displacements += stats.index_displacements;
    sum.regions += stats.regions;
    sum.regions_used += stats.regions_used;
    sum.regions_moved += stats.regions_moved;
  }
  families->add(Metric::kMemoryCapacity, number(sources_.memory->arena_bytes()));
  families->add(Metric::kMemoryUsed, number(sum.bytes_reserved));
  families->add(Metric::kMemoryContent, number(sum.bytes_present));
  families->add(Metric::kMemoryEntries, number(sum.slots_present));
  families->add(Metric::kMemoryPinned, number(sum.slots_pinned));
  families->add(Metric::kMemoryLimbo, number(sum.slots_limbo));
  families->add(Metric::kMemoryInsertions, number(sum.insertions));
  families->add(Metric::kMemoryEvictions, number(sum.evictions));
  families->add(Metric::kMemoryDisplacements, number(sum.index_displacements));
  families->add(Metric::kMemoryIndexCapacity, number(places_of(sources_.memory->superblock()->blocks)));
  families->add(Metric::kMemoryRegions, number(sum.regions));
  families->add(Metric::kMemoryRegionsUsed, number(sum.regions_used));
  families->add(Metric::kMemoryRegionsMoved, number(sum.regions_moved));
}

void Collector::add_names(const Answers& answers, Families* families) const {
  const shm::IndexSuperblock& tables = *sources_.memory->superblock();
  families->add(Metric::kNameCapacity, {"name"}, number(places_of(tables.names)));
  families->add(Metric::kNameCapacity, {"inode"}, number(places_of(tables.inodes)));
  if (!answers.front()) return;
  const memory_tier::NameTableStats& stats = answers.front()->names;
  families->add(Metric::kNameEntries, {"name"}, number(stats.names));
  families->add(Metric::kNameEntries, {"inode"}, number(stats.inodes));
  families->add(Metric::kNameDisplacements, {"name"}, number(stats.name_displacements));
  families->add(Metric::kNameDisplacements, {"inode"}, number(stats.inode_displacements));
}

void Collector::add_prefetch(const Answers& answers, Families* families) {
  uint64_t bytes = 0;
  uint64_t used = 0;
  uint64_t wasted = 0;
  uint64_t dropped = 0;
  for (const std::optional<ShardAnswer>& answer : answers) {
    if (!answer) continue;
    bytes += answer->figures.stats.reads.prefetch_bytes;
    dropped += answer->figures.stats.reads.prefetch_dropped;
    used += answer->figures.stats.memory.prefetch_used_bytes;
    wasted += answer->figures.stats.memory.prefetch_wasted_bytes;
  }
  families->add(Metric::kPrefetchBytes, number(bytes));
  families->add(Metric::kPrefetchUsed, number(used));
  families->add(Metric::kPrefetchWasted, number(wasted));
  families->add(Metric::kPrefetchDropped, number(dropped));
}

void Collector::reconfigure(std::vector<volume::Volume*> volumes, unsigned max_sessions) {
  const std::lock_guard lock(mutex_);
  volumes_.clear();
  for (volume::Volume* const volume : volumes) volumes_[volume->name()].push_back(volume);
  max_sessions_ = max_sessions;
}

void Collector::add_volume(const std::vector<volume::Volume*>& of_one_name,
                           const server::SessionServer::Snapshot& clients, Families* families) {
  const LabelValues name = {of_one_name.front()->name()};
  std::vector<uint64_t> sums(static_cast<size_t>(shm::Counter::kCount));
  if (const auto past = clients.past_counters.find(name.front()); past != clients.past_counters.end()) {
    sums = past->second;
  }
  unsigned attached = 0;
  for (const std::shared_ptr<Session>& session : clients.sessions) {
    if (std::ranges::find(of_one_name, session->volume()) == of_one_name.end()) continue;
    attached += session->serving() ? 1 : 0;
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += session->counter(static_cast<shm::Counter>(i));
  }
  families->add(Metric::kSessions, name, attached);
  for (const auto& [counter, metric] : kVolumeCounters) {
    families->add(metric, name, number(sums[static_cast<size_t>(counter)]));
  }
  const shm::VolumeStatistics statistics = of_one_name.back()->known_statistics();
  families->add(Metric::kVolumeBytes, name, number(statistics.bytes));
  families->add(Metric::kVolumeFiles, name, number(statistics.files));
  const auto sum = [&](std::atomic<uint64_t> origin::OriginCounters::*counter) {
    double total = 0;
    for (const volume::Volume* const volume : of_one_name)
      total += number(volume->origin_counters().*counter);
    return total;
  };
  families->add(Metric::kOriginReads, name, sum(&origin::OriginCounters::reads));
  families->add(Metric::kOriginReadBytes, name, sum(&origin::OriginCounters::read_bytes));
  families->add(Metric::kOriginErrors, name, sum(&origin::OriginCounters::errors));
  families->add(Metric::kOriginInFlight, name, sum(&origin::OriginCounters::in_flight));
}

void Collector::add_volumes(Families* families) const {
  const server::SessionServer::Snapshot clients = sources_.sessions->snapshot();
  const uint64_t now_ns = system_clock().monotonic_ns();
  {
    const std::lock_guard lock(mutex_);
    families->add(Metric::kSessionsLimit, max_sessions_);
    for (const auto& [name, of_one_name] : volumes_) add_volume(of_one_name, clients, families);
  }
  // Two clients may call themselves alike (mount namespaces, benchmarks): the newest stands for all, since a
  // series must not appear twice.
  std::map<LabelValues, const Session*> by_label;
  for (const std::shared_ptr<Session>& session : clients.sessions) {
    by_label[{session->volume()->name(), printable(session->label())}] = session.get();
  }
  for (const auto& [label, session] : by_label) add_session(*session, now_ns, families);
}

void Collector::add_session(const Session& session, uint64_t now_ns, Families* families) {
  const LabelValues labels = {session.volume()->name(), printable(session.label())};
  families->add(Metric::kSessionAge, {labels[0], labels[1], session.serving() ? "attached" : "detached"},
                seconds(now_ns - session.started_ns()));
  for (const auto& [counter, metric] : kSessionCounters) {
    families->add(metric, labels, number(session.counter(counter)));
  }
  // The client may not have written the pins, but a shard may count one down before another counted it up.
  families->add(Metric::kSessionPins, labels,
                static_cast<double>(const_cast<Session&>(session).pins().load(std::memory_order_relaxed)));
}

void Collector::add_ssd(const Answers& answers, Families* families) const {
  ssd_tier::SsdShardStats sum;
  ssd_tier::WriterStats writer;
  uint64_t retries = 0;
  uint64_t reopenings = 0;
  double probability = 0;
  double answered = 0;
  for (const std::optional<ShardAnswer>& answer : answers) {
    if (!answer) continue;
    ++answered;
    sum.hits += answer->ssd->shard.hits;
    sum.hit_bytes += answer->ssd->shard.hit_bytes;
    sum.misses += answer->ssd->shard.misses;
    sum.index_entries += answer->ssd->shard.index_entries;
    sum.index_bytes += answer->ssd->shard.index_bytes;
    writer.offered += answer->ssd->writer.offered;
    writer.refused += answer->ssd->writer.refused;
    writer.written += answer->ssd->writer.written;
    writer.failed += answer->ssd->writer.failed;
    retries += answer->figures.stats.reads.ssd_retries;
    reopenings = std::max(reopenings, answer->ssd->policy.reopenings);
    probability += answer->ssd->policy.admit_probability;
  }
  families->add(Metric::kSsdHits, number(sum.hits));
  families->add(Metric::kSsdHitBytes, number(sum.hit_bytes));
  families->add(Metric::kSsdMisses, number(sum.misses));
  families->add(Metric::kSsdRetries, number(retries));
  families->add(Metric::kSsdIndexEntries, number(sum.index_entries));
  families->add(Metric::kSsdIndexBytes, number(sum.index_bytes));
  families->add(Metric::kSsdIndexLimit, number(sources_.ssd_index_limit_bytes));
  families->add(Metric::kSsdAdmission, {"offered"}, number(writer.offered));
  families->add(Metric::kSsdAdmission, {"refused"}, number(writer.refused));
  families->add(Metric::kSsdAdmission, {"written"}, number(writer.written));
  families->add(Metric::kSsdAdmission, {"failed"}, number(writer.failed));
  if (answered > 0) families->add(Metric::kSsdAdmissionProbability, probability / answered);
  families->add(Metric::kSsdReopenings, number(reopenings));
  for (const auto& device : sources_.ssd->devices()) add_device(*device, answers, families);
}

void Collector::add_device(const DeviceLog& device, const Answers& answers, Families* families) {
  Histogram latency_us;
  ssd_tier::SsdIndex::DeviceTotals totals;
  DeviceLog::SegmentCounts segments;
  for (const std::optional<ShardAnswer>& answer : answers) {
    if (!answer) continue;
    latency_us.merge(answer->ssd->read_latency_us[device.number()]);
    totals.entries += answer->ssd->totals[device.number()].entries;
    totals.bytes += answer->ssd->totals[device.number()].bytes;
    segments.total += answer->ssd->segments[device.number()].total;
    segments.free += answer->ssd->segments[device.number()].free;
  }
  const LabelValues path = {printable(device.path())};
  const DeviceFigures& figures = device.figures();
  const uint64_t used_segments = segments.total - segments.free;
  families->add(Metric::kDeviceState, {path[0], device.state_name()}, 1);
  families->add(Metric::kDeviceHealthy, path, device.readable() && device.writable() ? 1 : 0);
  families->add(Metric::kDeviceCapacity, path, number(server::capacity_bytes_of(device)));
  families->add(Metric::kDeviceUsed, path, number(used_segments * server::segment_bytes_of(device)));
  families->add(Metric::kDeviceLive, path, number(totals.bytes));
  families->add(Metric::kDeviceEntries, path, number(totals.entries));
  families->add(Metric::kDeviceSegmentsFree, path, number(segments.free));
  families->add(Metric::kDeviceReads, path, number(figures.reads));
  families->add(Metric::kDeviceReadBytes, path, number(figures.read_bytes));
  families->add(Metric::kDeviceWrites, path, number(figures.writes));
  families->add(Metric::kDeviceWriteBytes, path, number(figures.write_bytes));
  families->add(Metric::kDeviceAdmittedBytes, path, number(figures.admitted_bytes));
  for (unsigned kind = 0; kind < ssd_tier::kFaultKinds; ++kind) {
    families->add(Metric::kDeviceFaults, {path[0], kFaultNames[kind]}, number(figures.faults[kind]));
  }
  families->add_histogram(Metric::kDeviceReadDuration, path, latency_us);
}

void Collector::add_log(Families* families) {
  const LogLosses losses = log_losses();
  families->add(Metric::kLogDropped, {"limited"}, number(losses.limited));
  families->add(Metric::kLogDropped, {"failed"}, number(losses.failed));
}

}  // namespace cached::metrics
