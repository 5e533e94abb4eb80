// IoSource: the order in which a job reads, handed out one I/O at a time to all of its threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "bench/engine.h"

namespace cached::bench {

class IoSource {
 public:
  struct Plan {
    std::vector<uint64_t> file_bytes;
    uint64_t block_bytes = 0;
    uint64_t size_bytes = 0;   // 0: all
    bool whole_files = false;  // each file is one I/O; block_bytes and size_bytes do not count
    bool random = false;
    bool endless = false;  // start over, in another order
    uint64_t seed = 0;
  };

  explicit IoSource(const Plan& plan);
  // Writes the next I/O; false when all were handed out. Any thread.
  bool next(Io* io);
  // I/Os in one pass.
  uint64_t count() const { return count_; }

 private:
  Io io_at(uint64_t position) const;

  const uint64_t block_bytes_;
  const bool whole_files_;
  const bool random_;
  const bool endless_;
  const uint64_t seed_;
  std::vector<uint64_t> first_block_of_file_;  // and, behind the last file, the number of blocks
  uint64_t count_ = 0;
  unsigned half_bits_ = 1;  // the permutation works on numbers of twice as many bits
  std::atomic<uint64_t> cursor_{0};
};

}  // namespace cached::bench
