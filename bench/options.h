// The options of cached-bench, in fio's names and meanings: one table each for what a job may say (on the
// command line and in job files alike) and for what only the command line says. Help and errors derive from
// the tables.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "bench/distribution.h"
#include "bench/option_values.h"

namespace cached::bench {

enum class EngineKind { kShm, kPosix, kIoUring, kDevice, kMemcpy };
enum class Workload { kBlocks, kSmallFiles };
enum class VerifyKind { kNone, kCrc32c, kXxhash, kPattern };
enum class FileOrder { kRoundRobin, kSequential, kRandom };

// A verified block has room for fio's header and a checksum.
inline constexpr uint64_t kSmallestVerifiedBlock = 64;
inline constexpr uint64_t kMaximumBlockBytes = 1ULL << 30;

// Reads and writes, where fio tells them apart.
enum Direction : unsigned { kRead = 0, kWrite = 1, kDirections = 2 };

// An option as it was written, for the reports.
struct GivenOption {
  std::string name;
  std::string value;
};

// One job: a section of a job file, or a --name on the command line.
struct BenchOptions {
  std::string name = "cached-bench";
  EngineKind engine = EngineKind::kPosix;
  std::string engine_name = "posix";
  Workload workload = Workload::kBlocks;
  LoadKind load;
  unsigned read_percent_of_mix = 50;
  DistributionKind distribution;
  bool every_block_once = true;  // a pass at random takes each block once: fio's random map
  FileOrder file_order = FileOrder::kRoundRobin;
  uint64_t block_bytes = 4096;
  uint64_t size_bytes = 0;    // of all files together; 0: all of the files
  uint64_t file_bytes = 0;    // of each file; 0: size_bytes shared out, or as the files are
  uint64_t io_bytes = 0;      // to read and write before the job ends; 0: size_bytes
  uint64_t offset_bytes = 0;  // where in each file the job begins
  unsigned loops = 1;
  std::vector<std::string> filenames;
  std::string directory;
  std::string file_list;
  bool in_order = false;  // smallfiles: in the list's order, not at random
  unsigned files = 1;
  unsigned depth = 1;
  unsigned jobs = 1;
  uint64_t runtime_ns = 0;  // 0: until everything was read once
  bool time_based = false;
  uint64_t rate_bytes[kDirections] = {0, 0};  // a second, for each job; 0: as fast as it goes
  uint64_t ramp_ns = 0;
  uint64_t seed = 1;
  bool direct = false;
  bool sync_at_end = false;
  bool drops_page_cache = false;
  bool allow_device_writes = false;
  VerifyKind verify = VerifyKind::kNone;
  bool verify_after_writing = true;
  std::string verify_pattern;  // its bytes
  bool submission_percentiles = false;
  bool completion_percentiles = true;
  bool total_percentiles = false;
  bool group_reporting = false;
  bool after_previous = false;  // fio's stonewall: a new group that waits for the jobs before it
  bool new_group = false;
  std::string socket;
  std::string volume;
  bool memcpy_baseline = false;
  bool uncounted = false;  // engine shm: the client leaves out the counters of users and data sets
  bool in_place = false;   // engine shm: bytes are handed out where they lie, and not copied
  std::vector<GivenOption> given;
};

enum class Progress { kIfTerminal, kAlways, kNever };

// What belongs to the program and not to a job.
struct ProgramOptions {
  bool print_normal = true;
  bool print_json = false;
  std::string output;  // file of the reports; empty: standard output
  Progress progress = Progress::kIfTerminal;
  bool read_only = false;
};

// A row of a table.
template <typename Options>
struct OptionSpec {
  std::string_view name;
  std::string_view second_name;  // or empty
  bool is_flag;                  // may stand without a value
  std::string_view help;
  Status (*set)(std::string_view value, Options* options);
};

std::span<const OptionSpec<BenchOptions>> job_options();
std::span<const OptionSpec<ProgramOptions>> program_options();

// The row with this name, where '-' and '_' are the same; nullptr if there is none.
template <typename Options>
const OptionSpec<Options>* find_option(std::span<const OptionSpec<Options>> table, std::string_view name) {
  const auto same_character = [](char a, char b) { return (a == '-' ? '_' : a) == (b == '-' ? '_' : b); };
  const auto same = [&](std::string_view other) {
    return std::equal(name.begin(), name.end(), other.begin(), other.end(), same_character);
  };
  for (const OptionSpec<Options>& row : table) {
    if (!name.empty() && (same(row.name) || same(row.second_name))) return &row;
  }
  return nullptr;
}

// Applies `name` with `value` (no value: it stands alone) to *options. The error names the option.
template <typename Options>
Status set_option(const OptionSpec<Options>& row, std::optional<std::string_view> value, Options* options) {
  if (!value && !row.is_flag) return Status(EINVAL, std::string(row.name) + ": needs a value");
  return row.set(value.value_or(""), options).with_context(std::string(row.name));
}

// The same for an option of a job by its name, remembered in options->given.
Status set_job_option(std::string_view name, std::optional<std::string_view> value, BenchOptions* options);

// What no single option can see: EINVAL with a message that begins with the option's name.
Status check_job(const BenchOptions& options);

// Text for --help.
std::string help_text();

}  // namespace cached::bench
