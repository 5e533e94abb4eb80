#include "cached/memory_tier/name_table.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace cached::memory_tier {
namespace {

constexpr uint32_t kVolume = 3;
constexpr shm::Handle kParent{1, 2};

class NameTableTest : public testing::Test {
 protected:
  static constexpr uint64_t kBuckets = 1;  // so that seven records fill a table
  static constexpr uint64_t kKey[2] = {11, 22};

  std::optional<shm::NameRecord> read_name(std::string_view name) const {
    const shm::NameHash hash = shm::hash_name(kKey, kVolume, kParent, name);
    return shm::SeqTableReader<shm::NameRecord>(names_.get(), kBuckets)
        .find(hash.low, 0, [&](const shm::NameRecord& r) {
          return r.volume == kVolume && r.name_hash_high == hash.high && r.name_hash_low == hash.low;
        });
  }
  std::optional<shm::InodeRecord> read_inode(const shm::Handle& handle) const {
    return shm::SeqTableReader<shm::InodeRecord>(inodes_.get(), kBuckets)
        .find(shm::hash_inode(handle, kVolume), 0,
              [&](const shm::InodeRecord& r) { return r.info.handle == handle; });
  }
  static shm::InodeInfo inode(uint64_t number, uint64_t validated_at_ns) {
    shm::InodeInfo info;
    info.handle = {7, number};
    info.size = 1000 + number;
    info.validated_at_ns = validated_at_ns;
    return info;
  }

  std::unique_ptr<shm::SeqBucket<shm::NameRecord>[]> names_ =
      std::make_unique<shm::SeqBucket<shm::NameRecord>[]>(kBuckets);
  std::unique_ptr<shm::SeqBucket<shm::InodeRecord>[]> inodes_ =
      std::make_unique<shm::SeqBucket<shm::InodeRecord>[]>(kBuckets);
  NameTable table_{kKey, {names_.get(), kBuckets, 0}, {inodes_.get(), kBuckets, 0}};
};

TEST_F(NameTableTest, ReaderSeesName) {
  table_.put_name(kVolume, kParent, "a.flac", {5, 6}, 100);
  const auto record = read_name("a.flac");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->child, (shm::Handle{5, 6}));
  EXPECT_EQ(record->validated_at_ns, 100U);
  EXPECT_EQ(record->flags, 0U);
  EXPECT_FALSE(read_name("b.flac"));
}

TEST_F(NameTableTest, ReaderSeesAbsentName) {
  table_.put_absent(kVolume, kParent, "none", 100);
  ASSERT_TRUE(read_name("none"));
  EXPECT_EQ(read_name("none")->flags, shm::kNameAbsent);
}

TEST_F(NameTableTest, SameNameInAnotherVolumeOrDirectoryIsAnother) {
  table_.put_name(kVolume, kParent, "a", {5, 6}, 100);
  EXPECT_FALSE(table_.find_name(kVolume + 1, kParent, "a"));
  EXPECT_FALSE(table_.find_name(kVolume, {1, 3}, "a"));
}

TEST_F(NameTableTest, PutOverwritesTheSameName) {
  table_.put_absent(kVolume, kParent, "a", 100);
  table_.put_name(kVolume, kParent, "a", {5, 6}, 200);
  EXPECT_EQ(read_name("a")->child, (shm::Handle{5, 6}));
  EXPECT_EQ(read_name("a")->flags, 0U);
  EXPECT_EQ(table_.stats().names, 1U);
}

TEST_F(NameTableTest, OlderAnswerDoesNotReplaceANewerOne) {
  table_.put_name(kVolume, kParent, "a", {5, 6}, 200);
  table_.put_absent(kVolume, kParent, "a", 199);
  EXPECT_EQ(read_name("a")->child, (shm::Handle{5, 6}));
}

TEST_F(NameTableTest, FullTableLosesTheRecordWithTheOldestValidation) {
  for (uint64_t i = 0; i < 7; ++i) {
    table_.put_name(kVolume, kParent, "name" + std::to_string(i), {5, i}, i == 4 ? 10 : 100 + i);
  }
  table_.put_name(kVolume, kParent, "new", {6, 6}, 300);
  EXPECT_FALSE(read_name("name4"));
  EXPECT_TRUE(read_name("name0"));
  EXPECT_TRUE(read_name("new"));
  EXPECT_EQ(table_.stats().names, 7U);
  EXPECT_EQ(table_.stats().name_displacements, 1U);
}

TEST_F(NameTableTest, RemovedNameIsGone) {
  table_.put_name(kVolume, kParent, "a", {5, 6}, 100);
  EXPECT_TRUE(table_.remove_name(kVolume, kParent, "a"));
  EXPECT_FALSE(table_.remove_name(kVolume, kParent, "a"));
  EXPECT_FALSE(read_name("a"));
  EXPECT_EQ(table_.stats().names, 0U);
}

TEST_F(NameTableTest, ReaderSeesInode) {
  table_.put_inode(kVolume, inode(1, 100));
  ASSERT_TRUE(read_inode({7, 1}));
  EXPECT_EQ(read_inode({7, 1})->info.size, 1001U);
  EXPECT_EQ(table_.find_inode(kVolume, {7, 1})->size, 1001U);
  EXPECT_FALSE(table_.find_inode(kVolume + 1, {7, 1}));
}

TEST_F(NameTableTest, PutOverwritesTheSameInode) {
  table_.put_inode(kVolume, inode(1, 100));
  shm::InodeInfo grown = inode(1, 200);
  grown.size = 5000;
  table_.put_inode(kVolume, grown);
  EXPECT_EQ(read_inode({7, 1})->info.size, 5000U);
  EXPECT_EQ(table_.stats().inodes, 1U);
}

TEST_F(NameTableTest, FullTableLosesTheInodeWithTheOldestValidation) {
  for (uint64_t i = 0; i < 7; ++i) table_.put_inode(kVolume, inode(i, i == 2 ? 10 : 100 + i));
  table_.put_inode(kVolume, inode(100, 300));
  EXPECT_FALSE(read_inode({7, 2}));
  EXPECT_TRUE(read_inode({7, 100}));
  EXPECT_EQ(table_.stats().inode_displacements, 1U);
}

TEST_F(NameTableTest, RemovedInodeIsGone) {
  table_.put_inode(kVolume, inode(1, 100));
  EXPECT_TRUE(table_.remove_inode(kVolume, {7, 1}));
  EXPECT_FALSE(read_inode({7, 1}));
  EXPECT_EQ(table_.stats().inodes, 0U);
}

}  // namespace
}  // namespace cached::memory_tier
