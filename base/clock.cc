// The machine's clock: see clock.h.
#include "base/clock.h"

#include <time.h>

namespace cached {
namespace {

class SystemClock : public Clock {
 public:
  uint64_t monotonic_ns() const override { return static_cast<uint64_t>(read(CLOCK_MONOTONIC)); }
  int64_t realtime_ns() const override { return read(CLOCK_REALTIME); }

 private:
  static int64_t read(clockid_t id) {
    timespec now{};
    clock_gettime(id, &now);
    return static_cast<int64_t>(now.tv_sec) * static_cast<int64_t>(kNanosecondsPerSecond) + now.tv_nsec;
  }
};

}  // namespace

const Clock& system_clock() {
  static const SystemClock kClock;
  return kClock;
}

}  // namespace cached
