#include "cached/ssd_tier/victim.h"

#include <algorithm>
#include <cmath>

namespace cached::ssd_tier {

VictimChooser::VictimChooser(uint32_t segment_count, uint64_t seed)
    : random_(seed), segments_(segment_count) {
  candidates_.reserve(segment_count);
}

void VictimChooser::on_reference(uint32_t segment, uint32_t bytes, uint32_t tick) {
  Segment& s = segments_[segment];
  if (tick > s.tick) {
    s.heat_bytes = heat_at(s, tick);
    s.tick = tick;
  }
  s.heat_bytes += static_cast<float>(bytes);
}

void VictimChooser::add(uint32_t segment) {
  Segment& s = segments_[segment];
  if (s.position != kNotListed) return;
  s.position = static_cast<uint32_t>(candidates_.size());
  s.closed_number = closed_count_++;
  candidates_.push_back(segment);
}

void VictimChooser::remove(uint32_t segment) {
  Segment& s = segments_[segment];
  if (s.position != kNotListed) {
    segments_[candidates_.back()].position = s.position;
    candidates_[s.position] = candidates_.back();
    candidates_.pop_back();
  }
  s = {};
}

std::optional<uint32_t> VictimChooser::choose(uint32_t tick) {
  if (candidates_.empty()) return std::nullopt;
  const bool few = candidates_.size() <= kSample;
  const size_t compared = few ? candidates_.size() : kSample;
  std::uniform_int_distribution<size_t> any(0, candidates_.size() - 1);
  uint32_t coldest = candidates_[few ? 0 : any(random_)];
  for (size_t number = 1; number < compared; ++number) {
    const uint32_t other = candidates_[few ? number : any(random_)];
    if (goes_before(other, coldest, tick)) coldest = other;
  }
  return coldest;
}

float VictimChooser::heat_at(const Segment& segment, uint32_t tick) {
  if (tick <= segment.tick) return segment.heat_bytes;
  return segment.heat_bytes *
         std::exp2(-static_cast<float>(tick - segment.tick) / static_cast<float>(kTicksPerHalving));
}

bool VictimChooser::goes_before(uint32_t left, uint32_t right, uint32_t tick) const {
  const float left_bytes = heat_at(segments_[left], tick);
  const float right_bytes = heat_at(segments_[right], tick);
  if (left_bytes != right_bytes) return left_bytes < right_bytes;
  // By difference, so that the counter may wrap.
  return static_cast<int32_t>(segments_[left].closed_number - segments_[right].closed_number) < 0;
}

}  // namespace cached::ssd_tier
