// VictimChooser: which segment of a device's log is given up when a new one is needed.
//
// A segment is given up whole, so what counts is how much its blocks are used together. Each segment has a
// heat: the bytes of it that were referenced, in which a reference is worth half after one capacity of the
// cache was looked up, a quarter after two, and so on. Writing a block is a reference as well (somebody
// missed it just then); without that a segment that was just filled would be the coldest of all and a change
// of data set could never push the old one out. The coldest of a random sample goes, the one written first
// among equals:
//  - uniform permutations: all segments are about equally warm, so it is random replacement, which costs a
//    cache with little admission next to nothing;
//  - after a change of data set the old one's segments get no hits and go first, while the new ones keep the
//    warmth of their writing until the next epoch comes;
//  - beside a scan, segments with the hot set are kept and those with scanned blocks go.
// A sample, not the coldest of all: the cost stays the same for any number of segments, and the segments of a
// large data set, of which some are read late in an epoch, do not go in the order of that epoch.
//
// Time is AdmissionPolicy::heat_tick(), not seconds: a node that stands idle forgets nothing.
//
// Threads: the one that owns the device's segment table. Memory: 20 bytes a segment.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <vector>

namespace cached::ssd_tier {

class VictimChooser {
 public:
  // References lose half their worth in so many ticks (one capacity, see AdmissionPolicy).
  static constexpr unsigned kTicksPerHalving = 16;
  // How many segments are compared; all, if there are no more. After a change of data set at S = 0.8 N the
  // hit ratio settles at 0.70 with 4, 0.74 with 8, 0.778 with 32 and 0.779 with all.
  static constexpr unsigned kSample = 32;

  // All of a device's `segment_count` segments start cold and not to be chosen.
  VictimChooser(uint32_t segment_count, uint64_t seed);

  // A block of `bytes` in the segment was hit, or written into it. `tick` may lag behind: shards differ.
  void on_reference(uint32_t segment, uint32_t bytes, uint32_t tick);
  // The segment is full and may be chosen from now on. Idempotent.
  void add(uint32_t segment);
  // The segment is being emptied or refilled: it is not chosen before the next add(), and starts cold.
  // Idempotent.
  void remove(uint32_t segment);

  // The segment to give up, still to be remove()d; nothing if there is none to choose from.
  std::optional<uint32_t> choose(uint32_t tick);

 private:
  static constexpr uint32_t kNotListed = UINT32_MAX;
  struct Segment {
    float heat_bytes = 0;  // as of `tick`
    uint32_t tick = 0;
    uint32_t position = kNotListed;  // in candidates_
    uint32_t closed_number = 0;      // counts add()s, to tell which was written first
  };

  static float heat_at(const Segment& segment, uint32_t tick);
  bool goes_before(uint32_t left, uint32_t right, uint32_t tick) const;

  std::mt19937_64 random_;
  std::vector<Segment> segments_;
  std::vector<uint32_t> candidates_;
  uint32_t closed_count_ = 0;
};

}  // namespace cached::ssd_tier
