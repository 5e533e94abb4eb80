// cached-ssd-bench: measures parts of the SSD tier by themselves, the product's own code, and prints JSON.
//
//   index     what an index of so many entries takes, counted by itself and by the kernel
//   recovery  how long the start on a device in memory takes that holds so many entries, on one core
//   fill      writes segments without data into a device file, for measuring a daemon's start on it
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "base/clock.h"
#include "base/units.h"
#include "bench/synthetic_segments.h"
#include "cached/io/file_device.h"
#include "cached/io/memory_device.h"
#include "cached/ssd_tier/aligned_buffer.h"
#include "cached/ssd_tier/ssd_index.h"
#include "cached/ssd_tier/ssd_tier.h"

namespace cached::bench {
namespace {

using nlohmann::json;

constexpr uint64_t kIndexLimitBytes = 2 * kGiB;  // above what any of these takes
constexpr uint32_t kDeviceBlockBytes = 4096;

struct Arguments {
  uint64_t entries = 1'000'000;
  uint32_t entry_bytes = 128 << 10;
  std::string path;  // fill
  uint32_t first_segment = 0;
  uint32_t end_segment = UINT32_MAX;
};

double seconds_since(uint64_t start_ns) {
  return static_cast<double>(system_clock().monotonic_ns() - start_ns) / kNanosecondsPerSecond;
}

// Time on a CPU of this process so far.
double cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / kNanosecondsPerSecond;
}

// Memory of this process that is in RAM.
uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t total_pages = 0;
  uint64_t resident_pages = 0;
  file >> total_pages >> resident_pages;
  return resident_pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

// A capacity that holds so many entries: a segment loses less than two large entries to headers and footer.
uint64_t capacity_for(const Arguments& arguments) {
  uint64_t capacity_bytes = ssd_tier::kMinimumDeviceBytes;
  for (;; capacity_bytes += capacity_bytes / 8) {
    const uint64_t aligned_bytes = align_up(capacity_bytes, kDeviceBlockBytes);
    const ssd_tier::Layout layout = ssd_tier::layout_for(aligned_bytes, kDeviceBlockBytes).value();
    const uint64_t room_bytes = layout.segment_bytes - layout.segment_bytes / 8;
    if (layout.segment_count * (room_bytes / align_up(arguments.entry_bytes, kDeviceBlockBytes)) >=
        arguments.entries) {
      return aligned_bytes;
    }
  }
}

Result<json> measure_index(const Arguments& arguments) {
  Result<ssd_tier::Layout> layout = ssd_tier::layout_for(capacity_for(arguments), kDeviceBlockBytes);
  if (!layout.ok()) return layout.status();
  const uint64_t resident_before = resident_bytes();
  ssd_tier::SsdIndex index(kIndexLimitBytes);
  index.add_device(0, *layout);
  std::mt19937_64 random(1);
  const auto extent_bytes = static_cast<uint32_t>(align_up(arguments.entry_bytes, kDeviceBlockBytes));
  const uint32_t entries_of_segment = layout->segment_bytes / extent_bytes;
  for (uint64_t number = 0; number < arguments.entries; ++number) {
    const shm::BlockKey key{.object = {random(), number}, .block = 0, .volume = 1, .data_set = 0};
    const auto segment = static_cast<uint32_t>(number / entries_of_segment);
    const uint64_t offset_bytes =
        layout->segment_offset(segment) + number % entries_of_segment * uint64_t{extent_bytes};
    const ssd_tier::Location location{0, segment, offset_bytes, arguments.entry_bytes};
    ssd_tier::Checksums checksums{};
    for (uint32_t& checksum : checksums) checksum = static_cast<uint32_t>(random());
    if (!index.insert(key, location, checksums)) return Status(ENOSPC, "the index takes no more entries");
  }
  return json{{"entries", index.entries()},
              {"memory_bytes", index.memory_bytes()},
              {"resident_bytes", resident_bytes() - resident_before}};
}

Status pin_to_one_core() {
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return Status::from_errno("sched_getaffinity");
  int last = CPU_SETSIZE - 1;
  while (last > 0 && CPU_ISSET(last, &allowed) == 0) --last;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(last, &one);
  // Threads that start later inherit it.
  if (::sched_setaffinity(0, sizeof one, &one) != 0) return Status::from_errno("sched_setaffinity");
  return Status();
}

// Seconds that the device itself takes for the reads of a recovery: a device in memory copies.
Result<double> time_of_reads(io::Device* device, const ssd_tier::Layout& layout) {
  const uint64_t started_ns = system_clock().monotonic_ns();
  for (uint32_t segment = 0; segment < layout.segment_count; ++segment) {
    const uint64_t start = layout.segment_offset(segment);
    for (const auto& [offset_bytes, length_bytes] :
         {std::pair<uint64_t, size_t>{start + layout.segment_bytes - ssd_tier::kTailReadBytes,
                                      ssd_tier::kTailReadBytes},
          std::pair<uint64_t, size_t>{start, ssd_tier::kMaximumBlockBytes}}) {
      Result<ssd_tier::AlignedBuffer> read = ssd_tier::read_aligned(*device, length_bytes, offset_bytes);
      if (!read.ok()) return read.status();
    }
  }
  return seconds_since(started_ns);
}

// Starts a tier with one shard on `device`, as a daemon does, and waits until it is recovered.
Result<json> time_of_recovery(std::unique_ptr<io::Device> device) {
  Result<std::unique_ptr<io::Reactor>> reactor = io::Reactor::create({.name = "shard-0"});
  if (!reactor.ok()) return reactor.status();
  ssd_tier::SsdTier::Options options;
  options.index_limit_bytes = kIndexLimitBytes;
  options.memory_bytes = kGiB;
  options.devices.push_back({.path = device->path(), .open = [&]() -> Result<std::unique_ptr<io::Device>> {
                               return std::move(device);
                             }});
  ssd_tier::SsdTier tier(options, {reactor->get()});
  (*reactor)->start();
  const ssd_tier::DeviceLog& log = *tier.devices().front();
  const double cpu_before_s = cpu_seconds();
  const uint64_t started_ns = system_clock().monotonic_ns();
  tier.start();
  while (log.phase() == ssd_tier::DevicePhase::kWaiting ||
         log.phase() == ssd_tier::DevicePhase::kRecovering) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  const double elapsed_s = seconds_since(started_ns);
  const json answer{{"state", log.state_name()},
                    {"entries", log.figures().recovered_entries.load()},
                    {"seconds", elapsed_s},
                    {"cpu_seconds", cpu_seconds() - cpu_before_s}};
  tier.stop();
  (*reactor)->stop();
  return answer;
}

Result<json> measure_recovery(const Arguments& arguments) {
  Result<std::unique_ptr<io::MemoryDevice>> device =
      io::MemoryDevice::create("memory", {capacity_for(arguments), kDeviceBlockBytes});
  if (!device.ok()) return device.status();
  if (const auto made = ssd_tier::format_device(**device, false); !made.ok()) return made.status();
  const Result<ssd_tier::Superblock> superblock = ssd_tier::begin_start(**device);
  if (!superblock.ok()) return superblock.status();
  const Result<uint64_t> written = write_synthetic_segments(device->get(), *superblock,
                                                            {.first = 0,
                                                             .end = superblock->layout.segment_count,
                                                             .entry_bytes = arguments.entry_bytes,
                                                             .maximum_entries = arguments.entries});
  if (!written.ok()) return written.status();
  CACHED_RETURN_IF_ERROR(pin_to_one_core());
  const Result<double> reads_s = time_of_reads(device->get(), superblock->layout);
  if (!reads_s.ok()) return reads_s.status();
  Result<json> recovery = time_of_recovery(std::move(device).value());
  if (!recovery.ok()) return recovery.status();
  (*recovery)["reads_seconds"] = *reads_s;
  (*recovery)["segments"] = superblock->layout.segment_count;
  return recovery;
}

// The kernel may need a moment to let go of the device of a daemon that has just ended.
Result<std::unique_ptr<io::FileDevice>> open_patiently(const std::string& path) {
  constexpr int kTries = 100;
  for (int tries = 1;; ++tries) {
    auto device = io::FileDevice::open(path, io::FileDevice::Access::kReadWrite);
    if (device.ok() || device.error_number() != EBUSY || tries == kTries) return device;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

Result<json> fill(const Arguments& arguments) {
  Result<std::unique_ptr<io::FileDevice>> device = open_patiently(arguments.path);
  if (!device.ok()) return device.status();
  const Result<ssd_tier::Superblock> superblock = ssd_tier::begin_start(**device);
  if (!superblock.ok()) return superblock.status();
  const uint32_t end_segment = std::min(arguments.end_segment, superblock->layout.segment_count);
  const Result<uint64_t> written = write_synthetic_segments(
      device->get(), *superblock,
      {.first = arguments.first_segment, .end = end_segment, .entry_bytes = arguments.entry_bytes});
  if (!written.ok()) return written.status();
  return json{{"entries", *written}, {"segments", superblock->layout.segment_count}};
}

}  // namespace
}  // namespace cached::bench

int main(int argc, char** argv) {
  using namespace cached::bench;
  Arguments arguments;
  cached::Result<json> (*run)(const Arguments&) = nullptr;
  CLI::App app("Measures parts of the SSD tier by themselves; prints JSON", "cached-ssd-bench");
  app.require_subcommand(1);
  const auto add = [&](const char* name, const char* help, auto function) {
    CLI::App* command =
        app.add_subcommand(name, help)->parse_complete_callback([&run, function] { run = function; });
    command->add_option("--entry-bytes", arguments.entry_bytes, "Length of every entry")
        ->check(CLI::Range(1U, cached::ssd_tier::kMaximumEntryBytes));
    return command;
  };
  for (CLI::App* command :
       {add("index", "What an index takes", &measure_index),
        add("recovery", "A start on a device in memory, on one core", &measure_recovery)}) {
    command->add_option("--entries", arguments.entries, "How many entries")
        ->check(CLI::Range(1U, 20'000'000U));
  }
  CLI::App* fill_command =
      add("fill", "Write segments without data into a device that no daemon uses", &fill);
  fill_command->add_option("PATH", arguments.path, "The device file; what its segments hold is lost")
      ->required();
  fill_command->add_option("--first-segment", arguments.first_segment, "Where to begin");
  fill_command->add_option("--end-segment", arguments.end_segment, "Where to end, this one not written");
  CLI11_PARSE(app, argc, argv);
  const cached::Result<json> answer = run(arguments);
  if (!answer.ok()) {
    std::cerr << "cached-ssd-bench: " << answer.status().message() << '\n';
    return 1;
  }
  std::cout << *answer << '\n';
  return 0;
}
