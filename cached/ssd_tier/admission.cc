#include "cached/ssd_tier/admission.h"

#include <algorithm>
#include <cmath>

#include "cached/ssd_tier/victim.h"

namespace cached::ssd_tier {
namespace {

// Admission to the SSDs, and to memory's main list, when they are full and all misses are of known keys.
constexpr double kTrickle = 0.02;
constexpr double kRetention = 0.005;
// What is left of these when all misses are of new keys.
constexpr double kNewKeysFactor = 0.05;
// Averages over the last sampled misses and lookups.
constexpr double kShareWeight = 1.0 / 32;
// Re-references that a verdict needs.
constexpr uint64_t kEnoughReferences = 128;
// Reopens when the hit ratio is below this part of what is attainable by so many standard deviations and that
// much is to be gained...
constexpr double kCollapsed = 1.0 / 3;
constexpr double kDeviations = 3;
constexpr double kWorthwhileGain = 0.1;
// ...and closes when it is back above this part of it.
constexpr double kRecovered = 0.8;
// Rounds of the working set after a reopening before the next; doubled while reopenings are fruitless.
constexpr double kRestRounds = 2;
constexpr unsigned kMostDoublings = 6;
// Below this share of misses memory has nothing else to keep than copies of what is on the SSDs.
constexpr double kFewMisses = 0.02;

// A key that misses again within a quarter of the capacity is hot.
constexpr uint32_t kHotGapTicks = VictimChooser::kTicksPerHalving / 4;
constexpr uint64_t kUsualBlockBytes = 128 * 1024;

size_t refused_entries(uint64_t capacity_bytes) {
  return capacity_bytes / 4 / kUsualBlockBytes + 1;
}

}  // namespace

AdmissionPolicy::AdmissionPolicy(const Options& options)
    : capacity_bytes_(options.capacity_bytes),
      memory_bytes_(options.memory_bytes),
      random_(options.seed),
      sampler_(options.seed),
      refused_(refused_entries(options.capacity_bytes)) {}

void AdmissionPolicy::on_lookup(uint64_t key_hash, uint32_t block_bytes, bool ssd_hit) {
  if (capacity_bytes_ == 0) return;
  advance(block_bytes);
  const ReuseSampler::Sight sight = sampler_.see(key_hash, position_bytes_, horizon_bytes());
  if (!sight.sampled) return;
  if (sight.seen_before && sight.gap_bytes < tick_bytes()) return;
  miss_share_ += ((ssd_hit ? 0.0 : 1.0) - miss_share_) * kShareWeight;
  if (!ssd_hit) known_share_ += ((sight.seen_before ? 1.0 : 0.0) - known_share_) * kShareWeight;
  if (!sight.seen_before) return;
  Span& span = spans_[span_];
  ++span.references;
  span.bytes += block_bytes;
  span.gap_sum += static_cast<double>(block_bytes) * static_cast<double>(sight.gap_bytes);
  if (ssd_hit) span.hit_bytes += block_bytes;
}

bool AdmissionPolicy::admit(uint64_t key_hash, bool room) {
  if (capacity_bytes_ == 0) return false;
  full_ = !room;
  if (room || reopened_) return true;
  return refused_.note(key_hash, heat_tick_, kHotGapTicks) || happens(kTrickle * known_factor());
}

void AdmissionPolicy::on_written(uint32_t block_bytes) {
  if (!reopened_) return;
  reopened_written_bytes_ += block_bytes;
  if (reopened_written_bytes_ >= capacity_bytes_) close();
}

bool AdmissionPolicy::keep_in_memory(uint32_t block_bytes, bool main_full, bool on_ssd) {
  if (capacity_bytes_ == 0) return true;
  if (on_ssd && miss_share_ > kFewMisses) return false;
  if (!main_full) return true;
  if (on_ssd || memory_reopened_bytes_ == 0) return happens(kRetention * known_factor());
  memory_reopened_bytes_ -= std::min<uint64_t>(memory_reopened_bytes_, block_bytes);
  return true;
}

void AdmissionPolicy::set_capacity_bytes(uint64_t capacity_bytes) {
  capacity_bytes_ = capacity_bytes;
  refused_.resize(refused_entries(capacity_bytes));
}

AdmissionPolicy::Figures AdmissionPolicy::figures() const {
  Figures figures;
  figures.admit_probability = full_ && !reopened_ ? kTrickle * known_factor() : 1;
  figures.reopened = reopened_;
  figures.reopenings = reopenings_;
  if (window_) {
    figures.hit_ratio = window_->hit_ratio;
    figures.attainable = window_->attainable;
    figures.working_set_bytes = static_cast<uint64_t>(window_->working_set_bytes);
  }
  return figures;
}

uint64_t AdmissionPolicy::tick_bytes() const {
  return capacity_bytes_ / VictimChooser::kTicksPerHalving + 1;
}

double AdmissionPolicy::known_factor() const {
  return std::max(known_share_, kNewKeysFactor);
}

bool AdmissionPolicy::happens(double probability) {
  return std::generate_canonical<double, 53>(random_) < probability;
}

void AdmissionPolicy::advance(uint32_t block_bytes) {
  position_bytes_ += block_bytes;
  if (position_bytes_ - heat_tick_at_bytes_ >= tick_bytes()) {
    ++heat_tick_;
    heat_tick_at_bytes_ = position_bytes_;
  }
  if (position_bytes_ - spans_[span_].start_bytes >= span_bytes()) {
    judge();
    sampler_.adapt(position_bytes_, horizon_bytes());
    span_ = (span_ + 1) % kSpans;
    spans_[span_] = {.start_bytes = position_bytes_};
  }
}

// The last stretch of lookups that is as long as the working set that it shows.
std::optional<AdmissionPolicy::Window> AdmissionPolicy::last_round() const {
  Span sum;
  for (unsigned back = 0; back < kSpans; ++back) {
    const Span& span = spans_[(span_ + kSpans - back) % kSpans];
    sum.references += span.references;
    sum.bytes += span.bytes;
    sum.hit_bytes += span.hit_bytes;
    sum.gap_sum += span.gap_sum;
    const double length_bytes = static_cast<double>(position_bytes_ - span.start_bytes);
    if (sum.references >= kEnoughReferences && sum.gap_sum <= length_bytes * sum.bytes) break;
    if (span.start_bytes == 0) break;
  }
  if (sum.references < kEnoughReferences) return std::nullopt;
  const double working_set_bytes = std::max(sum.gap_sum / sum.bytes, 1.0);
  return Window{.references = sum.references,
                .hit_ratio = sum.hit_bytes / sum.bytes,
                .working_set_bytes = working_set_bytes,
                .attainable = std::min(1.0, static_cast<double>(capacity_bytes_) / working_set_bytes)};
}

void AdmissionPolicy::judge() {
  const std::optional<Window> window = last_round();
  if (!window) return;
  window_ = window;
  const double hit_ratio = window_->hit_ratio;
  const double attainable = window_->attainable;
  if (hit_ratio >= kRecovered * attainable) {
    fruitless_ = 0;
    if (reopened_) close();
    return;
  }
  if (full_ && !reopened_ && position_bytes_ >= no_reopening_before_bytes_ && collapsed(*window_)) reopen();
}

// Whether the hit ratio is certainly, not by chance, far below what is attainable.
bool AdmissionPolicy::collapsed(const Window& window) {
  if (window.attainable - window.hit_ratio < kWorthwhileGain) return false;
  const double bound = kCollapsed * window.attainable;
  const double deviation = std::sqrt(bound * (1 - bound) / static_cast<double>(window.references));
  return window.hit_ratio < bound - kDeviations * deviation;
}

void AdmissionPolicy::reopen() {
  reopened_ = true;
  reopened_written_bytes_ = 0;
  ++reopenings_;
}

void AdmissionPolicy::close() {
  reopened_ = false;
  memory_reopened_bytes_ = memory_bytes_;
  const double round_bytes = std::max(window_->working_set_bytes, static_cast<double>(capacity_bytes_));
  const double rest_bytes = kRestRounds * round_bytes * static_cast<double>(1U << fruitless_);
  no_reopening_before_bytes_ = position_bytes_ + static_cast<uint64_t>(rest_bytes);
  fruitless_ = std::min(fruitless_ + 1, kMostDoublings);
}

}  // namespace cached::ssd_tier
