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

// A bijection of [0, count): a Feistel network over an even number of bits, walked until it lands inside. So
// a pass reads each block exactly once, like fio's random map, without a map.
uint64_t permute(uint64_t position, uint64_t count, uint64_t key) {
  const unsigned half_bits = std::max(1U, (static_cast<unsigned>(std::bit_width(count)) + 1) / 2);
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

// A number in [0, 1) for `sequence`.
double uniform(uint64_t seed, uint64_t sequence) {
  return static_cast<double>(mix(seed + sequence * 0x9E3779B97F4A7C15ULL) >> 11) * 0x1p-53;
}

constexpr uint64_t kMixSalt = 0x6D6978ULL;  // the draw of the direction must not follow the draw of the block

}  // namespace

IoSource::IoSource(const Plan& plan) : plan_(plan), seed_(mix(plan.seed + 1)) {
  for (const Region& region : plan_.regions) {
    first_block_.push_back(block_count_);
    block_count_ += plan_.whole_files ? 1 : region.bytes / plan_.block_bytes;
  }
  first_block_.push_back(block_count_);
  limit_ = (plan_.io_bytes == 0 ? block_count_ : plan_.io_bytes / plan_.block_bytes) * plan_.loops;
  if (plan_.file_order == FileOrder::kRoundRobin && !plan_.whole_files) add_rounds();
  if (plan_.remembers_writes) written_ = std::vector<std::atomic<uint64_t>>((block_count_ + 63) / 64);
  if (!plan_.random || plan_.distribution.shape == DistributionKind::Shape::kUniform) return;
  for (size_t i = 0; i < plan_.regions.size(); ++i) {
    const uint64_t blocks = std::max<uint64_t>(1, first_block_[i + 1] - first_block_[i]);
    const bool same = i > 0 && blocks == first_block_[i] - first_block_[i - 1];
    distributions_.push_back(same ? distributions_.back()
                                  : std::make_shared<const Distribution>(plan_.distribution, blocks));
  }
}

void IoSource::add_rounds() {
  std::vector<uint64_t> sizes;
  for (size_t i = 0; i + 1 < first_block_.size(); ++i) sizes.push_back(first_block_[i + 1] - first_block_[i]);
  std::vector<uint64_t> ends = sizes;
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  uint64_t position = 0;
  uint64_t round = 0;
  for (uint64_t end : ends) {
    if (end == 0) continue;
    Rounds rounds{.first_position = position, .first_round = round, .regions = {}};
    for (uint32_t i = 0; i < sizes.size(); ++i) {
      if (sizes[i] >= end) rounds.regions.push_back(i);
    }
    position += (end - round) * rounds.regions.size();
    round = end;
    rounds_.push_back(std::move(rounds));
  }
}

IoSource::Place IoSource::place_of(uint64_t position) const {
  if (rounds_.empty()) {
    const auto after = std::upper_bound(first_block_.begin(), first_block_.end(), position);
    const auto region = static_cast<uint32_t>(after - first_block_.begin() - 1);
    return {.region = region, .block = position - first_block_[region]};
  }
  const auto is_before = [](uint64_t wanted, const Rounds& rounds) { return wanted < rounds.first_position; };
  const Rounds& rounds = *(std::upper_bound(rounds_.begin(), rounds_.end(), position, is_before) - 1);
  const uint64_t turn = position - rounds.first_position;
  return {.region = rounds.regions[turn % rounds.regions.size()],
          .block = rounds.first_round + turn / rounds.regions.size()};
}

uint64_t IoSource::random_block(Place place, uint64_t sequence, uint64_t pass) const {
  const uint64_t blocks = first_block_[place.region + 1] - first_block_[place.region];
  const uint64_t key = mix(seed_ + place.region);
  if (!distributions_.empty())
    return permute(distributions_[place.region]->rank(uniform(seed_, sequence)), blocks, key);
  if (!plan_.every_block_once)
    return std::min(blocks - 1,
                    static_cast<uint64_t>(uniform(seed_, sequence) * static_cast<double>(blocks)));
  return permute(place.block, blocks, mix(key + pass));
}

bool IoSource::next(Io* io) {
  if (verifying_) return next_written(io);
  const uint64_t number = cursor_.fetch_add(1, std::memory_order_relaxed);
  if (block_count_ == 0 || (number >= limit_ && !plan_.endless)) return false;
  const bool mixed = plan_.read_percent != 0 && plan_.read_percent != 100;
  const double draw = mixed ? 100 * uniform(seed_ ^ kMixSalt, number) : 0;
  const Direction direction = draw < plan_.read_percent ? kRead : kWrite;
  uint64_t sequence = number;
  // As in fio, reads and writes of a sequential mix each go through the files by themselves.
  if (mixed && !plan_.random) sequence = direction_cursor_[direction].fetch_add(1, std::memory_order_relaxed);
  const uint64_t pass = sequence / block_count_;
  const bool any_file = plan_.random && (plan_.whole_files || plan_.file_order == FileOrder::kRandom);
  const uint64_t position = sequence % block_count_;
  Place place = place_of(any_file ? permute(position, block_count_, mix(seed_ + pass)) : position);
  // Where blocks may come again, only the file is decided so far.
  const bool drawn = !distributions_.empty() || !plan_.every_block_once;
  if (plan_.random && !plan_.whole_files && (drawn || !any_file))
    place.block = random_block(place, sequence, pass);
  *io = io_at(place);
  io->direction = direction;
  if (direction == kWrite && plan_.remembers_writes) {
    const uint64_t block = first_block_[place.region] + place.block;
    written_[block / 64].fetch_or(uint64_t{1} << (block % 64), std::memory_order_relaxed);
  }
  return true;
}

void IoSource::begin_verification() {
  verifying_ = true;
  cursor_ = 0;
}

bool IoSource::next_written(Io* io) {
  for (;;) {
    const uint64_t block = cursor_.fetch_add(1, std::memory_order_relaxed);
    if (block >= block_count_) return false;
    if ((written_[block / 64].load(std::memory_order_relaxed) >> (block % 64) & 1) == 0) continue;
    const auto after = std::upper_bound(first_block_.begin(), first_block_.end(), block);
    const auto region = static_cast<uint32_t>(after - first_block_.begin() - 1);
    *io = io_at({.region = region, .block = block - first_block_[region]});
    return true;
  }
}

Io IoSource::io_at(Place place) const {
  const Region& region = plan_.regions[place.region];
  Io io;
  io.file = region.file;
  io.whole_file = plan_.whole_files;
  io.offset = region.offset + place.block * plan_.block_bytes;
  io.length = plan_.block_bytes;
  return io;
}

}  // namespace cached::bench
