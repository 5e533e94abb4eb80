// Clock: time as an injected dependency, so that tests decide what time it is.
//
// Elapsed time is always monotonic time: wall clocks jump. CLOCK_MONOTONIC is one clock for all processes of
// a node, so its values may be compared across processes and are what shared records carry.
#pragma once

#include <atomic>
#include <cstdint>

namespace cached {

inline constexpr uint64_t kNanosecondsPerMillisecond = 1'000'000;
inline constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;

class Clock {
 public:
  virtual ~Clock() = default;
  // CLOCK_MONOTONIC in nanoseconds. Any thread.
  virtual uint64_t monotonic_ns() const = 0;
  // CLOCK_REALTIME in nanoseconds since the epoch. Any thread.
  virtual int64_t realtime_ns() const = 0;
};

// The machine's clock. Stateless; one instance for the process.
const Clock& system_clock();

// A clock that moves only when told to. Any thread.
class ManualClock : public Clock {
 public:
  explicit ManualClock(uint64_t monotonic_ns = kNanosecondsPerSecond, int64_t realtime_ns = 0)
      : monotonic_ns_(monotonic_ns), realtime_ns_(realtime_ns) {}
  uint64_t monotonic_ns() const override { return monotonic_ns_.load(); }
  int64_t realtime_ns() const override { return realtime_ns_.load(); }
  // Moves both clocks forward by `elapsed_ns`.
  void advance_ns(uint64_t elapsed_ns) {
    monotonic_ns_ += elapsed_ns;
    realtime_ns_ += static_cast<int64_t>(elapsed_ns);
  }

 private:
  std::atomic<uint64_t> monotonic_ns_;
  std::atomic<int64_t> realtime_ns_;
};

}  // namespace cached
