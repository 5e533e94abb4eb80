// SeqTable and hazards under load: one writer that evicts and reuses slots as fast as it can, readers that
// check every byte they were promised.
//
// The content of a slot is a function of its key, so a reader that looks into a slot that was reused under it
// sees that. Few slots for many keys, and yields between the steps that must not be torn apart, make such a
// reader likely if the protocol had a hole: without the second check of the sequence, or without the scan,
// this test fails within its first rounds. Contents are relaxed atomics, so that thread sanitizer can watch
// the rest.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

#include "shm/hash.h"
#include "shm/index_layout.h"

namespace cached::shm {
namespace {

constexpr uint64_t kBuckets = 4;
constexpr unsigned kSlots = 12;
constexpr unsigned kKeys = 24;
constexpr unsigned kWordsPerSlot = 32;
constexpr unsigned kReaders = 3;
constexpr unsigned kHazardsEach = 4;
constexpr auto kDuration = std::chrono::milliseconds(1500);

BlockKey key_number(unsigned number) {
  return {{0xABC, number}, number, 1, 0};
}
uint64_t word_of(unsigned number, unsigned i) {
  return (uint64_t{number} + 1) << 32 | i;
}

struct World {
  std::vector<SeqBucket<BlockRecord>> buckets{kBuckets};
  std::array<std::array<std::atomic<uint64_t>, kWordsPerSlot>, kSlots> slots{};
  std::array<std::array<std::atomic<uint64_t>, kHazardsEach>, kReaders> hazards{};
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> hits{0};
  std::atomic<uint64_t> wrong{0};
  std::atomic<uint64_t> reuses{0};
};

class Writer {
 public:
  explicit Writer(World* world) : world_(world) {
    for (unsigned slot = 0; slot < kSlots; ++slot) free_.push_back(slot);
  }
  void run() {
    while (!world_->stop.load(std::memory_order_relaxed)) {
      insert(random_() % kKeys);
      if (random_() % 8 == 0) std::this_thread::yield();
    }
  }

 private:
  void insert(unsigned number) {
    const BlockKey key = key_number(number);
    const uint64_t hash = hash_block(key);
    if (table_.find(hash, [&](const BlockRecord& r) { return r.key.same_block(key); })) return;
    std::optional<SeqPosition> place = table_.free_place(hash);
    if (!place) {
      place = table_.victim_place(hash, static_cast<unsigned>(random_()));
      evict(*place);
    }
    while (free_.empty()) {
      evict_any();
      reclaim();
    }
    const unsigned slot = free_.back();
    free_.pop_back();
    for (unsigned i = 0; i < kWordsPerSlot; ++i) {
      world_->slots[slot][i].store(word_of(number, i), std::memory_order_relaxed);
    }
    BlockRecord record;
    record.key = key;
    record.page = slot;
    record.length = kBlockBytes;
    table_.put(*place, hash, record);
    world_->reuses.fetch_add(1, std::memory_order_relaxed);
  }

  void evict(const SeqPosition& place) {
    limbo_.push_back(table_.payload_at(place).page);
    table_.remove(place);
  }
  void evict_any() {
    const SeqPosition place{random_() % kBuckets, static_cast<unsigned>(random_() % kRecordsPerBucket)};
    if (table_.occupied(place)) evict(place);
  }
  // Frees the evicted slots that no hazard names.
  void reclaim() {
    std::erase_if(limbo_, [&](unsigned slot) {
      if (is_protected(slot)) return false;
      free_.push_back(slot);
      return true;
    });
  }
  bool is_protected(unsigned slot) const {
    for (const auto& reader : world_->hazards) {
      for (const auto& hazard : reader) {
        if (hazard.load(std::memory_order_seq_cst) == slot + 1) return true;
      }
    }
    return false;
  }

  World* world_;
  SeqTableWriter<BlockRecord> table_{world_->buckets.data(), kBuckets, 0};
  std::vector<unsigned> free_;
  std::vector<unsigned> limbo_;
  std::minstd_rand random_{1};
};

// Reads one key with hazard `h`; leaves the hazard to be cleared by the caller.
void read_one(World* world, const SeqTableReader<BlockRecord>& table, std::atomic<uint64_t>* hazard,
              unsigned number, bool dawdle) {
  const BlockKey key = key_number(number);
  const auto record = table.find(
      hash_block(key), 0, [&](const BlockRecord& r) { return r.key.same_block(key); },
      [&](const BlockRecord& r) {
        if (dawdle) std::this_thread::yield();
        hazard->store(uint64_t{r.page} + 1, std::memory_order_seq_cst);
      },
      [&] { hazard->store(0, std::memory_order_release); });
  if (!record) return;
  for (unsigned i = 0; i < kWordsPerSlot; ++i) {
    if (dawdle && i == kWordsPerSlot / 2) std::this_thread::yield();
    if (world->slots[record->page][i].load(std::memory_order_relaxed) != word_of(number, i)) {
      world->wrong.fetch_add(1, std::memory_order_relaxed);
    }
  }
  world->hits.fetch_add(1, std::memory_order_relaxed);
}

void read_all(World* world, unsigned reader) {
  const SeqTableReader<BlockRecord> table(world->buckets.data(), kBuckets);
  std::minstd_rand random(reader + 2);
  auto& hazards = world->hazards[reader];
  while (!world->stop.load(std::memory_order_relaxed)) {
    for (auto& hazard : hazards) {
      read_one(world, table, &hazard, static_cast<unsigned>(random() % kKeys), random() % 4 == 0);
    }
    for (auto& hazard : hazards) hazard.store(0, std::memory_order_release);
  }
}

TEST(HazardStress, NoReaderSeesAReusedSlot) {
  World world;
  std::vector<std::thread> threads;
  threads.emplace_back([&] { Writer(&world).run(); });
  for (unsigned reader = 0; reader < kReaders; ++reader) {
    threads.emplace_back([&world, reader] { read_all(&world, reader); });
  }
  std::this_thread::sleep_for(kDuration);
  world.stop.store(true);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(world.wrong.load(), 0U);
  EXPECT_GT(world.hits.load(), 100U);
  EXPECT_GT(world.reuses.load(), 100U);
}

}  // namespace
}  // namespace cached::shm
