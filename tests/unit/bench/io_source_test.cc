// IoSource: which blocks, in which order, how often.
#include "bench/io_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace cached::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;
using Block = std::pair<uint32_t, uint64_t>;  // file, offset

constexpr uint64_t kBlock = 4096;

IoSource::Plan plan_of(const std::vector<uint64_t>& blocks_of_files) {
  IoSource::Plan plan;
  plan.block_bytes = kBlock;
  for (uint32_t file = 0; file < blocks_of_files.size(); ++file)
    plan.regions.push_back({.file = file, .offset = 0, .bytes = blocks_of_files[file] * kBlock});
  return plan;
}

std::vector<Io> all_of(IoSource* source, size_t limit = 100000) {
  std::vector<Io> ios;
  for (Io io; ios.size() < limit && source->next(&io);) ios.push_back(io);
  return ios;
}

std::vector<Block> blocks_of(const std::vector<Io>& ios) {
  std::vector<Block> blocks;
  for (const Io& io : ios) blocks.emplace_back(io.file, io.offset / kBlock);
  return blocks;
}

TEST(IoSourceTest, FilesTakeTurns) {
  IoSource source(plan_of({1, 3, 0, 2}));
  EXPECT_THAT(blocks_of(all_of(&source)),
              ElementsAre(Block(0, 0), Block(1, 0), Block(3, 0), Block(1, 1), Block(3, 1), Block(1, 2)));
}

TEST(IoSourceTest, FilesComeOneAfterTheOther) {
  IoSource::Plan plan = plan_of({1, 2});
  plan.file_order = FileOrder::kSequential;
  IoSource source(plan);
  EXPECT_THAT(blocks_of(all_of(&source)), ElementsAre(Block(0, 0), Block(1, 0), Block(1, 1)));
}

TEST(IoSourceTest, APartOfABlockAtTheEndIsLeftOut) {
  IoSource::Plan plan = plan_of({2});
  plan.regions[0].bytes += 100;
  IoSource source(plan);
  EXPECT_THAT(all_of(&source), SizeIs(2));
}

TEST(IoSourceTest, RegionsBeginAtTheirOffset) {
  IoSource::Plan plan = plan_of({2});
  plan.regions[0].offset = 10 * kBlock;
  IoSource source(plan);
  EXPECT_THAT(blocks_of(all_of(&source)), ElementsAre(Block(0, 10), Block(0, 11)));
}

TEST(IoSourceTest, APassAtRandomTakesEachBlockOnce) {
  IoSource::Plan plan = plan_of({100, 7, 33});
  plan.random = true;
  IoSource source(plan);
  const std::vector<Block> blocks = blocks_of(all_of(&source));
  EXPECT_EQ(blocks.size(), 140U);
  EXPECT_EQ(std::set<Block>(blocks.begin(), blocks.end()).size(), 140U);
}

TEST(IoSourceTest, FilesAtRandomTakeEachBlockOnceToo) {
  IoSource::Plan plan = plan_of({100, 7, 33});
  plan.random = true;
  plan.file_order = FileOrder::kRandom;
  IoSource source(plan);
  const std::vector<Block> blocks = blocks_of(all_of(&source));
  EXPECT_EQ(blocks.size(), 140U);
  EXPECT_EQ(std::set<Block>(blocks.begin(), blocks.end()).size(), 140U);
  // By turns, the small file would be through after 21 I/Os.
  EXPECT_TRUE(
      std::any_of(blocks.begin() + 50, blocks.end(), [](const Block& block) { return block.first == 1; }));
}

TEST(IoSourceTest, SeedsAndPassesHaveOrdersOfTheirOwn) {
  IoSource::Plan plan = plan_of({50});
  plan.random = true;
  plan.loops = 2;
  IoSource first(plan), again(plan);
  plan.seed = 1;
  IoSource other(plan);
  const std::vector<Block> blocks = blocks_of(all_of(&first));
  EXPECT_EQ(blocks, blocks_of(all_of(&again)));
  EXPECT_NE(blocks, blocks_of(all_of(&other)));
  EXPECT_NE(std::vector<Block>(blocks.begin(), blocks.begin() + 50),
            std::vector<Block>(blocks.begin() + 50, blocks.end()));
}

TEST(IoSourceTest, WithoutAMapBlocksComeAgain) {
  IoSource::Plan plan = plan_of({1000});
  plan.random = true;
  plan.every_block_once = false;
  IoSource source(plan);
  const std::vector<Block> blocks = blocks_of(all_of(&source));
  EXPECT_EQ(blocks.size(), 1000U);
  // 1 - 1/e of them, if each draw is for itself.
  EXPECT_NEAR(static_cast<double>(std::set<Block>(blocks.begin(), blocks.end()).size()), 632, 60);
}

TEST(IoSourceTest, ZipfHasHotBlocksThatAreNotNeighbours) {
  IoSource::Plan plan = plan_of({1000});
  plan.random = true;
  plan.distribution = {DistributionKind::Shape::kZipf, 1.2};
  plan.endless = true;
  IoSource source(plan);
  std::map<Block, unsigned> draws;
  for (const Block& block : blocks_of(all_of(&source, 20000))) ++draws[block];
  std::vector<std::pair<unsigned, uint64_t>> hottest;
  for (const auto& [block, count] : draws) hottest.emplace_back(count, block.second);
  std::sort(hottest.rbegin(), hottest.rend());
  EXPECT_NEAR(hottest[0].first, 4600, 400);  // 20000 / zeta(1000, 1.2) = 20000 / 4.34
  const auto distance = static_cast<int64_t>(hottest[0].second) - static_cast<int64_t>(hottest[1].second);
  EXPECT_NE(std::abs(distance), 1);
}

TEST(IoSourceTest, SizesAndLoopsLimitWhatIsDone) {
  IoSource::Plan plan = plan_of({10});
  plan.io_bytes = 4 * kBlock;
  plan.loops = 3;
  IoSource source(plan);
  EXPECT_EQ(source.limit(), 12U);
  EXPECT_THAT(all_of(&source), SizeIs(12));
}

TEST(IoSourceTest, AnEndlessOneStartsOver) {
  IoSource::Plan plan = plan_of({3});
  plan.endless = true;
  IoSource source(plan);
  EXPECT_THAT(blocks_of(all_of(&source, 5)),
              ElementsAre(Block(0, 0), Block(0, 1), Block(0, 2), Block(0, 0), Block(0, 1)));
}

TEST(IoSourceTest, AMixHasItsShareOfReads) {
  IoSource::Plan plan = plan_of({10000});
  plan.read_percent = 70;
  IoSource source(plan);
  uint64_t next[kDirections] = {0, 0};
  for (const Io& io : all_of(&source)) EXPECT_EQ(io.offset, kBlock * next[io.direction]++);
  EXPECT_NEAR(static_cast<double>(next[kRead]), 7000, 200);
  EXPECT_EQ(next[kRead] + next[kWrite], 10000U);
}

TEST(IoSourceTest, OnlyReadsOrOnlyWrites) {
  for (unsigned percent : {0U, 100U}) {
    IoSource::Plan plan = plan_of({50});
    plan.read_percent = percent;
    IoSource source(plan);
    for (const Io& io : all_of(&source)) EXPECT_EQ(io.direction, percent == 0 ? kWrite : kRead);
  }
}

TEST(IoSourceTest, VerificationReadsWhatWasWritten) {
  IoSource::Plan plan = plan_of({100, 100});
  plan.random = true;
  plan.read_percent = 50;
  plan.remembers_writes = true;
  IoSource source(plan);
  std::set<Block> written;
  for (const Io& io : all_of(&source)) {
    if (io.direction == kWrite) written.emplace(io.file, io.offset / kBlock);
  }
  source.begin_verification();
  const std::vector<Io> reads = all_of(&source);
  for (const Io& io : reads) EXPECT_EQ(io.direction, kRead);
  const std::vector<Block> blocks = blocks_of(reads);
  EXPECT_EQ(blocks.size(), written.size());
  EXPECT_EQ(std::set<Block>(blocks.begin(), blocks.end()), written);
}

TEST(IoSourceTest, WholeFilesAreOneIoEach) {
  IoSource::Plan plan = plan_of({0, 0, 0});
  plan.whole_files = true;
  IoSource in_order(plan);
  EXPECT_THAT(blocks_of(all_of(&in_order)), ElementsAre(Block(0, 0), Block(1, 0), Block(2, 0)));
  plan.random = true;
  IoSource at_random(plan);
  std::set<uint32_t> files;
  for (const Io& io : all_of(&at_random)) files.insert(io.file);
  EXPECT_THAT(files, ElementsAre(0, 1, 2));
}

}  // namespace
}  // namespace cached::bench
