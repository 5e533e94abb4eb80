// The transitions: see health.h.
#include "cached/ssd_tier/health.h"

#include <algorithm>

namespace cached::ssd_tier {

const char* name_of(HealthState state) {
  switch (state) {
    case HealthState::kHealthy:
      return "healthy";
    case HealthState::kSuspect:
      return "suspect";
    case HealthState::kOffline:
      return "offline";
  }
  return "?";
}

void DeviceHealth::go_suspect() {
  state_ = HealthState::kSuspect;
  recent_ns_.fill(0);
  probes_good_ = 0;
  probes_bad_ = 0;
  probe_after_ns_ = kFirstProbeNs;
}

bool DeviceHealth::record_fault(Fault fault, uint64_t now_ns) {
  if (state_ != HealthState::kHealthy) return false;
  if (fault != Fault::kTimeout) {
    // The entry that is overwritten is the oldest of the last kFaultsTolerated.
    const uint64_t oldest_ns = recent_ns_[next_recent_];
    recent_ns_[next_recent_] = now_ns;
    next_recent_ = (next_recent_ + 1) % kFaultsTolerated;
    if (oldest_ns == 0 || now_ns - oldest_ns > kFaultWindowNs) return false;
  }
  go_suspect();
  return true;
}

bool DeviceHealth::record_probe(bool succeeded) {
  if (state_ == HealthState::kHealthy) return false;
  if (succeeded) {
    probes_bad_ = 0;
    probe_after_ns_ = kFirstProbeNs;
    if (++probes_good_ < kProbesToHealthy) return false;
    state_ = HealthState::kHealthy;
    return true;
  }
  probes_good_ = 0;
  probe_after_ns_ = std::min(2 * probe_after_ns_, kLongestProbeNs);
  if (++probes_bad_ < kProbesToOffline || state_ == HealthState::kOffline) return false;
  state_ = HealthState::kOffline;
  return true;
}

}  // namespace cached::ssd_tier
