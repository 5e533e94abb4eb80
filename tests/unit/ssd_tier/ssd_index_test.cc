// SsdIndex against a model, at its limits, and what it takes.
#include "cached/ssd_tier/ssd_index.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "shm/hash.h"
#include "tests/unit/ssd_tier/segment_fixture.h"

namespace cached::ssd_tier {
namespace {

Checksums checksums_from(uint64_t seed, uint32_t length_bytes) {
  Checksums checksums{};
  for (uint32_t i = 0; i < chunks_of(length_bytes); ++i)
    checksums[i] = static_cast<uint32_t>(seed * 31 + i + 1);
  return checksums;
}

Location location_in(const Layout& layout, uint32_t device, uint32_t segment, uint32_t unit,
                     uint32_t length_bytes) {
  return {device, segment, layout.segment_offset(segment) + uint64_t{unit} * kUnitBytes, length_bytes};
}

TEST(SsdIndex, FindsWhatWasInserted) {
  const Layout layout = layout_of(512, 128 * kTiB);
  SsdIndex index(64 * kMiB);
  index.add_device(63, layout);
  const Location location = location_in(layout, 63, layout.segment_count - 1, 131'071, 131'072);
  EXPECT_FALSE(index.contains(key_of(1)));
  ASSERT_TRUE(index.insert(key_of(1), location, checksums_from(1, 131'072)));
  const std::optional<Found> found = index.find(key_of(1));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->location, location);
  EXPECT_EQ(found->checksums, checksums_from(1, 131'072));
  EXPECT_FALSE(index.find(key_of(2)).has_value());
}

TEST(SsdIndex, ComparesVolumeButNotDataSet) {
  const Layout layout = layout_of(512);
  SsdIndex index(kMiB);
  index.add_device(0, layout);
  ASSERT_TRUE(index.insert(key_of(1), location_in(layout, 0, 0, 8, 100), checksums_from(1, 100)));
  shm::BlockKey key = key_of(1);
  ++key.data_set;
  EXPECT_TRUE(index.contains(key));
  ++key.volume;
  EXPECT_FALSE(index.contains(key));
}

TEST(SsdIndex, ReplacesAnOlderEntryOfTheKey) {
  const Layout layout = layout_of(512);
  SsdIndex index(kMiB);
  index.add_device(0, layout);
  ASSERT_TRUE(index.insert(key_of(1), location_in(layout, 0, 1, 8, 100'000), checksums_from(1, 100'000)));
  ASSERT_TRUE(index.insert(key_of(1), location_in(layout, 0, 2, 16, 3000), checksums_from(2, 3000)));
  EXPECT_EQ(index.find(key_of(1))->location.segment, 2U);
  EXPECT_EQ(index.find(key_of(1))->checksums, checksums_from(2, 3000));
  EXPECT_EQ(index.entries(), 1U);
  EXPECT_EQ(index.bytes_live(), 3000U);
  EXPECT_EQ(index.segment_live_bytes(0, 1), 0U);
  EXPECT_EQ(index.use().by_tag()[key_of(1).data_set].bytes, 3000U);
  // The segment of the older entry goes without touching the newer one.
  EXPECT_EQ(index.drop_segment(0, 1).entries, 0U);
  EXPECT_TRUE(index.contains(key_of(1)));
}

TEST(SsdIndex, RemovesAnEntryOnlyAtTheGivenPlace) {
  const Layout layout = layout_of(512);
  SsdIndex index(kMiB);
  index.add_device(0, layout);
  const Location location = location_in(layout, 0, 1, 8, 5000);
  ASSERT_TRUE(index.insert(key_of(1), location, checksums_from(1, 5000)));
  EXPECT_FALSE(index.remove(key_of(1), location_in(layout, 0, 1, 9, 5000)));
  EXPECT_FALSE(index.remove(key_of(2), location));
  EXPECT_TRUE(index.remove(key_of(1), location));
  EXPECT_FALSE(index.remove(key_of(1), location));
  EXPECT_FALSE(index.contains(key_of(1)));
}

// Two devices, few keys, all operations: everything that can be asked must agree with a map.
TEST(SsdIndex, AgreesWithAModelOverRandomOperations) {
  struct Value {
    Location location;
    uint64_t seed;
    uint16_t data_set;
  };
  const Layout layout = layout_of(512);
  SsdIndex index(64 * kMiB);
  index.add_device(0, layout);
  index.add_device(7, layout);
  std::map<uint64_t, Value> model;
  std::mt19937_64 random(20240117);
  constexpr uint32_t kSegments = 12;
  for (uint64_t step = 0; step < 300'000; ++step) {
    const uint64_t number = random() % 20'000;
    const uint64_t dice = random() % 1000;
    const uint32_t device = random() % 2 == 0 ? 0 : 7;
    const auto segment = static_cast<uint32_t>(random() % kSegments);
    if (dice < 700) {
      const auto length = static_cast<uint32_t>(1 + random() % 131'072);
      const Location location =
          location_in(layout, device, segment, static_cast<uint32_t>(random() % 1792), length);
      ASSERT_TRUE(index.insert(key_of(number), location, checksums_from(step, length)));
      model[number] = {location, step, key_of(number).data_set};
    } else if (dice < 995) {
      const auto known = model.find(number);
      const std::optional<Found> found = index.find(key_of(number));
      ASSERT_EQ(found.has_value(), known != model.end());
      ASSERT_EQ(index.contains(key_of(number)), found.has_value());
      if (!found) continue;
      ASSERT_EQ(found->location, known->second.location);
      ASSERT_EQ(found->checksums, checksums_from(known->second.seed, found->location.length_bytes));
      if (dice < 800) {
        ASSERT_TRUE(index.remove(key_of(number), found->location));
        model.erase(known);
      }
    } else {
      SsdIndex::Removed expected;
      for (auto it = model.begin(); it != model.end();) {
        const Location& location = it->second.location;
        if (location.device != device || location.segment != segment) {
          ++it;
          continue;
        }
        ++expected.entries;
        expected.bytes += location.length_bytes;
        it = model.erase(it);
      }
      ASSERT_EQ(index.segment_live_bytes(device, segment), expected.bytes);
      const SsdIndex::Removed removed = index.drop_segment(device, segment);
      ASSERT_EQ(removed.entries, expected.entries);
      ASSERT_EQ(removed.bytes, expected.bytes);
    }
    ASSERT_EQ(index.entries(), model.size());
  }
  uint64_t live_bytes = 0;
  for (const auto& [number, value] : model) live_bytes += value.location.length_bytes;
  EXPECT_EQ(index.bytes_live(), live_bytes);
  std::map<uint16_t, memory_tier::DataSetCount> counted;
  for (const auto& [number, value] : model)
    counted[value.data_set] += {1, value.location.length_bytes, key_of(number).block == 0 ? 1U : 0U, 0};
  for (const auto& [data_set, count] : counted) EXPECT_EQ(index.use().by_tag()[data_set], count) << data_set;
  const uint64_t dropped = index.drop_device(0).entries + index.drop_device(7).entries;
  EXPECT_EQ(dropped, model.size());
  EXPECT_EQ(index.entries(), 0U);
  EXPECT_EQ(index.bytes_live(), 0U);
  for (const memory_tier::DataSetCount& count : index.use().by_tag())
    EXPECT_EQ(count, memory_tier::DataSetCount{});
}

TEST(SsdIndex, StopsAtItsLimitAndGoesOnWhenSegmentsAreDropped) {
  const Layout layout = layout_of(512, 64 * kGiB);
  SsdIndex index(SsdIndex::kMinimumLimitBytes);
  index.add_device(0, layout);
  uint64_t number = 0;
  const auto insert = [&] {
    const auto segment = static_cast<uint32_t>(number / 1000);
    return index.insert(key_of(number), location_in(layout, 0, segment, number % 1000 * 8, 4096),
                        checksums_from(number, 4096));
  };
  while (insert()) ++number;
  EXPECT_LE(index.memory_bytes(), index.limit_bytes());
  EXPECT_GT(number * 40, index.limit_bytes() / 10 * 9);
  EXPECT_EQ(index.entries(), number);
  for (uint64_t i = 0; i < number; ++i) ASSERT_TRUE(index.contains(key_of(i))) << i;
  // A key that is replaced at the limit is gone rather than stale.
  index.drop_segment(0, 0);
  for (uint64_t i = 0; i < 900; ++i, ++number) ASSERT_TRUE(insert());
}

TEST(SsdIndex, TakesRecoveredEntriesInThatAreNotKnown) {
  const Layout layout = layout_of(512, 64 * kGiB);
  SsdIndex index(64 * kMiB);
  index.add_device(0, layout);
  ASSERT_TRUE(index.insert(key_of(3), location_in(layout, 0, 9, 8, 5000), checksums_from(77, 5000)));
  index.expect(10'000);
  std::vector<RecoveredEntry> entries;
  for (uint64_t number = 0; number < 10'000; ++number) {
    RecoveredEntry entry;
    entry.key = key_of(number);
    entry.hash = shm::hash_block(entry.key);
    entry.location = location_in(layout, 0, static_cast<uint32_t>(number / 100), number % 100 * 8, 4096);
    entry.checksums = checksums_from(number, 4096);
    entries.push_back(entry);
  }
  EXPECT_TRUE(index.insert_unknown(entries));
  EXPECT_TRUE(index.insert_unknown(entries));
  EXPECT_EQ(index.entries(), 10'000U);
  for (uint64_t number = 0; number < 10'000; ++number) {
    const std::optional<Found> found = index.find(key_of(number));
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->checksums, number == 3 ? checksums_from(77, 5000) : checksums_from(number, 4096));
  }
}

// What is expected changes when memory is taken, not how much of it; and it may be wrong.
TEST(SsdIndex, TakesNoMoreForExpectedEntriesThanForOthers) {
  const Layout layout = layout_of(512, kTiB);
  constexpr uint64_t kEntries = 500'000;
  for (const uint64_t expected : {uint64_t{0}, kEntries / 10, kEntries, uint64_t{1} << 60}) {
    SsdIndex index(100 * kMiB);
    index.add_device(0, layout);
    const uint64_t before = index.memory_bytes();
    index.expect(expected);
    EXPECT_EQ(index.memory_bytes(), before);
    for (uint64_t i = 0; i < kEntries; ++i) {
      const Location location = location_in(layout, 0, static_cast<uint32_t>(i / 100), 0, 4096);
      ASSERT_TRUE(index.insert(key_of(i), location, Checksums{}));
    }
    const double each = static_cast<double>(index.memory_bytes() - before) / static_cast<double>(kEntries);
    // A hundred megabytes hold three times as many: a table for all that may come is that much larger.
    EXPECT_LT(each, expected > kEntries ? 24 + 3 * 8.5 : 24 + 8.5) << expected;
  }
}

TEST(SsdIndex, AnExpectationThatDoesNotFitChangesNothing) {
  const Layout layout = layout_of(512, 64 * kGiB);
  std::array<uint64_t, 2> taken{};
  for (const uint64_t expected : {uint64_t{0}, uint64_t{1} << 60}) {
    SsdIndex index(SsdIndex::kMinimumLimitBytes);
    index.add_device(0, layout);
    index.expect(expected);
    uint64_t number = 0;
    while (index.insert(key_of(number), location_in(layout, 0, 0, 0, 131'072), Checksums{})) ++number;
    EXPECT_LE(index.memory_bytes(), index.limit_bytes());
    taken[expected > 0 ? 1 : 0] = number;
  }
  EXPECT_NEAR(static_cast<double>(taken[1]), static_cast<double>(taken[0]),
              0.1 * static_cast<double>(taken[0]));
}

TEST(SsdIndex, GivesTheMemoryOfSmallEntriesToLargeOnes) {
  const Layout layout = layout_of(512, 64 * kGiB);
  SsdIndex index(8 * kMiB);
  index.add_device(0, layout);
  const auto fill = [&](uint32_t segment, uint32_t length_bytes) {
    uint64_t number = 0;
    while (index.insert(key_of(number), location_in(layout, 0, segment, 0, length_bytes), Checksums{}))
      ++number;
    return number;
  };
  fill(0, 4096);
  index.drop_segment(0, 0);
  const uint64_t after = fill(1, 131'072);
  SsdIndex fresh(8 * kMiB);
  fresh.add_device(0, layout);
  uint64_t at_once = 0;
  while (fresh.insert(key_of(at_once), location_in(layout, 0, 1, 0, 131'072), Checksums{})) ++at_once;
  // The table keeps the size that the small entries gave it.
  EXPECT_GT(after, at_once * 8 / 10);
}

class SsdIndexMemory : public testing::TestWithParam<std::pair<uint32_t, double>> {};
INSTANTIATE_TEST_SUITE_P(Lengths, SsdIndexMemory,
                         testing::Values(std::pair{4096U, 32.0}, std::pair{16'384U, 32.0},
                                         std::pair{32'768U, 36.0}, std::pair{65'536U, 44.0},
                                         std::pair{100'000U, 56.0}, std::pair{131'072U, 60.0}));

// At several sizes, because a table that grows takes most right after it has grown.
TEST_P(SsdIndexMemory, TakesTheDocumentedBytesForAnEntry) {
  const auto [length_bytes, limit] = GetParam();
  const Layout layout = layout_of(512, kTiB);
  SsdIndex index(100 * kMiB);
  index.add_device(0, layout);
  const uint64_t before = layout.segment_count * 8;
  constexpr uint64_t kEntries = 1'000'000;
  for (uint64_t i = 0; i < kEntries; ++i) {
    const Location location = location_in(layout, 0, static_cast<uint32_t>(i / 100), 0, length_bytes);
    ASSERT_TRUE(index.insert(key_of(i), location, Checksums{}));
    if (i >= kEntries / 2 && i % 50'000 == 0) {
      EXPECT_LT(static_cast<double>(index.memory_bytes() - before) / static_cast<double>(i), limit + 0.75)
          << i;
    }
  }
  const double each = static_cast<double>(index.memory_bytes() - before) / static_cast<double>(kEntries);
  RecordProperty("bytes_each", std::to_string(each));
  EXPECT_LT(each, limit);
}

}  // namespace
}  // namespace cached::ssd_tier
