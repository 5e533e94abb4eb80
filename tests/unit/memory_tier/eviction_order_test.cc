// EvictionOrder against a model that follows its rules to the letter: random arrivals, departures, pins,
// touches, demotions and victims.
#include "cached/memory_tier/eviction_order.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <set>

namespace cached::memory_tier {
namespace {

constexpr unsigned kSizeClass = 3;
constexpr uint32_t kSlots = 2 * slots_per_region(kSizeClass);

class Model {
 public:
  explicit Model(uint64_t seed) : random_(seed) {
    for (const uint32_t region : {0U, 1U}) store_.lay_out(region, kSizeClass);
    for (uint32_t i = 0; i < kSlots; ++i) absent_.insert(slot_of(i));
  }

  void step() {
    switch (random_() % 8) {
      case 0:
      case 1:
        arrive();
        break;
      case 2:
        pin_or_unpin();
        break;
      case 3:
      case 4:
        touch();
        break;
      case 5:
        demote();
        break;
      case 6:
        if (random_() % 4 == 0) depart(random_present());
        break;
      default:
        evict();
        break;
    }
    ASSERT_EQ(order_.transient().size(), transient_.size());
    ASSERT_EQ(order_.main().list().size(), main_.size());
    ASSERT_EQ(order_.evictable(Retention::kTransient), unpinned(transient_));
    ASSERT_EQ(order_.evictable(Retention::kMain), unpinned(main_));
  }

  uint64_t transient_victims = 0;
  uint64_t main_victims = 0;
  uint64_t promotions = 0;

 private:
  static uint32_t slot_of(uint32_t i) {
    constexpr unsigned kPerRegion = slots_per_region(kSizeClass);
    return SlotStore::slot_number(i / kPerRegion, i % kPerRegion);
  }

  template <typename Slots>
  uint64_t unpinned(const Slots& slots) const {
    return static_cast<uint64_t>(
        std::count_if(slots.begin(), slots.end(), [&](uint32_t s) { return store_[s].pins == 0; }));
  }

  // A present slot, or kNoSlot.
  uint32_t random_present() {
    const size_t count = transient_.size() + main_.size();
    if (count == 0) return kNoSlot;
    const size_t i = random_() % count;
    return i < transient_.size() ? transient_[i]
                                 : *std::next(main_.begin(), static_cast<long>(i - transient_.size()));
  }

  void arrive() {
    if (absent_.empty()) return;
    const uint32_t slot = *absent_.begin();
    absent_.erase(slot);
    const bool transient = random_() % 3 == 0;
    store_[slot].state = SlotState::kPresent;
    store_[slot].retention = transient ? Retention::kTransient : Retention::kMain;
    store_[slot].pins = random_() % 8 == 0 ? 1 : 0;
    order_.insert(store_, slot);
    transient ? transient_.push_front(slot) : static_cast<void>(main_.insert(slot));
  }

  void forget(uint32_t slot) {
    std::erase(transient_, slot);
    main_.erase(slot);
    absent_.insert(slot);
    if (store_[slot].visited) --store_.region_of(slot).visited_count;
    store_[slot].visited = false;
  }

  void depart(uint32_t slot) {
    if (slot == kNoSlot) return;
    order_.remove(store_, slot);
    forget(slot);
  }

  void pin_or_unpin() {
    const uint32_t slot = random_present();
    if (slot == kNoSlot) return;
    SlotMeta& meta = store_[slot];
    meta.pins = 1 - meta.pins;
    meta.pins == 1 ? order_.pinned(meta) : order_.unpinned(meta);
  }

  void touch() {
    const uint32_t slot = random_present();
    if (slot == kNoSlot || store_[slot].visited) return;
    store_[slot].visited = true;
    ++store_.region_of(slot).visited_count;
  }

  void demote() {
    const uint32_t slot = random_present();
    if (slot == kNoSlot) return;
    order_.demote(store_, slot);
    if (main_.erase(slot) > 0) transient_.push_front(slot);
  }

  // The transient slot whose turn it is, after promotions; kNoSlot: it is the main list's turn.
  uint32_t expected_transient_victim() {
    while (unpinned(transient_) > 0 &&
           (unpinned(main_) == 0 || transient_.size() > (transient_.size() + main_.size()) / 10)) {
      const uint32_t slot = transient_.back();
      if (store_[slot].pins == 0 && !visited_.contains(slot)) return slot;
      transient_.pop_back();
      if (store_[slot].pins > 0) {
        transient_.push_front(slot);
      } else {
        main_.insert(slot);
        ++promotions;
      }
    }
    return kNoSlot;
  }

  void evict() {
    if (unpinned(transient_) + unpinned(main_) == 0) return;
    visited_.clear();
    for (const uint32_t slot : transient_) {
      if (store_[slot].visited) visited_.insert(slot);
    }
    const uint32_t peeked = order_.peek(store_);
    const uint64_t promotions_before = promotions;
    const uint32_t expected = expected_transient_victim();
    const uint32_t victim = order_.next_victim(store_);
    ASSERT_EQ(store_[victim].pins, 0U);
    if (expected == kNoSlot) {
      ASSERT_TRUE(main_.contains(victim));
      ++main_victims;
    } else {
      ASSERT_EQ(victim, expected);
      ++transient_victims;
      if (promotions == promotions_before && peeked != kNoSlot && !store_[peeked].visited) {
        ASSERT_EQ(peeked, victim);
      }
    }
    depart(victim);
  }

  std::mt19937_64 random_;
  SlotStore store_{0, 2};
  EvictionOrder order_;
  std::deque<uint32_t> transient_;  // front: newest
  std::set<uint32_t> main_;         // SIEVE's own order is not modelled
  std::set<uint32_t> absent_;
  std::set<uint32_t> visited_;  // of the transient ones, before a victim is asked for
};

class EvictionOrderAgainstModel : public testing::TestWithParam<uint64_t> {};

TEST_P(EvictionOrderAgainstModel, TakesTheVictimThatTheRulesName) {
  Model model(GetParam());
  for (unsigned i = 0; i < 30'000; ++i) {
    model.step();
    if (testing::Test::HasFatalFailure()) FAIL() << "step " << i;
  }
  EXPECT_GT(model.transient_victims, 100U);
  EXPECT_GT(model.main_victims, 100U);
  EXPECT_GT(model.promotions, 100U);
}

INSTANTIATE_TEST_SUITE_P(Seeds, EvictionOrderAgainstModel, testing::Values(1, 2, 3));

}  // namespace
}  // namespace cached::memory_tier
