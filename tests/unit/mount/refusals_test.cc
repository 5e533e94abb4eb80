// Which READs of a changed file are refused.
#include "mount/refusals.h"

#include <gtest/gtest.h>

namespace cached::mount {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMiB = 1024 * 1024;

shm::InodeInfo make_info(uint64_t number) {
  shm::InodeInfo info;
  info.handle = {.high = number, .low = number};
  return info;
}

class RefusalsTest : public ::testing::Test {
 protected:
  bool refuse(uint64_t offset, uint64_t size, pid_t thread) {
    return refusals_.refuse(*file_, offset, size, thread);
  }
  InodeTable table_{make_info(1)};
  Inode* file_ = table_.reference(make_info(2), table_.root(), "f");
  ManualClock clock_;
  Refusals refusals_{clock_};
};

TEST_F(RefusalsTest, ReadIsRefusedInBothItsTries) {
  EXPECT_TRUE(refuse(0, kMiB, 10));
  EXPECT_TRUE(refuse(0, kPage, 10));
}

TEST_F(RefusalsTest, PageFaultPassesWithItsThird) {
  EXPECT_TRUE(refuse(0, kMiB, 10));
  EXPECT_TRUE(refuse(5 * kPage, kPage, 10));
  EXPECT_FALSE(refuse(5 * kPage, kPage, 10));
  EXPECT_TRUE(refuse(6 * kPage, kPage, 10)) << "only that page";
}

TEST_F(RefusalsTest, PageFaultPassesThoughThePagesAreDroppedMeanwhile) {
  EXPECT_TRUE(refuse(0, kMiB, 10));
  EXPECT_TRUE(refuse(0, kPage, 10));
  refusals_.begin_settling(*file_);
  EXPECT_FALSE(refuse(0, kPage, 10));
}

TEST_F(RefusalsTest, WindowsInFlightDoNotUseUpEachOthersTries) {
  EXPECT_TRUE(refuse(0, kMiB, 10));
  EXPECT_TRUE(refuse(kMiB, kMiB, 10));
  EXPECT_TRUE(refuse(2 * kMiB, kMiB, 10));
  EXPECT_TRUE(refuse(0, kPage, 10));
}

TEST_F(RefusalsTest, OtherThreadsTriesDoNotOpenThePage) {
  EXPECT_TRUE(refuse(0, kMiB, 10));
  EXPECT_TRUE(refuse(0, kPage, 11));
  EXPECT_TRUE(refuse(0, kPage, 12));
}

TEST_F(RefusalsTest, FaultThatMeetsAnothersReadAheadStillPasses) {
  EXPECT_TRUE(refuse(0, kMiB, 10));
  EXPECT_TRUE(refuse(kPage, kPage, 11));
  EXPECT_FALSE(refuse(kPage, kPage, 11));
}

TEST_F(RefusalsTest, TriesAreForgottenInTime) {
  EXPECT_TRUE(refuse(0, kPage, 10));
  EXPECT_TRUE(refuse(0, kPage, 10));
  clock_.advance_ns(kTriesNs + 1);
  EXPECT_TRUE(refuse(0, kPage, 10));
}

TEST_F(RefusalsTest, OnlyThreadsThatAskedAreServedWhileItSettles) {
  EXPECT_FALSE(refusals_.settling(*file_));
  refusals_.begin_settling(*file_);
  EXPECT_TRUE(refusals_.settling(*file_));
  EXPECT_TRUE(file_->read_source().settling);
  EXPECT_FALSE(refusals_.revalidated(*file_, 10));
  refusals_.note_revalidated(*file_, 10);
  EXPECT_TRUE(refusals_.revalidated(*file_, 10));
  EXPECT_FALSE(refusals_.revalidated(*file_, 11));
}

TEST_F(RefusalsTest, AFurtherChangeAsksForEverybodyAgain) {
  refusals_.begin_settling(*file_);
  refusals_.note_revalidated(*file_, 10);
  clock_.advance_ns(kSettlingNs - 1);
  refusals_.begin_settling(*file_);
  EXPECT_FALSE(refusals_.revalidated(*file_, 10));
  clock_.advance_ns(kSettlingNs - 1);
  EXPECT_TRUE(refusals_.settling(*file_));
}

TEST_F(RefusalsTest, SettlingEnds) {
  refusals_.begin_settling(*file_);
  clock_.advance_ns(kSettlingNs);
  EXPECT_FALSE(refusals_.settling(*file_));
  EXPECT_FALSE(file_->read_source().settling);
}

TEST_F(RefusalsTest, StaysBounded) {
  refusals_.begin_settling(*file_);
  for (uint64_t i = 3; i < 5000; ++i) {
    Inode* other = table_.reference(make_info(i), table_.root(), "o");
    EXPECT_TRUE(refusals_.refuse(*other, 0, kPage, 10));
    EXPECT_TRUE(refuse(i * kPage, kPage, 10));
  }
}

}  // namespace
}  // namespace cached::mount
