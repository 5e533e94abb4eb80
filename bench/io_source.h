// IoSource: the order in which a job reads and writes, handed out one I/O at a time to all of its threads.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "bench/distribution.h"
#include "bench/engine.h"

namespace cached::bench {

class IoSource {
 public:
  // The part of a file that the job works on.
  struct Region {
    uint32_t file = 0;  // the engine's number
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };
  struct Plan {
    std::vector<Region> regions;
    uint64_t block_bytes = 0;
    uint64_t io_bytes = 0;     // in all passes; 0: all regions once
    unsigned loops = 1;        // times io_bytes
    bool whole_files = false;  // each file is one I/O; sizes do not count
    bool random = false;
    bool every_block_once = true;  // of a pass at random
    bool endless = false;          // start over, in another order
    FileOrder file_order = FileOrder::kRoundRobin;
    DistributionKind distribution;
    unsigned read_percent = 100;
    bool remembers_writes = false;
    uint64_t seed = 0;
  };

  explicit IoSource(const Plan& plan);
  // Writes the next I/O; false when all were handed out. Any thread.
  bool next(Io* io);
  // I/Os in one pass over all regions.
  uint64_t blocks() const { return block_count_; }
  // I/Os before the end, unless it is endless.
  uint64_t limit() const { return limit_; }
  // From now on next() hands out a read of each block that was written (remembers_writes), in order. Not
  // while other threads use it.
  void begin_verification();

 private:
  // Files that take turns for as long as each of them has a block left: they have one in each of these
  // rounds.
  struct Rounds {
    uint64_t first_position;
    uint64_t first_round;
    std::vector<uint32_t> regions;
  };
  struct Place {
    uint32_t region;
    uint64_t block;
  };

  void add_rounds();
  Place place_of(uint64_t position) const;
  uint64_t random_block(Place place, uint64_t sequence, uint64_t pass) const;
  bool next_written(Io* io);
  Io io_at(Place place) const;

  const Plan plan_;
  const uint64_t seed_;
  std::vector<uint64_t>
      first_block_;             // of each region, counted through; and, behind the last, the number of blocks
  std::vector<Rounds> rounds_;  // round robin
  std::vector<std::shared_ptr<const Distribution>> distributions_;  // of each region
  uint64_t block_count_ = 0;
  uint64_t limit_ = 0;
  bool verifying_ = false;
  std::vector<std::atomic<uint64_t>> written_;  // a bit for each block
  std::atomic<uint64_t> cursor_{0};
  std::array<std::atomic<uint64_t>, kDirections> direction_cursor_{};  // of sequential mixes
};

}  // namespace cached::bench
