// Random: a small seeded generator (splitmix64), so that a run's operations follow from its seed on any
// machine.
#pragma once

#include <cstdint>

namespace cached::verify {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    state_ += 0x9E3779B97F4A7C15;
    uint64_t value = state_;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
    return value ^ (value >> 31);
  }
  // A number below `limit`, which is not 0.
  uint64_t below(uint64_t limit) { return next() % limit; }
  // A number from `low` to `high`, both included.
  uint64_t between(uint64_t low, uint64_t high) { return high <= low ? low : low + below(high - low + 1); }

 private:
  uint64_t state_;
};

}  // namespace cached::verify
