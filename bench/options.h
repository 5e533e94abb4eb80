// The command line of cached-bench, in fio's names and meanings.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cached::bench {

enum class EngineKind { kShm, kPosix, kIoUring, kMemcpy };
enum class Workload { kBlocks, kSmallFiles };

struct BenchOptions {
  std::string name = "cached-bench";
  EngineKind engine = EngineKind::kPosix;
  std::string engine_name = "posix";
  Workload workload = Workload::kBlocks;
  bool random = false;
  std::string rw = "read";
  uint64_t block_bytes = 4096;
  uint64_t size_bytes = 0;  // 0: all of the files
  std::vector<std::string> filenames;
  std::string directory;
  std::string file_list;
  bool in_order = false;  // smallfiles: in the list's order, not at random
  unsigned files = 1;
  unsigned depth = 1;
  unsigned jobs = 1;
  uint64_t runtime_ns = 0;  // 0: until everything was read once
  bool time_based = false;
  uint64_t rate_bytes = 0;  // a second, for each job; 0: as fast as it goes
  uint64_t ramp_ns = 0;
  uint64_t seed = 1;
  bool direct = false;
  bool print_normal = true;
  bool print_json = false;
  std::string socket;
  std::string volume;
  bool memcpy_baseline = false;
  bool uncounted = false;  // engine shm: the client leaves out the counters of users and data sets
  bool in_place = false;   // engine shm: bytes are handed out where they lie, and not copied
};

// Fills *options. Returns the exit status when the program must end now: help was asked for (0), or the
// command line is wrong and a message that names what is wrong stands on stderr (2).
std::optional<int> parse_options(int argc, char** argv, BenchOptions* options);

}  // namespace cached::bench
