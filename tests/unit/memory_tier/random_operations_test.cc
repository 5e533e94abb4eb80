// Random operations against a model that knows who may rely on which bytes.
//
// The model stamps every slot that it fills with what it holds, and remembers what it pinned, what it fills,
// and what it protects by hazards (set as a client would: for a slot that the index named at that time). None
// of these may be handed out again or lose its stamp, and whatever find() returns must carry the stamp of
// what was asked for.
#include <cstring>
#include <random>
#include <unordered_map>

#include "cached/memory_tier/size_classes.h"
#include "tests/unit/memory_tier/tier_fixture.h"

namespace cached::memory_tier {
namespace {

struct Stamp {
  uint64_t number = 0;
  uint32_t start = 0;
  uint32_t length = 0;
  friend bool operator==(const Stamp&, const Stamp&) = default;
};

class Model {
 public:
  explicit Model(uint64_t seed) : random_(seed) {}

  void step() {
    switch (random_() % 17) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        allocate();
        break;
      case 5:
      case 6:
      case 7:
      case 8:
        finish_fill();
        break;
      case 9:
        pin_found();
        break;
      case 10:
      case 11:
        unpin_one();
        break;
      case 12:
        protect_found();
        break;
      case 13:
        clear_hazard();
        break;
      case 14:
        tier_->touch(static_cast<uint32_t>(random_() % 2 == 0 ? random_() : random_() % (kRegions * 512)));
        break;
      case 15:
        demote_random();
        break;
      default:
        other();
        break;
    }
  }
  std::string check() { return tier_->check(); }

  // Ends everything that is held; then every size must be had.
  void end() {
    while (!filling_.empty()) finish_fill();
    while (!pinned_.empty()) unpin_one();
    tier_.hazards.clear();
    protected_.clear();
    tier_.advance_ms(100);
    for (unsigned size_class = 0; size_class < kSizeClasses; ++size_class) {
      const auto length = static_cast<uint32_t>(pages_of_class(size_class) * shm::kPageBytes);
      EXPECT_TRUE(tier_.fill(1'000'000 + size_class, length)) << size_class;
    }
    EXPECT_EQ(tier_->stats().slots_pinned, 0U);
  }

  uint64_t allocations = 0;
  uint64_t refusals = 0;
  uint64_t redundant = 0;  // pieces of which more was present

 private:
  static constexpr uint64_t kRegions = 24;
  static constexpr uint64_t kNumbers = 1500;

  struct Held {
    SlotId slot;
    Stamp stamp;  // of a filling slot: length only
  };

  // Sizes drift, so that regions move.
  uint32_t random_length() {
    const uint32_t shift = static_cast<uint32_t>(allocations / 5000 % 4);
    const uint32_t most = shift == 0 ? kBlock : shift == 1 ? 8192 : shift == 2 ? 60'000 : 16'384;
    return 1 + static_cast<uint32_t>(random_() % most);
  }

  void expect_nobody_relies_on(SlotId slot) {
    const uint32_t end = slot.page + static_cast<uint32_t>(tier_->slot_capacity(slot) / shm::kPageBytes);
    const auto overlaps = [&](const Held& held) {
      const uint32_t pages = (held.stamp.length + 4095) / 4096;
      return held.slot.page < end && slot.page < held.slot.page + pages;
    };
    for (const auto* all : {&filling_, &pinned_, &protected_}) {
      for (const Held& held : *all)
        ASSERT_FALSE(overlaps(held)) << "slot at page " << slot.page << " is in use";
    }
  }

  void expect_stamp(const Held& held) {
    Stamp seen;
    std::memcpy(&seen, tier_.arena() + uint64_t{held.slot.page} * shm::kPageBytes, sizeof seen);
    ASSERT_EQ(seen, held.stamp) << "slot at page " << held.slot.page << " lost its bytes";
  }

  void allocate() {
    if (filling_.size() > 60) return;
    const uint32_t length = random_length();
    const auto slot = tier_->allocate(length);
    slot ? ++allocations : ++refusals;
    if (!slot) return;
    ASSERT_GE(tier_->slot_capacity(*slot), length);
    expect_nobody_relies_on(*slot);
    filling_.push_back({*slot, {0, 0, length}});
  }

  Held take_random(std::vector<Held>* from) {
    std::swap((*from)[random_() % from->size()], from->back());
    const Held held = from->back();
    from->pop_back();
    return held;
  }

  void finish_fill() {
    if (filling_.empty()) return;
    Held held = take_random(&filling_);
    if (random_() % 8 == 0) {
      tier_->abandon(held.slot);
      return;
    }
    held.stamp.number = random_() % kNumbers;
    held.stamp.length = std::max<uint32_t>(held.stamp.length, sizeof(Stamp));
    const uint32_t starts = (kBlock - held.stamp.length) / shm::kChunkBytes + 1;
    held.stamp.start = random_() % 2 == 0 ? 0 : static_cast<uint32_t>(random_() % starts) * shm::kChunkBytes;
    std::memcpy(tier_->slot_data(held.slot), &held.stamp, sizeof held.stamp);
    publish(held);
    if (random_() % 4 == 0) {
      pinned_.push_back(held);
    } else {
      tier_->unpin(held.slot);
    }
  }

  // Publishes, and compares what is present of the block before and after.
  void publish(const Held& held) {
    const Stamp& stamp = held.stamp;
    const auto before = tier_.find(stamp.number, stamp.start);
    tier_->publish(held.slot, key_of(stamp.number), stamp.start, stamp.length,
                   random_() % 2 == 0 ? Retention::kMain : Retention::kTransient);
    // Of those that cover its start the piece found reaches furthest: if any covers the new one, that does.
    if (before && covers(*before, stamp) && !covers(stamp, *before)) {
      const auto after = tier_.find(stamp.number, stamp.start);
      ASSERT_TRUE(after && after->slot == before->slot) << "a piece that adds nothing changed the index";
      ++redundant;
      return;
    }
    const auto after = tier_.find(stamp.number, stamp.start);
    if (!after || after->slot != held.slot) return;  // no place, or another reaches further
    for (uint32_t offset = stamp.start; offset < stamp.start + stamp.length; offset += shm::kChunkBytes) {
      const auto piece = tier_.find(stamp.number, offset);
      ASSERT_TRUE(piece);
      ASSERT_TRUE(piece->slot == held.slot || !covers(stamp, *piece)) << "a covered piece is still found";
    }
  }

  template <typename Outer, typename Inner>
  static bool covers(const Outer& outer, const Inner& inner) {
    return outer.start <= inner.start && outer.start + outer.length >= inner.start + inner.length;
  }

  // An SSD has a block now: one that is there, one that was, or one that never was in this slot.
  void demote_random() {
    const uint64_t number = random_() % kNumbers;
    const auto piece = tier_.find(number, static_cast<uint32_t>(random_() % kBlock));
    const SlotId slot = piece && random_() % 4 != 0
                            ? piece->slot
                            : SlotId{static_cast<uint32_t>(random_() % (kRegions * 512))};
    tier_->demote(slot, key_of(number));
  }

  // A random piece that is present, with its bytes checked.
  std::optional<Held> find_random() {
    const uint64_t number = random_() % kNumbers;
    const auto piece = tier_.find(number, static_cast<uint32_t>(random_() % 80'000));
    if (!piece) return std::nullopt;
    const Held held{piece->slot, {number, piece->start, piece->length}};
    expect_stamp(held);
    return held;
  }

  void pin_found() {
    if (pinned_.size() > 150) return;
    if (const auto held = find_random()) {
      tier_->pin(held->slot);
      pinned_.push_back(*held);
    }
  }

  void unpin_one() {
    if (pinned_.empty()) return;
    const Held held = take_random(&pinned_);
    expect_stamp(held);
    tier_->unpin(held.slot);
  }

  void protect_found() {
    if (protected_.size() > 60) return;
    if (const auto held = find_random()) {
      tier_.hazards.push_back(held->slot.page);
      protected_.push_back(*held);
    }
  }

  void clear_hazard() {
    if (protected_.empty()) return;
    const Held held = take_random(&protected_);
    expect_stamp(held);
    tier_.hazards.erase(std::find(tier_.hazards.begin(), tier_.hazards.end(), held.slot.page));
  }

  void other() {
    tier_.clock.advance_ns(random_() % 20'000'000);
    if (random_() % 500 == 0) {
      const uint64_t remainder = random_() % 3;
      tier_->evict_if([&](const shm::BlockKey& key, uint64_t) { return key.object.low % 3 == remainder; });
    }
  }

  std::mt19937_64 random_;
  TierFixture tier_{
      {.regions = kRegions, .index_buckets = 128}};  // small enough to lose records now and then
  std::vector<Held> filling_;
  std::vector<Held> pinned_;
  std::vector<Held> protected_;
};

class RandomOperations : public testing::TestWithParam<uint64_t> {};

TEST_P(RandomOperations, KeepWhatAnybodyReliesOn) {
  constexpr unsigned kSteps = 200'000;
  Model model(GetParam());
  for (unsigned i = 0; i < kSteps; ++i) {
    model.step();
    if (testing::Test::HasFatalFailure()) FAIL() << "step " << i;
    if (i % 1000 == 0) {
      ASSERT_EQ(model.check(), "") << "step " << i;
    }
  }
  model.end();
  EXPECT_EQ(model.check(), "");
  EXPECT_GT(model.redundant, 100U);
  std::printf("allocations %lu, refused %lu, redundant pieces %lu\n", model.allocations, model.refusals,
              model.redundant);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomOperations, testing::Values(1, 2, 3));

}  // namespace
}  // namespace cached::memory_tier
