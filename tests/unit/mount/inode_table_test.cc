// References, places, paths and page states of inodes.
#include "mount/inode_table.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace cached::mount {
namespace {

shm::InodeInfo make_info(uint64_t number, uint64_t validated_at_ns = 1, uint64_t object = 0) {
  shm::InodeInfo info;
  info.handle = {.high = number, .low = ~number};
  info.validated_at_ns = validated_at_ns;
  info.object = {.high = object, .low = object};
  info.ino = number;
  info.size = 100 * object;
  info.mode = S_IFREG | 0644;
  return info;
}

class InodeTableTest : public ::testing::Test {
 protected:
  InodeTable table_{make_info(1)};
};

TEST_F(InodeTableTest, RootHasItsOwnNodeId) {
  EXPECT_EQ(table_.nodeid(table_.root()), kRootNodeId);
  EXPECT_EQ(table_.from_nodeid(kRootNodeId), table_.root());
  EXPECT_EQ(table_.path(table_.root()), "");
  EXPECT_EQ(table_.parent_ino(table_.root()), 1U);
  EXPECT_EQ(table_.size(), 1U);
}

TEST_F(InodeTableTest, SameHandleIsSameInodeUntilForgotten) {
  Inode* first = table_.reference(make_info(2), table_.root(), "a");
  EXPECT_EQ(table_.reference(make_info(2), table_.root(), "a"), first);
  EXPECT_EQ(table_.from_nodeid(table_.nodeid(first)), first);
  EXPECT_EQ(table_.size(), 2U);
  table_.release(first, 1);
  EXPECT_EQ(table_.size(), 2U);
  table_.release(first, 1);
  EXPECT_EQ(table_.size(), 1U);
}

TEST_F(InodeTableTest, ForgetOfSeveralLookupsAtOnce) {
  Inode* inode = table_.reference(make_info(2), table_.root(), "a");
  for (int i = 0; i < 4; ++i) table_.reference(make_info(2), table_.root(), "a");
  table_.release(inode, 5);
  EXPECT_EQ(table_.size(), 1U);
}

TEST_F(InodeTableTest, ForgettingTheRootIsHarmless) {
  table_.release(table_.root(), 7);
  EXPECT_EQ(table_.size(), 1U);
}

TEST_F(InodeTableTest, ChildrenKeepTheirParents) {
  Inode* directory = table_.reference(make_info(2), table_.root(), "d");
  Inode* deeper = table_.reference(make_info(3), directory, "e");
  Inode* file = table_.reference(make_info(4), deeper, "f");
  table_.release(directory);
  table_.release(deeper);
  EXPECT_EQ(table_.size(), 4U);
  EXPECT_EQ(table_.path(file), "d/e/f");
  EXPECT_EQ(table_.parent_ino(file), 3U);
  table_.release(file);
  EXPECT_EQ(table_.size(), 1U);
}

TEST_F(InodeTableTest, PathFollowsRenamesAtTheSource) {
  Inode* one = table_.reference(make_info(2), table_.root(), "one");
  Inode* two = table_.reference(make_info(3), table_.root(), "two");
  Inode* file = table_.reference(make_info(4), one, "old name");
  EXPECT_EQ(table_.path(file), "one/old name");
  table_.reference(make_info(4), two, "new");
  EXPECT_EQ(table_.path(file), "two/new");
  table_.release(one);
  EXPECT_EQ(table_.size(), 3U) << "nothing names the first directory as its parent any more";
  table_.reference(make_info(4), two, "");
  table_.reference(make_info(4), two, "again");
  EXPECT_EQ(table_.path(file), "two/again");
}

TEST_F(InodeTableTest, DirectoriesNeverHoldEachOther) {
  Inode* upper = table_.reference(make_info(2), table_.root(), "upper");
  Inode* lower = table_.reference(make_info(3), upper, "lower");
  table_.reference(make_info(2), lower, "upper");
  EXPECT_EQ(table_.path(lower), "upper/lower");
  table_.reference(make_info(2), upper, "itself");
  EXPECT_EQ(table_.path(upper), "upper");
  table_.release(upper, 3);
  table_.release(lower);
  EXPECT_EQ(table_.size(), 1U);
}

TEST_F(InodeTableTest, PathsLongerThanPathsCanBeAreRefused) {
  Inode* inode = table_.root();
  for (uint64_t i = 2; i < 3000; ++i) inode = table_.reference(make_info(i), inode, "x");
  EXPECT_FALSE(table_.path(inode).has_value());
}

TEST_F(InodeTableTest, GrowsAndShrinks) {
  constexpr uint64_t kCount = 20'000;
  std::vector<Inode*> inodes;
  for (uint64_t i = 2; i < kCount; ++i) {
    inodes.push_back(table_.reference(make_info(i), table_.root(), std::to_string(i)));
  }
  for (uint64_t i = 2; i < kCount; ++i) {
    ASSERT_EQ(table_.reference(make_info(i), table_.root(), std::to_string(i)), inodes[i - 2]);
  }
  for (Inode* inode : inodes) table_.release(inode, 2);
  EXPECT_EQ(table_.size(), 1U);
}

TEST_F(InodeTableTest, ThreadsMayLookUpAndForgetTheSameInodes) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (uint64_t i = 0; i < 5000; ++i) {
        Inode* directory = table_.reference(make_info(2 + i % 3), table_.root(), t % 2 == 0 ? "d" : "e");
        Inode* file = table_.reference(make_info(10 + i % 7), directory, "f");
        table_.path(file);
        table_.release(directory);
        table_.release(file);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(table_.size(), 1U);
}

TEST_F(InodeTableTest, OlderAttributesAreNotTaken) {
  Inode* file = table_.reference(make_info(2, 50, 5), table_.root(), "f");
  file->adopt(make_info(2, 40, 4));
  EXPECT_EQ(file->attributes().size, 500U);
  file->adopt(make_info(2, 60, 6));
  EXPECT_EQ(file->attributes().size, 600U);
  EXPECT_EQ(file->read_source().size, 600U);
  EXPECT_EQ(file->read_source().file.object, (shm::ObjectId{6, 6}));
}

TEST_F(InodeTableTest, AttributesBecomeStat) {
  shm::InodeInfo info = make_info(9, 1, 3);
  info.mtime_s = 77;
  info.mtime_ns = 88;
  info.blocks_512 = 8;
  info.uid = 1000;
  const struct stat shown = to_stat(to_attributes(info));
  EXPECT_EQ(shown.st_ino, 9U);
  EXPECT_EQ(shown.st_size, 300);
  EXPECT_EQ(shown.st_mtim.tv_sec, 77);
  EXPECT_EQ(shown.st_mtim.tv_nsec, 88);
  EXPECT_EQ(shown.st_blocks, 8);
  EXPECT_EQ(shown.st_uid, 1000U);
}

constexpr shm::ObjectId kOld{5, 5};
constexpr shm::ObjectId kNew{6, 6};

TEST_F(InodeTableTest, ChangeWithoutServedPagesIsSilent) {
  Inode* file = table_.reference(make_info(2, 1, 5), table_.root(), "f");
  file->adopt(make_info(2, 2, 6));
  EXPECT_FALSE(file->pages_stale());
  EXPECT_TRUE(file->commit_read(kNew));
}

TEST_F(InodeTableTest, ChangeMakesServedPagesStale) {
  Inode* file = table_.reference(make_info(2, 1, 5), table_.root(), "f");
  EXPECT_TRUE(file->commit_read(kOld));
  file->adopt(make_info(2, 2, 5));
  EXPECT_FALSE(file->pages_stale()) << "the same version, validated again";
  file->adopt(make_info(2, 3, 6));
  EXPECT_TRUE(file->pages_stale());
  EXPECT_FALSE(file->commit_read(kOld)) << "bytes of the old version must not go out any more";
}

TEST_F(InodeTableTest, ReadsAreRefusedOnlyIfTheBytesMayDiffer) {
  Inode* file = table_.reference(make_info(2, 1, 5), table_.root(), "f");
  file->commit_read(kOld);
  shm::InodeInfo renamed = make_info(2, 2, 5);
  renamed.object = kNew;
  file->adopt(renamed);
  EXPECT_TRUE(file->pages_stale());
  EXPECT_FALSE(file->refusing()) << "another id with the same size and mtime";
  shm::InodeInfo written = make_info(2, 3, 5);
  written.object = {7, 7};
  written.mtime_ns += 1;
  file->adopt(written);
  EXPECT_TRUE(file->refusing());
  EXPECT_TRUE(file->read_source().refusing);
  EXPECT_TRUE(file->end_invalidation(file->begin_invalidation()));
  EXPECT_FALSE(file->refusing());
}

TEST_F(InodeTableTest, ReadsOfAFileThatBecameShorterAreRefusedEvenIfNothingWasServed) {
  shm::InodeInfo info = make_info(2, 1, 5);
  info.size = 100;
  Inode* file = table_.reference(info, table_.root(), "f");
  shm::InodeInfo shorter = make_info(2, 2, 6);
  shorter.size = 99;
  file->adopt(shorter);
  EXPECT_TRUE(file->refusing()) << "the kernel would fill up with zeros to the size that it knows";
  EXPECT_TRUE(file->pages_stale()) << "so that the next attributes wait for the invalidation";
}

TEST_F(InodeTableTest, OutdatedAttributesAreNeverFreshUntilLaterOnesCome) {
  Inode* file = table_.reference(make_info(2, 50, 5), table_.root(), "f");
  file->outdate(60);
  EXPECT_EQ(file->attributes().validated_at_ns, shm::kNeverValidatedNs);
  EXPECT_EQ(file->read_source().validated_at_ns, shm::kNeverValidatedNs);
  file->adopt(make_info(2, 55, 4));
  EXPECT_EQ(file->attributes().size, 400U) << "as good as what was there";
  EXPECT_EQ(file->tell_attributes().validated_at_ns, shm::kNeverValidatedNs);
  file->adopt(make_info(2, 61, 6));
  EXPECT_EQ(file->attributes().size, 600U);
  EXPECT_EQ(file->attributes().validated_at_ns, 61U);
  file->adopt(make_info(2, 55, 4));
  EXPECT_EQ(file->attributes().size, 600U) << "what was on its way when the change came";
}

TEST_F(InodeTableTest, AttributesThatAreNewerThanTheChangeStay) {
  Inode* file = table_.reference(make_info(2, 50, 5), table_.root(), "f");
  file->outdate(40);
  EXPECT_EQ(file->attributes().validated_at_ns, 50U);
}

TEST_F(InodeTableTest, ListingsAreStaleWhenTheTimesOfTheirDirectoryChange) {
  const auto directory_info = [](uint64_t validated_at_ns, int64_t mtime_s, uint32_t ctime_ns) {
    shm::InodeInfo info = make_info(2, validated_at_ns);
    info.mode = S_IFDIR | 0755;
    info.mtime_s = mtime_s;
    info.ctime_ns = ctime_ns;
    return info;
  };
  Inode* directory = table_.reference(directory_info(10, 1, 1), table_.root(), "d");
  directory->adopt(directory_info(11, 2, 1));
  EXPECT_FALSE(directory->pages_stale()) << "the kernel has none";
  directory->keep_listing();
  directory->adopt(directory_info(12, 2, 1));
  EXPECT_FALSE(directory->pages_stale());
  directory->adopt(directory_info(13, 2, 2));
  EXPECT_TRUE(directory->pages_stale()) << "its mtime may have been put back";
  EXPECT_FALSE(directory->refusing());
  EXPECT_TRUE(directory->end_invalidation(directory->begin_invalidation()));
  EXPECT_FALSE(directory->pages_stale());
  directory->keep_listing();
  directory->outdate(20);
  EXPECT_TRUE(directory->pages_stale());
}

TEST_F(InodeTableTest, InodesAreFoundByTheirHandles) {
  Inode* file = table_.reference(make_info(2), table_.root(), "f");
  EXPECT_EQ(table_.find(make_info(3).handle), nullptr);
  EXPECT_EQ(table_.find(make_info(1).handle), table_.root());
  EXPECT_EQ(table_.find(make_info(2).handle), file);
  table_.release(file);
  EXPECT_EQ(table_.size(), 2U) << "found with a reference";
  table_.release(file);
  EXPECT_EQ(table_.size(), 1U);
}

TEST_F(InodeTableTest, EveryInodeIsVisitedAndMayBeForgottenMeanwhile) {
  Inode* directory = table_.reference(make_info(2), table_.root(), "d");
  for (uint64_t i = 3; i < 200; ++i) table_.reference(make_info(i), directory, std::to_string(i));
  size_t visited = 0;
  table_.for_each([&](Inode* inode) {
    ++visited;
    if (inode != table_.root() && inode != directory) table_.release(inode);
  });
  EXPECT_EQ(visited, 199U);
  table_.release(directory);
  EXPECT_EQ(table_.size(), 1U);
}

TEST_F(InodeTableTest, InvalidationEndsStaleness) {
  Inode* file = table_.reference(make_info(2, 1, 5), table_.root(), "f");
  file->commit_read(kOld);
  file->adopt(make_info(2, 2, 6));
  const shm::ObjectId object = file->begin_invalidation();
  EXPECT_EQ(object, kNew);
  EXPECT_TRUE(file->pages_stale()) << "until the kernel has dropped them";
  EXPECT_TRUE(file->end_invalidation(object));
  EXPECT_FALSE(file->pages_stale());
  file->adopt(make_info(2, 3, 7));
  EXPECT_FALSE(file->pages_stale()) << "nothing was served since";
}

TEST_F(InodeTableTest, ChangeDuringInvalidationRepeatsItIfPagesWereServed) {
  Inode* file = table_.reference(make_info(2, 1, 5), table_.root(), "f");
  file->commit_read(kOld);
  file->adopt(make_info(2, 2, 6));
  shm::ObjectId object = file->begin_invalidation();
  EXPECT_TRUE(file->commit_read(kNew));
  file->adopt(make_info(2, 3, 7));
  EXPECT_FALSE(file->end_invalidation(object));
  EXPECT_TRUE(file->pages_stale());
  object = file->begin_invalidation();
  EXPECT_TRUE(file->end_invalidation(object));
  EXPECT_FALSE(file->pages_stale());
}

}  // namespace
}  // namespace cached::mount
