// cached-hazard-bench: what the hazard protocol adds to a hit.
//
// The index and an arena of the benchmark's own, and the reader's real code on them (shm/seq_table.h): a
// random block's record is found and 4 KiB of it are copied, with a hazard published between the copy of the
// record and the second look at its sequence, and without. Both take turns in short bursts over the same
// blocks, so that what else the machine does falls on both; JSON with the median of the bursts is printed.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "base/clock.h"
#include "shm/hash.h"
#include "shm/index_layout.h"

namespace cached::bench {
namespace {

constexpr uint64_t kArenaBytes = uint64_t{768} << 20;
constexpr uint64_t kBlocks = kArenaBytes / shm::kBlockBytes;
constexpr uint64_t kBuckets = 4096;
constexpr size_t kCopyBytes = 4096;
constexpr unsigned kBursts = 400;
constexpr unsigned kReadsPerBurst = 2000;

using Bucket = shm::SeqBucket<shm::BlockRecord>;

// Zeroed memory of the process's own, present.
void* fresh_memory(uint64_t length_bytes) {
  void* const memory = ::mmap(nullptr, length_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

shm::BlockKey key_of(uint32_t block) {
  return {{7, 9}, block, 1, 0};
}

class Hits {
 public:
  bool prepare() {
    arena_ = static_cast<std::byte*>(fresh_memory(kArenaBytes));
    buckets_ = static_cast<Bucket*>(fresh_memory(kBuckets * sizeof(Bucket)));
    if (arena_ == nullptr || buckets_ == nullptr) return false;
    std::memset(arena_, 1, kArenaBytes);
    shm::SeqTableWriter<shm::BlockRecord> writer(buckets_, kBuckets, 0);
    for (uint32_t block = 0; block < kBlocks; ++block) {
      shm::BlockRecord record;
      record.key = key_of(block);
      record.page = static_cast<uint32_t>(block * (shm::kBlockBytes / shm::kPageBytes));
      record.length = shm::kBlockBytes;
      const uint64_t hash = shm::hash_block(record.key);
      const auto place = writer.free_place(hash);
      if (!place) return false;
      writer.put(*place, hash, record);
    }
    reader_ = shm::SeqTableReader<shm::BlockRecord>(buckets_, kBuckets);
    return true;
  }

  // One hit: finds the record of `block` and copies `kCopyBytes` at `offset` of it to `destination`.
  template <bool with_hazard>
  bool hit(uint32_t block, uint32_t offset, std::byte* destination) {
    const shm::BlockKey key = key_of(block);
    const auto matches = [&](const shm::BlockRecord& record) {
      return record.key.same_block(key) && record.covers(offset);
    };
    std::optional<shm::BlockRecord> found;
    if constexpr (with_hazard) {
      found = reader_.find(
          shm::hash_block(key), 0, matches,
          [&](const shm::BlockRecord& candidate) {
            hazard_.store(uint64_t{candidate.page} + 1, std::memory_order_seq_cst);
          },
          [&] { hazard_.store(0, std::memory_order_release); });
    } else {
      found = reader_.find(shm::hash_block(key), 0, matches);
    }
    if (!found) return false;
    std::memcpy(destination, arena_ + uint64_t{found->page} * shm::kPageBytes + offset, kCopyBytes);
    if constexpr (with_hazard) hazard_.store(0, std::memory_order_release);
    return true;
  }

 private:
  std::byte* arena_ = nullptr;
  Bucket* buckets_ = nullptr;
  shm::SeqTableReader<shm::BlockRecord> reader_;
  alignas(64) std::atomic<uint64_t> hazard_{0};
};

// Nanoseconds a hit in one burst; 0 if a block was not found.
template <bool with_hazard>
double burst_ns(Hits& hits, uint64_t seed, std::byte* destination) {
  std::mt19937_64 random(seed);
  const uint64_t begin_ns = system_clock().monotonic_ns();
  for (unsigned i = 0; i < kReadsPerBurst; ++i) {
    const uint64_t choice = random();
    const auto offset = static_cast<uint32_t>((choice >> 32) % (shm::kBlockBytes / kCopyBytes) * kCopyBytes);
    if (!hits.hit<with_hazard>(static_cast<uint32_t>(choice % kBlocks), offset, destination)) return 0;
  }
  return static_cast<double>(system_clock().monotonic_ns() - begin_ns) / kReadsPerBurst;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

int run() {
  Hits hits;
  if (!hits.prepare()) {
    std::fprintf(stderr, "cached-hazard-bench: cannot have %llu bytes of memory\n",
                 static_cast<unsigned long long>(kArenaBytes));
    return 1;
  }
  std::vector<std::byte> destination(kCopyBytes);
  std::vector<double> with_hazard;
  std::vector<double> without;
  for (unsigned burst = 0; burst < kBursts; ++burst) {
    const auto measure_with = [&] { with_hazard.push_back(burst_ns<true>(hits, burst, destination.data())); };
    const auto measure_without = [&] { without.push_back(burst_ns<false>(hits, burst, destination.data())); };
    if (burst % 2 == 0) measure_with();
    measure_without();
    if (burst % 2 != 0) measure_with();
  }
  std::printf("%s\n", nlohmann::json{{"with_hazard_ns", median(with_hazard)}, {"without_ns", median(without)}}
                          .dump()
                          .c_str());
  return 0;
}

}  // namespace
}  // namespace cached::bench

int main() {
  return cached::bench::run();
}
