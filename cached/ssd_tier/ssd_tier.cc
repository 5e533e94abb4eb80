// Making and connecting the parts: see ssd_tier.h.
#include "cached/ssd_tier/ssd_tier.h"

namespace cached::ssd_tier {

SsdTier::SsdTier(const Options& options, const std::vector<io::Reactor*>& shards) {
  for (const DeviceOptions& device : options.devices) {
    const auto number = static_cast<unsigned>(devices_.size());
    DeviceLog::Options log;
    log.path = device.path;
    log.open = device.open;
    log.number = number;
    log.queue_depth = device.queue_depth;
    log.probe_timeout_ns = options.device_timeout_ns;
    log.on_change = [this] { announce_capacity(); };
    devices_.push_back(std::make_unique<DeviceLog>(std::move(log), *shards[number % shards.size()]));
  }
  std::vector<DeviceLog*> logs;
  for (const auto& device : devices_) logs.push_back(device.get());
  for (unsigned i = 0; i < shards.size(); ++i) {
    Part part;
    part.reactor = shards[i];
    AdmissionPolicy::Options policy;
    policy.seed = i + 1;
    policy.memory_bytes = options.memory_bytes / shards.size();
    part.policy = std::make_unique<AdmissionPolicy>(policy);
    SsdShard::Options shard;
    shard.index_limit_bytes = options.index_limit_bytes / shards.size();
    shard.device_timeout_ns = options.device_timeout_ns;
    part.shard = std::make_unique<SsdShard>(*shards[i], shard, *part.policy, logs);
    const Writer::Options writer{options.queue_limit_bytes, options.device_timeout_ns};
    part.writer = std::make_unique<Writer>(*shards[i], *part.shard, *part.policy, logs, writer);
    part.shard->set_writer(part.writer.get());
    parts_.push_back(std::move(part));
  }
}

SsdTier::~SsdTier() {
  stop();
}

void SsdTier::start() {
  std::vector<SsdShard*> shards;
  for (const Part& part : parts_) shards.push_back(part.shard.get());
  for (const auto& device : devices_) device->start(shards);
}

void SsdTier::stop() {
  for (const auto& device : devices_) device->stop();
}

DeviceLog* SsdTier::device(const std::string& path) const {
  for (const auto& device : devices_) {
    if (device->path() == path) return device.get();
  }
  return nullptr;
}

// The policies work with what there is to fill: a shard's share of all devices that are in use.
void SsdTier::announce_capacity() {
  uint64_t capacity_bytes = 0;
  for (const auto& device : devices_) {
    if (device->phase() != DevicePhase::kReady) continue;
    capacity_bytes += uint64_t{device->layout().segment_count} * device->layout().segment_bytes;
  }
  for (Part& part : parts_) {
    part.reactor->post(
        [&part, share = capacity_bytes / parts_.size()] { part.policy->set_capacity_bytes(share); });
  }
}

}  // namespace cached::ssd_tier
