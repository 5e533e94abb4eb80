// What happens when the load changes: another data set, two in turn, a tree that is read once.
#include <gtest/gtest.h>

#include "tests/unit/ssd_tier_policy/workload.h"

namespace cached::ssd_tier {
namespace {

struct Switch {
  double cached = 0;
  double memory_part = 0;
  double third_epoch = 0;  // hit ratio at least
};

class ChangeOfDataSet : public testing::TestWithParam<Switch> {};

TEST_P(ChangeOfDataSet, IsFollowedWithinThreeEpochs) {
  const auto [cached, memory_part, third_epoch] = GetParam();
  Workload workload("switch of data set", sized(cached, memory_part));
  for (unsigned epoch = 1; epoch <= 5; ++epoch) workload.permuted_epoch(data_set(1));
  ASSERT_EQ(workload.simulation().reopenings(), 0u);
  for (unsigned epoch = 1; epoch <= 8; ++epoch) {
    const Counts counts = workload.permuted_epoch(data_set(2));
    if (epoch == 3) {
      EXPECT_GE(counts.hit_ratio(), third_epoch);
    }
    if (epoch > 3) {
      EXPECT_GE(counts.hit_ratio(), cached - 0.04) << "epoch " << epoch;
    }
    if (epoch > 3) {
      EXPECT_LE(counts.written, kDataSetBytes / 10) << "epoch " << epoch;
    }
  }
  EXPECT_EQ(workload.simulation().reopenings(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Fractions, ChangeOfDataSet,
                         testing::Values(Switch{0.2, 0, 0.16}, Switch{0.5, 0, 0.42}, Switch{0.8, 0, 0.65},
                                         Switch{0.2, 0.1, 0.16}, Switch{0.5, 0.1, 0.42},
                                         Switch{0.8, 0.1, 0.65}));

TEST(Change, ADataSetThatFitsReplacesOneThatDoesNot) {
  const std::vector<Block> small = data_set(2, kBlocks / 5);
  Workload workload("switch to a data set of 0.2 N", sized(0.5, 0.1));
  for (unsigned epoch = 1; epoch <= 3; ++epoch) workload.permuted_epoch(data_set(1));
  for (unsigned epoch = 1; epoch <= 6; ++epoch) {
    const Counts counts = workload.permuted_epoch(small);
    if (epoch >= 4) {
      EXPECT_GE(counts.hit_ratio(), 0.97) << "epoch " << epoch;
    }
  }
}

TEST(Change, TwoDataSetsInTurnShareTheCacheWithoutChurn) {
  Workload workload("two data sets in turn", sized(0.5, 0.1));
  Counts last;
  for (unsigned epoch = 1; epoch <= 16; ++epoch) {
    const Counts counts = workload.permuted_epoch(data_set(1 + epoch % 2));
    if (epoch <= 4) continue;
    EXPECT_LE(counts.written, kDataSetBytes / 10) << "epoch " << epoch;
    last += counts;
  }
  Workload::print("from 5 on", last);
  EXPECT_GE(last.hit_ratio(), 0.22);
  EXPECT_EQ(workload.simulation().reopenings(), 0u);
}

TEST(Change, AlternatingEveryFourEpochsIsFollowed) {
  Workload workload("two data sets, four epochs each", sized(0.5, 0.1));
  for (unsigned turn = 0; turn < 6; ++turn) {
    for (unsigned epoch = 1; epoch <= 4; ++epoch) {
      const Counts counts = workload.permuted_epoch(data_set(1 + turn % 2));
      if (epoch == 4) {
        EXPECT_GE(counts.hit_ratio(), 0.42) << "turn " << turn;
      }
    }
  }
}

TEST(Change, ARestartKeepsTheDataSetAndTheNextOneIsStillFollowed) {
  Workload workload("restart, then switch of data set", sized(0.5, 0.1));
  for (unsigned epoch = 1; epoch <= 3; ++epoch) workload.permuted_epoch(data_set(1));
  workload.simulation().restart();
  for (unsigned epoch = 1; epoch <= 3; ++epoch) {
    // Memory's part is lost at first.
    EXPECT_GE(workload.permuted_epoch(data_set(1)).hit_ratio(), 0.42) << "epoch " << epoch;
  }
  EXPECT_EQ(workload.simulation().reopenings(), 0u);
  workload.simulation().restart();
  for (unsigned epoch = 1; epoch <= 4; ++epoch) {
    const Counts counts = workload.permuted_epoch(data_set(2));
    if (epoch >= 3) {
      EXPECT_GE(counts.hit_ratio(), 0.42) << "epoch " << epoch;
    }
  }
}

struct Tar {
  double size = 0;  // of the data set
  bool in_the_middle = false;
  double memory_part = 0;
};

class TarOfAnotherTree : public testing::TestWithParam<Tar> {};

TEST_P(TarOfAnotherTree, FlushesNothing) {
  const auto [size, in_the_middle, memory_part] = GetParam();
  const std::vector<Block> tree = data_set(2, static_cast<uint64_t>(size * kBlocks));
  Workload workload("tar", sized(0.5, memory_part));
  Counts before;
  for (unsigned epoch = 1; epoch <= 4; ++epoch) before = workload.permuted_epoch(data_set(1));
  if (in_the_middle) {
    workload.permuted_epoch(data_set(1), [&](uint64_t number) {
      if (number == kBlocks / 2) workload.in_order(tree, "tar");
    });
  } else {
    workload.in_order(tree, "tar");
  }
  for (unsigned epoch = 1; epoch <= 3; ++epoch) {
    const Counts after = workload.permuted_epoch(data_set(1));
    EXPECT_GE(after.hit_ratio(), before.hit_ratio() - 0.02) << "epoch " << epoch;
  }
  EXPECT_EQ(workload.simulation().reopenings(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Sizes, TarOfAnotherTree,
                         testing::Values(Tar{0.3, true, 0}, Tar{0.3, false, 0}, Tar{2, true, 0},
                                         Tar{2, false, 0}, Tar{0.3, true, 0.1}, Tar{0.3, false, 0.1},
                                         Tar{2, true, 0.1}, Tar{2, false, 0.1}));

}  // namespace
}  // namespace cached::ssd_tier
