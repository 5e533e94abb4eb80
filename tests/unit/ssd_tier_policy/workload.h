// Workload: what training jobs and their neighbours read, played against a Simulation, epoch by epoch, with a
// table of what became of it on standard output.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/ssd_tier_policy/simulation.h"

namespace cached::ssd_tier {

inline constexpr uint32_t kBlockBytes = 128 * 1024;
inline constexpr uint64_t kBlocks = 20'000;  // of the data set, N
inline constexpr uint64_t kDataSetBytes = kBlocks * kBlockBytes;

// `blocks` blocks of 128 KiB; different ids have different keys.
std::vector<Block> data_set(uint64_t id, uint64_t blocks = kBlocks);
// Files of 4 KiB to 128 KiB, a block each, small ones more often than large ones, until `bytes` are reached.
std::vector<Block> small_files(uint64_t id, uint64_t bytes, uint64_t seed);
uint64_t bytes_of(const std::vector<Block>& blocks);

// A cache of `cached` of a data set, `memory_part` of it memory.
Simulation::Options sized(double cached, double memory_part, uint64_t data_set_bytes = kDataSetBytes);

class Workload {
 public:
  // `name` stands in front of the table.
  Workload(const std::string& name, const Simulation::Options& options);
  ~Workload();

  // Reads all blocks once, in a new random order; `between` is called before each read with the number of
  // reads so far. What `between` reads is not counted.
  Counts permuted_epoch(std::vector<Block> blocks, const std::function<void(uint64_t)>& between = {});
  // Reads all blocks once, in the order given.
  Counts in_order(const std::vector<Block>& blocks, const std::string& label = "in order");
  // Reads all blocks once, uncounted.
  void aside(const std::vector<Block>& blocks);
  // Prints a line of the table.
  static void print(const std::string& label, const Counts& counts);

  Simulation& simulation() { return simulation_; }
  std::mt19937_64& random() { return random_; }

 private:
  Simulation simulation_;
  std::mt19937_64 random_;
};

}  // namespace cached::ssd_tier
