// SsdTier: all cache SSDs of the node, and what each shard has of them.
//
// It makes the parts, connects them, starts and stops them; the work is done in the parts: DeviceLog (a
// device), SsdShard and Writer (a shard), AdmissionPolicy (what is worth writing).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/histogram.h"
#include "cached/io/reactor.h"
#include "cached/ssd_tier/admission.h"
#include "cached/ssd_tier/device_log.h"
#include "cached/ssd_tier/ssd_shard.h"
#include "cached/ssd_tier/writer.h"

namespace cached::ssd_tier {

class SsdTier {
 public:
  struct DeviceOptions {
    std::string path;
    DeviceLog::Opener open;
    unsigned queue_depth = 64;  // commands of each shard in flight on it
  };
  struct Options {
    std::vector<DeviceOptions> devices;      // at most kMaximumDevices
    uint64_t memory_bytes = 0;               // of the memory tier
    uint64_t index_limit_bytes = 0;          // all shards together
    uint64_t queue_limit_bytes = 64u << 20;  // that wait for being written, for each shard
    uint64_t device_timeout_ns = kNanosecondsPerSecond;
  };
  // `shards` are the reactors of all shards, in order, not started yet; they outlive this.
  SsdTier(const Options& options, const std::vector<io::Reactor*>& shards);
  ~SsdTier();
  SsdTier(const SsdTier&) = delete;
  SsdTier& operator=(const SsdTier&) = delete;

  // What shard `index` has. Used on its thread.
  SsdShard& shard(unsigned index) { return *parts_[index].shard; }
  Writer& writer(unsigned index) { return *parts_[index].writer; }
  AdmissionPolicy& policy(unsigned index) { return *parts_[index].policy; }

  // Opens the devices and begins to recover them. The reactors run.
  void start();
  // Ends what start() began; before the reactors stop. Idempotent.
  void stop();

  const std::vector<std::unique_ptr<DeviceLog>>& devices() const { return devices_; }
  // The device with that path, or null. Any thread.
  DeviceLog* device(const std::string& path) const;

 private:
  struct Part {
    io::Reactor* reactor = nullptr;
    std::unique_ptr<AdmissionPolicy> policy;
    std::unique_ptr<SsdShard> shard;
    std::unique_ptr<Writer> writer;
  };
  void announce_capacity();

  std::vector<std::unique_ptr<DeviceLog>> devices_;
  std::vector<Part> parts_;
};

}  // namespace cached::ssd_tier
