// WriteSplit: which device takes a shard's next batch, so that devices of unequal size fill alike.
//
// Each device has a level: what was handed to it over its capacity. The next batch goes to the lowest level
// among the devices with an idle stream. One that is at work is not waited for, but the others may get ahead
// of it by kLeadBytes together and no further: so the shares follow the capacities also when a source is
// faster than the devices, and all of them are at work as far as the shares allow it.
//
// A device that can be written without evicting anything goes before one that cannot. One that joins the
// choice, for the first time or again, joins at the lowest level there: what it has missed is not made up
// for.
//
// Threads: the shard's own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace cached::ssd_tier {

class WriteSplit {
 public:
  static constexpr uint64_t kLeadBytes = 16u << 20;

  // A device as it is now.
  struct Candidate {
    uint64_t capacity_bytes = 0;  // 0: it cannot be written
    bool has_room = false;        // without eviction
    bool idle = false;            // takes a batch at once
  };
  explicit WriteSplit(size_t devices) : devices_(devices) {}

  // The device that the next batch goes to; nothing if that one is at work, or there is none. `candidates`
  // are all devices, in order.
  std::optional<size_t> choose(std::span<const Candidate> candidates) {
    const bool any_room = std::ranges::any_of(candidates, [](const Candidate& candidate) {
      return candidate.capacity_bytes > 0 && candidate.has_room;
    });
    uint64_t capacity_bytes = 0;
    for (size_t i = 0; i < devices_.size(); ++i) {
      const Candidate& candidate = candidates[i];
      devices_[i].joins = candidate.capacity_bytes > 0 && (candidate.has_room || !any_room);
      if (devices_[i].joins) capacity_bytes += candidate.capacity_bytes;
    }
    raise_newcomers();
    double lowest = kNone;
    std::optional<size_t> best;
    for (size_t i = 0; i < devices_.size(); ++i) {
      if (!devices_[i].joined) continue;
      lowest = std::min(lowest, devices_[i].level);
      if (candidates[i].idle && (!best || devices_[i].level < devices_[*best].level)) best = i;
    }
    if (!best) return std::nullopt;
    const double lead = static_cast<double>(kLeadBytes) / static_cast<double>(capacity_bytes);
    return devices_[*best].level - lowest <= lead ? best : std::nullopt;
  }

  // A batch was handed to the device.
  void charge(size_t device, uint64_t bytes, uint64_t capacity_bytes) {
    devices_[device].level += static_cast<double>(bytes) / static_cast<double>(capacity_bytes);
  }

 private:
  static constexpr double kNone = 1e300;
  struct Device {
    double level = 0;     // parts of its capacity
    bool joined = false;  // in the last choice
    bool joins = false;   // in this one
  };

  void raise_newcomers() {
    double lowest = kNone;
    for (const Device& device : devices_) {
      if (device.joined && device.joins) lowest = std::min(lowest, device.level);
    }
    for (Device& device : devices_) {
      if (device.joins && !device.joined && lowest != kNone) device.level = std::max(device.level, lowest);
      device.joined = device.joins;
    }
  }

  std::vector<Device> devices_;
};

}  // namespace cached::ssd_tier
