// DeviceHealth: whether a device is trusted, from what its commands return.
//
//   healthy  --(a command hangs, or errors come in numbers)-->  suspect
//   suspect  --(probes succeed in a row)-->                      healthy
//   suspect  --(probes go on failing)-->                         offline
//   offline  --(probes succeed in a row)-->                      healthy
//
// Reads and writes go to healthy devices only. What a suspect or offline device holds stays in the index:
// keys name immutable content and checksums prove it, so nothing is lost when the device comes back, and
// until then its blocks count as absent and come from the origin. Probes are what the device's owner sends
// while it is not healthy, at growing intervals; nothing runs while all is well.
//
// One hanging command is enough, since each of those has cost a reader the whole time-out. Errors and
// mismatches need several within a minute: a single bad sector costs its block and no more.
//
// Threads: the owner's (DeviceLog's home shard). No I/O and no clock of its own, so that tests replay it.
#pragma once

#include <array>
#include <cstdint>

#include "base/clock.h"

namespace cached::ssd_tier {

enum class Fault : uint8_t { kReadError, kWriteError, kShort, kMismatch, kTimeout };
inline constexpr unsigned kFaultKinds = 5;

enum class HealthState : uint8_t { kHealthy, kSuspect, kOffline };
// "healthy", "suspect", "offline".
const char* name_of(HealthState state);

class DeviceHealth {
 public:
  static constexpr unsigned kFaultsTolerated = 8;  // within kFaultWindowNs, time-outs excepted
  static constexpr uint64_t kFaultWindowNs = 60 * kNanosecondsPerSecond;
  static constexpr unsigned kProbesToHealthy = 3;   // that succeed in a row
  static constexpr unsigned kProbesToOffline = 10;  // that fail in a row
  static constexpr uint64_t kFirstProbeNs = kNanosecondsPerSecond / 2;
  static constexpr uint64_t kLongestProbeNs = 60 * kNanosecondsPerSecond;

  HealthState state() const { return state_; }
  // A command of a reader or a writer failed at `now_ns`. Returns whether the state changed.
  bool record_fault(Fault fault, uint64_t now_ns);
  // A probe ended. Returns whether the state changed.
  bool record_probe(bool succeeded);
  // How long to wait before the next probe; only while the state is not healthy.
  uint64_t probe_after_ns() const { return probe_after_ns_; }

 private:
  void go_suspect();

  HealthState state_ = HealthState::kHealthy;
  std::array<uint64_t, kFaultsTolerated> recent_ns_{};  // a ring of the last faults' times; 0: none
  unsigned next_recent_ = 0;
  unsigned probes_good_ = 0;  // in a row
  unsigned probes_bad_ = 0;   // in a row
  uint64_t probe_after_ns_ = kFirstProbeNs;
};

}  // namespace cached::ssd_tier
