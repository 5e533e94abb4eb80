// Simulation: a node's memory tier, SSD tier and origin as far as the policy can tell, without I/O: the real
// AdmissionPolicy and VictimChooser of each shard between a model of the memory tier (a transient FIFO and a
// SIEVE list) and one of the SSD log (whole segments filled and given up).
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "cached/ssd_tier/admission.h"
#include "cached/ssd_tier/victim.h"

namespace cached::ssd_tier {

struct Block {
  uint64_t key = 0;
  uint32_t bytes = 0;
};

// What was read, and from where, in bytes.
struct Counts {
  uint64_t read = 0;
  uint64_t memory_hit = 0;
  uint64_t ssd_hit = 0;
  uint64_t written = 0;  // to SSD

  Counts& operator+=(const Counts& other);
  double memory_ratio() const { return ratio(memory_hit); }
  double hit_ratio() const { return ratio(memory_hit + ssd_hit); }

 private:
  double ratio(uint64_t part) const {
    return read == 0 ? 0 : static_cast<double>(part) / static_cast<double>(read);
  }
};

// New blocks are told where to go, a block that is hit in the transient list moves to the main list.
class MemoryModel {
 public:
  explicit MemoryModel(uint64_t capacity_bytes);

  bool hit(uint64_t key);
  bool main_full(uint32_t bytes) const { return main_bytes_ + bytes > main_limit_bytes_; }
  void insert(const Block& block, bool in_main);
  // Nothing in the main list counts as visited, and the oldest is looked at next.
  void start_over();

 private:
  struct Item {
    Block block;
    bool in_main = false;
    bool visited = false;
  };
  using List = std::list<Item>;

  void push_main(const Block& block);
  void evict_main();
  void shrink_transient();

  uint64_t capacity_bytes_;
  uint64_t main_limit_bytes_;
  uint64_t main_bytes_ = 0;
  uint64_t transient_bytes_ = 0;
  List main_;                           // newest first
  List transient_;                      // newest first
  std::optional<List::iterator> hand_;  // nothing: the oldest is next
  std::unordered_map<uint64_t, List::iterator> items_;
};

// A log of equal segments.
class SsdModel {
 public:
  SsdModel(uint64_t capacity_bytes, uint32_t segment_count, uint64_t seed);

  bool hit(uint64_t key, uint32_t tick);
  // Forgets what segments were used for, and leaves the open one as it is.
  void restart(uint64_t seed);
  // A block of `bytes` has a place for which no segment was or must be given up.
  bool room(uint32_t bytes) const;
  void write(const Block& block, uint32_t tick);

 private:
  struct Place {
    uint32_t segment = 0;
    uint32_t bytes = 0;
  };

  uint32_t take_segment(uint32_t tick);

  uint64_t segment_bytes_;
  std::vector<std::vector<uint64_t>> keys_;  // of each segment
  std::unordered_map<uint64_t, Place> index_;
  VictimChooser victims_;
  uint32_t open_ = 0;
  uint32_t fresh_ = 1;  // segments from here on were never used
  uint64_t open_bytes_ = 0;
  bool open_is_fresh_ = true;
};

class Simulation {
 public:
  struct Options {
    uint64_t memory_bytes = 0;
    uint64_t ssd_bytes = 0;
    uint32_t segments = 250;  // of all shards
    unsigned shards = 1;
    uint64_t seed = 1;
  };

  explicit Simulation(const Options& options);

  Counts read(const Block& block);
  // The daemon starts again: what is on the SSDs is there, all else is forgotten.
  void restart();
  // Of the shard with the most reopenings, how many it had.
  uint64_t reopenings() const;
  const AdmissionPolicy& policy(unsigned shard) const { return shards_[shard]->policy; }

 private:
  struct Shard {
    explicit Shard(const Options& options);
    void restart();
    Options share;  // the shard's own
    AdmissionPolicy policy;
    MemoryModel memory;
    SsdModel ssd;
    uint64_t reopenings_seen = 0;
  };

  std::vector<std::unique_ptr<Shard>> shards_;
};

}  // namespace cached::ssd_tier
