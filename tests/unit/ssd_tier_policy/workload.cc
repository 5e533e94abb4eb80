#include "tests/unit/ssd_tier_policy/workload.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace cached::ssd_tier {
namespace {

constexpr uint32_t kSmallestFileBytes = 4096;

}  // namespace

std::vector<Block> data_set(uint64_t id, uint64_t blocks) {
  std::vector<Block> all(blocks);
  for (uint64_t number = 0; number < blocks; ++number) all[number] = {(id << 40) + number, kBlockBytes};
  return all;
}

std::vector<Block> small_files(uint64_t id, uint64_t bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  // Even in the logarithm.
  std::uniform_real_distribution<double> doublings(0, std::log2(kBlockBytes / kSmallestFileBytes));
  std::vector<Block> all;
  for (uint64_t sum = 0; sum < bytes; sum += all.back().bytes) {
    const auto length = static_cast<uint32_t>(kSmallestFileBytes * std::exp2(doublings(random)));
    all.push_back({(id << 40) + all.size(), length});
  }
  return all;
}

uint64_t bytes_of(const std::vector<Block>& blocks) {
  uint64_t sum = 0;
  for (const Block& block : blocks) sum += block.bytes;
  return sum;
}

Simulation::Options sized(double cached, double memory_part, uint64_t data_set_bytes) {
  const double cache_bytes = cached * static_cast<double>(data_set_bytes);
  return {.memory_bytes = static_cast<uint64_t>(cache_bytes * memory_part),
          .ssd_bytes = static_cast<uint64_t>(cache_bytes * (1 - memory_part))};
}

Workload::Workload(const std::string& name, const Simulation::Options& options)
    : simulation_(options), random_(options.seed) {
  std::printf("%s\n  %-10s %7s %7s %11s\n", name.c_str(), "", "hit", "memory", "written/read");
}

Workload::~Workload() {
  std::printf("  reopenings: %llu\n", static_cast<unsigned long long>(simulation_.reopenings()));
}

Counts Workload::permuted_epoch(std::vector<Block> blocks, const std::function<void(uint64_t)>& between) {
  std::shuffle(blocks.begin(), blocks.end(), random_);
  Counts counts;
  for (uint64_t number = 0; number < blocks.size(); ++number) {
    if (between) between(number);
    counts += simulation_.read(blocks[number]);
  }
  print("epoch", counts);
  return counts;
}

Counts Workload::in_order(const std::vector<Block>& blocks, const std::string& label) {
  Counts counts;
  for (const Block& block : blocks) counts += simulation_.read(block);
  print(label, counts);
  return counts;
}

void Workload::aside(const std::vector<Block>& blocks) {
  for (const Block& block : blocks) simulation_.read(block);
}

void Workload::print(const std::string& label, const Counts& counts) {
  const double written = static_cast<double>(counts.written) / static_cast<double>(counts.read);
  std::printf("  %-10s %7.4f %7.4f %11.4f\n", label.c_str(), counts.hit_ratio(), counts.memory_ratio(),
              written);
}

}  // namespace cached::ssd_tier
