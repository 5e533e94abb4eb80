// Order of invalidation and reply, with a kernel that is a callback.
#include "mount/invalidator.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <vector>

namespace cached::mount {
namespace {

using std::chrono::milliseconds;

shm::InodeInfo make_info(uint64_t validated_at_ns, uint64_t object) {
  shm::InodeInfo info;
  info.handle = {.high = 2, .low = 2};
  info.validated_at_ns = validated_at_ns;
  info.object = {.high = object, .low = object};
  return info;
}

class InvalidatorTest : public ::testing::Test {
 protected:
  // An inode whose pages are stale.
  Inode* make_stale() {
    Inode* inode = table_.reference(make_info(1, 1), table_.root(), "f");
    inode->commit_read({1, 1});
    inode->adopt(make_info(2, 2));
    return inode;
  }
  InodeTable table_{shm::InodeInfo{}};
  Refusals refusals_;
  Invalidator invalidator_{table_, refusals_};
};

TEST_F(InvalidatorTest, ReplyComesAfterTheKernelWasTold) {
  Inode* inode = make_stale();
  std::atomic<bool> told{false};
  invalidator_.start([&](uint64_t nodeid, Invalidator::Scope scope) {
    EXPECT_EQ(nodeid, table_.nodeid(inode));
    EXPECT_EQ(scope, Invalidator::Scope::kPages);
    EXPECT_TRUE(inode->pages_stale());
    told = true;
  });
  std::promise<bool> replied;
  invalidator_.drop_pages(inode, [&] { replied.set_value(told && !inode->pages_stale()); });
  EXPECT_TRUE(replied.get_future().get());
  EXPECT_EQ(invalidator_.page_invalidations(), 1U);
}

TEST_F(InvalidatorTest, KeepsTheInodeUntilTheReplyAndNoLonger) {
  Inode* inode = make_stale();
  std::promise<void> go;
  std::shared_future<void> may_go = go.get_future().share();
  invalidator_.start([&](uint64_t, Invalidator::Scope) { may_go.wait(); });
  invalidator_.drop_pages(inode, {});
  table_.release(inode);
  EXPECT_EQ(table_.size(), 2U);
  EXPECT_FALSE(invalidator_.wait_until_idle(milliseconds{1}));
  go.set_value();
  EXPECT_TRUE(invalidator_.wait_until_idle(milliseconds{10'000}));
  EXPECT_EQ(table_.size(), 1U);
}

TEST_F(InvalidatorTest, PagesThatAreCurrentStay) {
  Inode* inode = table_.reference(make_info(1, 1), table_.root(), "f");
  invalidator_.start([](uint64_t, Invalidator::Scope) { ADD_FAILURE(); });
  std::promise<void> replied;
  invalidator_.drop_pages(inode, [&] { replied.set_value(); });
  replied.get_future().wait();
}

TEST_F(InvalidatorTest, RepeatsWhenTheFileChangesMeanwhile) {
  Inode* inode = make_stale();
  int rounds = 0;
  invalidator_.start([&](uint64_t, Invalidator::Scope) {
    if (++rounds > 1) return;
    EXPECT_TRUE(inode->commit_read({2, 2}));
    inode->adopt(make_info(3, 3));
  });
  invalidator_.drop_pages(inode, {});
  EXPECT_TRUE(invalidator_.wait_until_idle(milliseconds{10'000}));
  EXPECT_EQ(rounds, 4) << "each round tells the kernel twice";
  EXPECT_FALSE(inode->pages_stale());
}

TEST_F(InvalidatorTest, ExpiryWaitsForTheKernelButNotForever) {
  Inode* inode = make_stale();
  std::promise<void> go;
  std::shared_future<void> may_go = go.get_future().share();
  std::atomic<int> expired{0};
  invalidator_.start([&](uint64_t, Invalidator::Scope scope) {
    if (scope == Invalidator::Scope::kPages) may_go.wait();
    if (scope == Invalidator::Scope::kAttributes) ++expired;
  });
  invalidator_.expire_attributes(inode, milliseconds{10'000});
  EXPECT_EQ(expired, 1);
  invalidator_.drop_pages(inode, {});
  invalidator_.expire_attributes(inode, milliseconds{5});
  EXPECT_EQ(expired, 1) << "it is behind an invalidation that waits, and gave up waiting";
  go.set_value();
  EXPECT_TRUE(invalidator_.wait_until_idle(milliseconds{10'000}));
  EXPECT_EQ(expired, 2);
}

TEST_F(InvalidatorTest, StopFinishesWhatIsQueued) {
  Inode* inode = make_stale();
  invalidator_.start([](uint64_t, Invalidator::Scope) {});
  int replies = 0;
  for (int i = 0; i < 10; ++i) invalidator_.drop_pages(inode, [&] { ++replies; });
  invalidator_.stop();
  EXPECT_EQ(replies, 10);
}

}  // namespace
}  // namespace cached::mount
