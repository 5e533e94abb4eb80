// IoSource: see io_source.h.
#include "bench/io_source.h"

#include <algorithm>
#include <bit>

namespace cached::bench {
namespace {

constexpr int kPermutationRounds = 4;

uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL;
  return value ^ (value >> 31);
}

// A bijection of [0, count): a Feistel network over 2 * half_bits bits, walked until it lands inside. So a
// pass reads each block exactly once, like fio's random map, without a map.
uint64_t permute(uint64_t position, uint64_t count, unsigned half_bits, uint64_t key) {
  const uint64_t half_mask = (uint64_t{1} << half_bits) - 1;
  do {
    uint64_t left = position >> half_bits;
    uint64_t right = position & half_mask;
    for (int round = 0; round < kPermutationRounds; ++round) {
      const uint64_t next =
          left ^ (mix(right + key + static_cast<uint64_t>(round) * 0x9E3779B97F4A7C15ULL) & half_mask);
      left = right;
      right = next;
    }
    position = (left << half_bits) | right;
  } while (position >= count);
  return position;
}

}  // namespace

IoSource::IoSource(const Plan& plan)
    : block_bytes_(plan.block_bytes),
      whole_files_(plan.whole_files),
      random_(plan.random),
      endless_(plan.endless),
      seed_(mix(plan.seed + 1)) {
  for (uint64_t file_bytes : plan.file_bytes) {
    first_block_of_file_.push_back(count_);
    count_ += whole_files_ ? 1 : file_bytes / block_bytes_;
  }
  first_block_of_file_.push_back(count_);
  if (!whole_files_ && plan.size_bytes != 0) count_ = std::min(count_, plan.size_bytes / block_bytes_);
  half_bits_ = std::max(1U, (static_cast<unsigned>(std::bit_width(count_)) + 1) / 2);
}

bool IoSource::next(Io* io) {
  const uint64_t number = cursor_.fetch_add(1, std::memory_order_relaxed);
  if (count_ == 0 || (number >= count_ && !endless_)) return false;
  uint64_t position = number % count_;
  if (random_) position = permute(position, count_, half_bits_, mix(seed_ + number / count_));
  *io = io_at(position);
  return true;
}

Io IoSource::io_at(uint64_t position) const {
  const auto after = std::upper_bound(first_block_of_file_.begin(), first_block_of_file_.end(), position);
  Io io;
  io.file = static_cast<uint32_t>(after - first_block_of_file_.begin() - 1);
  io.whole_file = whole_files_;
  io.offset = (position - first_block_of_file_[io.file]) * block_bytes_;
  io.length = block_bytes_;
  return io;
}

}  // namespace cached::bench
