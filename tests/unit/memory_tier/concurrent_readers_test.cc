// Readers that do a client's whole hit, lock-free, beside the shard's thread that fills, publishes and
// evicts.
//
// All bytes are written and read plainly: that thread sanitizer is quiet shows that sequence and hazards
// order them, and that no reader meets another block's bytes shows that no slot is reused under a hazard.
#include <array>
#include <atomic>
#include <random>
#include <thread>

#include "shm/hash.h"
#include "tests/unit/memory_tier/tier_fixture.h"

namespace cached::memory_tier {
namespace {

constexpr uint64_t kRegions = 2;
constexpr uint64_t kBuckets = 256;
constexpr uint64_t kNumbers = 2000;
constexpr unsigned kReaders = 2;
constexpr uint64_t kEvictionsWanted = 20'000;
constexpr uint64_t kHitsWanted = 100;  // of each reader

uint32_t length_of(uint64_t number) {
  return 4096 * (1 + static_cast<uint32_t>(number % 3));
}

struct alignas(64) Reader {
  std::atomic<uint32_t> hazard{0};  // page + 1
  std::atomic<uint64_t> hits{0};
};

class SharedTier {
 public:
  SharedTier() : arena_(kRegions * kRegionBytes), buckets_(std::make_unique<Bucket[]>(kBuckets)) {
    MemoryTier::Options options;
    options.arena = arena_.data();
    options.region_count = kRegions;
    options.prepare_region = [](uint64_t) { return true; };
    options.scan_hazards = [this](std::vector<uint32_t>* pages) {
      for (const Reader& reader : readers_) {
        const uint32_t value = reader.hazard.load(std::memory_order_seq_cst);
        if (value != 0) pages->push_back(value - 1);
      }
    };
    tier_ = std::make_unique<MemoryTier>(options,
                                         shm::SeqTableWriter<shm::BlockRecord>(buckets_.get(), kBuckets, 0));
  }

  // The shard's thread. Goes on until it has evicted enough and every reader has met it at work, however the
  // scheduler divides the time (a reader that sleeps with its hazard set makes allocate() fail); the test's
  // own limit of time ends what never comes.
  void write() {
    std::mt19937_64 random(1);
    while (tier_->stats().evictions < kEvictionsWanted || !all_readers_hit()) {
      const uint64_t number = random() % kNumbers;
      const auto slot = tier_->allocate(length_of(number));
      if (!slot) continue;
      auto* words = reinterpret_cast<uint64_t*>(tier_->slot_data(*slot));
      std::fill(words, words + length_of(number) / sizeof(uint64_t), number);
      tier_->publish(*slot, key_of(number), 0, length_of(number));
      tier_->unpin(*slot);
    }
    done_.store(true);
  }

  // A client's thread; wrong bytes fail the test.
  void read(unsigned reader) {
    const shm::SeqTableReader<shm::BlockRecord> table(buckets_.get(), kBuckets);
    std::atomic<uint32_t>& hazard = readers_[reader].hazard;
    std::mt19937_64 random(100 + reader);
    while (!done_.load(std::memory_order_relaxed)) {
      const uint64_t number = random() % kNumbers;
      const shm::BlockKey key = key_of(number);
      const auto record = table.find(
          shm::hash_block(key), 0, [&](const shm::BlockRecord& r) { return r.key.same_block(key); },
          [&](const shm::BlockRecord& r) { hazard.store(r.page + 1, std::memory_order_seq_cst); },
          [&] { hazard.store(0, std::memory_order_release); });
      if (!record) continue;
      const auto* words =
          reinterpret_cast<const uint64_t*>(arena_.data() + uint64_t{record->page} * shm::kPageBytes);
      const uint64_t wrong = static_cast<uint64_t>(std::count_if(
          words, words + record->length / sizeof(uint64_t), [&](uint64_t word) { return word != number; }));
      hazard.store(0, std::memory_order_release);
      EXPECT_EQ(wrong, 0U) << "block " << number;
      readers_[reader].hits.fetch_add(1, std::memory_order_relaxed);
    }
  }

  const MemoryTier& tier() const { return *tier_; }

 private:
  bool all_readers_hit() const {
    return std::ranges::all_of(readers_, [](const Reader& reader) {
      return reader.hits.load(std::memory_order_relaxed) >= kHitsWanted;
    });
  }

  using Bucket = shm::SeqBucket<shm::BlockRecord>;
  std::vector<std::byte> arena_;
  std::unique_ptr<Bucket[]> buckets_;
  std::array<Reader, kReaders> readers_;
  std::unique_ptr<MemoryTier> tier_;
  std::atomic<bool> done_{false};
};

TEST(ConcurrentReaders, NeverMeetBytesOfAnotherBlock) {
  SharedTier shared;
  std::vector<std::thread> readers;
  for (unsigned reader = 0; reader < kReaders; ++reader) {
    readers.emplace_back([&, reader] { shared.read(reader); });
  }
  shared.write();
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(shared.tier().check(), "");
}

}  // namespace
}  // namespace cached::memory_tier
