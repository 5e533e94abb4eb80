// What a steady load reaches: the same reads epoch after epoch, and a hot set beside a scan.
#include <gtest/gtest.h>

#include "tests/unit/ssd_tier_policy/workload.h"

namespace cached::ssd_tier {
namespace {

// How the cache, a fraction of the data set, is made up.
struct Split {
  double cached = 0;
  double memory_part = 0;  // of the cache
};

class Permutations : public testing::TestWithParam<Split> {};

TEST_P(Permutations, ComeNearTheCachedFractionAndSpareTheSsd) {
  Workload workload("random permutations", sized(GetParam().cached, GetParam().memory_part));
  // The tenth of memory that blocks pass through keeps none for the next epoch.
  const double best = GetParam().cached * (1 - GetParam().memory_part / 10);
  for (unsigned epoch = 1; epoch <= 8; ++epoch) {
    const Counts counts = workload.permuted_epoch(data_set(1));
    if (epoch < 3) continue;
    EXPECT_GE(counts.hit_ratio(), best - 0.02) << "epoch " << epoch;
    EXPECT_LE(counts.written, kDataSetBytes / 10) << "epoch " << epoch;
  }
  EXPECT_EQ(workload.simulation().reopenings(), 0u);
}

INSTANTIATE_TEST_SUITE_P(SsdAlone, Permutations, testing::Values(Split{0.2}, Split{0.5}, Split{0.8}));
INSTANTIATE_TEST_SUITE_P(MemoryAndSsd, Permutations,
                         testing::Values(Split{0.2, 0.1}, Split{0.5, 0.1}, Split{0.8, 0.1}, Split{0.5, 0.4}));

TEST(Steady, FourShardsDoAsWellAsOne) {
  Simulation::Options options = sized(0.5, 0.1);
  options.shards = 4;
  Workload workload("random permutations, 4 shards", options);
  for (unsigned epoch = 1; epoch <= 8; ++epoch) {
    const Counts counts = workload.permuted_epoch(data_set(1));
    if (epoch >= 3) {
      EXPECT_GE(counts.hit_ratio(), 0.47) << "epoch " << epoch;
    }
  }
  EXPECT_EQ(workload.simulation().reopenings(), 0u);
}

TEST(Steady, TheSameOrderEachEpochHitsTheCachedFraction) {
  Workload workload("same order", sized(0.5, 0));
  for (unsigned epoch = 1; epoch <= 12; ++epoch) {
    const Counts counts = workload.in_order(data_set(1));
    if (epoch >= 3) {
      EXPECT_GE(counts.hit_ratio(), 0.48) << "epoch " << epoch;
    }
  }
  EXPECT_EQ(workload.simulation().reopenings(), 0u);
}

TEST(Steady, ADataSetThatFitsIsReadFromTheOriginOnce) {
  Workload workload("fits", sized(1.2, 0.1));
  workload.permuted_epoch(data_set(1));
  for (unsigned epoch = 2; epoch <= 6; ++epoch) {
    const Counts counts = workload.permuted_epoch(data_set(1));
    EXPECT_EQ(counts.hit_ratio(), 1.0) << "epoch " << epoch;
    // Memory holds 0.12 of the data set, a tenth of it in passing.
    if (epoch >= 4) {
      EXPECT_GE(counts.memory_ratio(), 0.08) << "epoch " << epoch;
    }
  }
}

TEST(Steady, ADataSetOfTwentyTimesTheCacheNeverReopensAdmission) {
  Simulation::Options options = sized(0.05, 0);
  options.segments = 50;  // of 20 blocks each
  Workload workload("20 times the cache", options);
  for (unsigned epoch = 1; epoch <= 8; ++epoch) {
    const Counts counts = workload.permuted_epoch(data_set(1));
    if (epoch < 3) continue;
    EXPECT_GE(counts.hit_ratio(), 0.04) << "epoch " << epoch;
    EXPECT_LE(counts.written, kDataSetBytes / 20) << "epoch " << epoch;
  }
  EXPECT_EQ(workload.simulation().reopenings(), 0u);
}

TEST(Steady, FilesOfAllSizesDoAsWellAsWholeBlocks) {
  const std::vector<Block> files = small_files(1, kDataSetBytes, 7);
  Workload workload("files of 4 KiB to 128 KiB", sized(0.5, 0.1, bytes_of(files)));
  for (unsigned epoch = 1; epoch <= 8; ++epoch) {
    const Counts counts = workload.permuted_epoch(files);
    if (epoch < 3) continue;
    EXPECT_GE(counts.hit_ratio(), 0.47) << "epoch " << epoch;
    EXPECT_LE(counts.written, bytes_of(files) / 10) << "epoch " << epoch;
  }
  EXPECT_EQ(workload.simulation().reopenings(), 0u);
}

class HotSet : public testing::TestWithParam<Split> {};

TEST_P(HotSet, IsKeptBesideAnEndlessScan) {
  constexpr uint64_t kHotBlocks = 200;
  Workload workload("hot set, 9 % of the reads, beside a scan",
                    sized(GetParam().cached, GetParam().memory_part));
  const std::vector<Block> hot = data_set(1, kHotBlocks);
  std::uniform_int_distribution<size_t> any(0, kHotBlocks - 1);
  uint64_t scanned = 0;
  for (unsigned stretch = 1; stretch <= 10; ++stretch) {
    Counts counts;
    for (uint64_t read = 0; read < kBlocks; ++read) {
      if (workload.random()() % 100 < 9) {
        counts += workload.simulation().read(hot[any(workload.random())]);
      } else {
        workload.simulation().read({(uint64_t{2} << 40) + scanned++, kBlockBytes});
      }
    }
    Workload::print("hot set", counts);
    if (stretch >= 3) {
      EXPECT_GE(counts.hit_ratio(), 0.97) << "stretch " << stretch;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(SsdAlone, HotSet, testing::Values(Split{0.2}, Split{0.5}));
INSTANTIATE_TEST_SUITE_P(MemoryAndSsd, HotSet, testing::Values(Split{0.2, 0.1}));

}  // namespace
}  // namespace cached::ssd_tier
