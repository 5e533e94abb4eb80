// Figures and commands of the SSD tier for the operator: see ssd_status.h.
#include "cached/server/ssd_status.h"

#include <algorithm>
#include <future>

#include "cached/server/ask_shards.h"

namespace cached::server {
namespace {

using nlohmann::json;
using ssd_tier::DeviceFigures;
using ssd_tier::DeviceLog;
using ssd_tier::DevicePhase;
using ssd_tier::Fault;

uint64_t faults(const DeviceFigures& figures, Fault fault) {
  return figures.faults[static_cast<unsigned>(fault)].load(std::memory_order_relaxed);
}

bool has_layout(const DeviceLog& device) {
  return device.phase() != DevicePhase::kWaiting && device.phase() != DevicePhase::kRefused;
}

io::Task<void> run_change(io::Task<Status> task, std::shared_ptr<std::promise<Status>> answer) {
  answer->set_value(co_await std::move(task));
}

}  // namespace

uint64_t capacity_bytes_of(const DeviceLog& device) {
  return has_layout(device) ? device.layout().segment_count * segment_bytes_of(device) : 0;
}

uint64_t segment_bytes_of(const DeviceLog& device) {
  return has_layout(device) ? device.layout().segment_bytes : 0;
}

SsdReporter::SsdReporter(std::vector<Shard*> shards, ssd_tier::SsdTier* ssd, uint64_t index_limit_bytes)
    : shards_(std::move(shards)), ssd_(ssd), index_limit_bytes_(index_limit_bytes) {}

Result<std::vector<ShardSsdStats>> SsdReporter::collect() {
  return ask_shards(shards_, [](const Shard& shard) { return shard.ssd_stats(); });
}

Result<json> SsdReporter::summary() {
  if (ssd_ == nullptr) return json();
  const Result<std::vector<ShardSsdStats>> shards = collect();
  if (!shards.ok()) return shards.status();
  uint64_t capacity_bytes = 0;
  uint64_t written_bytes = 0;
  uint64_t used_bytes = 0;
  for (const auto& device : ssd_->devices()) {
    const json entry = device_json(*device, *shards);
    if (device->health() != ssd_tier::HealthState::kOffline) capacity_bytes += capacity_bytes_of(*device);
    used_bytes += entry["used_bytes"].get<uint64_t>();
    written_bytes += device->figures().write_bytes.load(std::memory_order_relaxed);
  }
  ssd_tier::SsdShardStats sum;
  uint64_t dropped = 0;
  for (const ShardSsdStats& shard : *shards) {
    sum.hits += shard.shard.hits;
    sum.hit_bytes += shard.shard.hit_bytes;
    sum.misses += shard.shard.misses;
    dropped += shard.writer.refused + shard.writer.failed;
  }
  return json{{"devices", ssd_->devices().size()}, {"capacity_bytes", capacity_bytes},
              {"used_bytes", used_bytes},          {"hits", sum.hits},
              {"hit_bytes", sum.hit_bytes},        {"misses", sum.misses},
              {"written_bytes", written_bytes},    {"dropped_offers", dropped}};
}

json SsdReporter::device_json(const DeviceLog& device, const std::vector<ShardSsdStats>& shards) const {
  const DeviceFigures& figures = device.figures();
  Histogram latency_us;
  ssd_tier::SsdIndex::DeviceTotals totals;
  DeviceLog::SegmentCounts segments;
  for (const ShardSsdStats& shard : shards) {
    latency_us.merge(shard.read_latency_us[device.number()]);
    totals.entries += shard.totals[device.number()].entries;
    totals.bytes += shard.totals[device.number()].bytes;
    segments.total += shard.segments[device.number()].total;
    segments.free += shard.segments[device.number()].free;
  }
  const uint64_t segment_bytes = segment_bytes_of(device);
  const uint64_t written = figures.write_bytes.load(std::memory_order_relaxed);
  const uint64_t admitted = figures.admitted_bytes.load(std::memory_order_relaxed);
  const double amplification =
      admitted == 0 ? 0 : static_cast<double>(written) / static_cast<double>(admitted);
  return json{{"path", device.path()},
              {"state", device.state_name()},
              {"reason", device.reason()},
              {"capacity_bytes", capacity_bytes_of(device)},
              {"used_bytes", (segments.total - segments.free) * segment_bytes},
              {"live_bytes", totals.bytes},
              {"segments", segments.total},
              {"segments_free", segments.free},
              {"entries", totals.entries},
              {"reads", figures.reads.load(std::memory_order_relaxed)},
              {"read_bytes", figures.read_bytes.load(std::memory_order_relaxed)},
              {"writes", figures.writes.load(std::memory_order_relaxed)},
              {"write_bytes", written},
              {"admitted_bytes", admitted},
              {"write_amplification", amplification},
              {"read_latency_us",
               {{"p50", latency_us.percentile(50)},
                {"p99", latency_us.percentile(99)},
                {"max", latency_us.maximum()}}},
              {"read_errors", faults(figures, Fault::kReadError)},
              {"write_errors", faults(figures, Fault::kWriteError)},
              {"timeouts", faults(figures, Fault::kTimeout)},
              {"short_reads", faults(figures, Fault::kShort)},
              {"mismatches", faults(figures, Fault::kMismatch)},
              {"recovered_entries", figures.recovered_entries.load(std::memory_order_relaxed)},
              {"recovery_ms", figures.recovery_ms.load(std::memory_order_relaxed)}};
}

Result<json> SsdReporter::devices() {
  if (ssd_ == nullptr) return json{{"devices", json::array()}};
  const Result<std::vector<ShardSsdStats>> shards = collect();
  if (!shards.ok()) return shards.status();
  json list = json::array();
  for (const auto& device : ssd_->devices()) list.push_back(device_json(*device, *shards));
  uint64_t entries = 0;
  uint64_t memory_bytes = 0;
  bool open = false;
  double probability = 0;
  double recent = 0;
  double attainable = 0;
  for (const ShardSsdStats& shard : *shards) {
    entries += shard.shard.index_entries;
    memory_bytes += shard.shard.index_bytes;
    open |= shard.policy.reopened || shard.policy.admit_probability >= 1;
    probability += shard.policy.admit_probability / static_cast<double>(shards->size());
    recent += shard.policy.hit_ratio.value_or(0) / static_cast<double>(shards->size());
    attainable += shard.policy.attainable.value_or(0) / static_cast<double>(shards->size());
  }
  return json{
      {"devices", list},
      {"index", {{"entries", entries}, {"memory_bytes", memory_bytes}, {"limit_bytes", index_limit_bytes_}}},
      {"admission",
       {{"open", open},
        {"probability", probability},
        {"hit_ratio_recent", recent},
        {"hit_ratio_reference", attainable}}}};
}

std::string SsdReporter::device_names() const {
  std::string names;
  if (ssd_ == nullptr) return names;
  for (const auto& device : ssd_->devices()) names += (names.empty() ? "" : ", ") + device->path();
  return names;
}

Result<json> SsdReporter::change(const admin::ControlRequest& request, Change how) {
  const Result<std::string> path = request.text_argument("device");
  if (!path.ok()) return path.status();
  DeviceLog* const device = ssd_ == nullptr ? nullptr : ssd_->device(*path);
  if (device == nullptr) {
    const std::string names = device_names();
    return Status(ENOENT, "no device \"" + *path + "\"; " +
                              (names.empty() ? "this daemon has no SSDs" : "the devices are: " + names));
  }
  io::Reactor& reactor = shards_.front()->reactor();
  const auto answer = std::make_shared<std::promise<Status>>();
  auto future = answer->get_future();
  reactor.post([&reactor, device, how, answer] { io::spawn(run_change((device->*how)(reactor), answer)); });
  if (future.wait_for(std::chrono::seconds(1)) != std::future_status::ready) {
    return Status(EIO, "a shard does not answer; the daemon is overloaded or hangs");
  }
  CACHED_RETURN_IF_ERROR(future.get());
  const Result<std::vector<ShardSsdStats>> shards = collect();
  if (!shards.ok()) return shards.status();
  return device_json(*device, *shards);
}

Result<json> SsdReporter::drain(const admin::ControlRequest& request) {
  return change(request, &DeviceLog::drain);
}
Result<json> SsdReporter::undrain(const admin::ControlRequest& request) {
  return change(request, &DeviceLog::undrain);
}

}  // namespace cached::server
