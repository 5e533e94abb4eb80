#include "cached/memory_tier/shared_memory.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <chrono>
#include <string>
#include <thread>

#include "base/units.h"
#include "cached/memory_tier/memory_tier.h"
#include "cached/memory_tier/name_table.h"

namespace cached::memory_tier {
namespace {

std::unique_ptr<SharedMemory> create_small(unsigned shards = 2) {
  auto memory =
      SharedMemory::create({.arena_bytes = 8 * kRegionBytes, .shards = shards, .name_entries = 1000});
  EXPECT_TRUE(memory.ok()) << memory.status().message();
  return memory.ok() ? std::move(*memory) : nullptr;
}

uint64_t allocated_bytes(int fd) {
  struct stat status {};
  EXPECT_EQ(::fstat(fd, &status), 0);
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

// What must hold of either descriptor.
class Descriptors : public testing::TestWithParam<bool> {
 protected:
  int fd() const { return GetParam() ? memory_->index_fd_read_only() : memory_->arena_fd_read_only(); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd()); }
  std::unique_ptr<SharedMemory> memory_ = create_small();
};

TEST_P(Descriptors, AreOfMode0600) {
  struct stat status {};
  ASSERT_EQ(::fstat(fd(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600U);
}

TEST_P(Descriptors, AreReadOnlyAndCloseOnExec) {
  EXPECT_EQ(::fcntl(fd(), F_GETFL) & O_ACCMODE, O_RDONLY);
  EXPECT_NE(::fcntl(fd(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_P(Descriptors, AreSealed) {
  EXPECT_EQ(::fcntl(fd(), F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
}

TEST_P(Descriptors, CanBeMappedForReadingOnly) {
  void* mapping = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd(), 0);
  ASSERT_NE(mapping, MAP_FAILED);
  EXPECT_NE(::mprotect(mapping, 4096, PROT_READ | PROT_WRITE), 0);
  ::munmap(mapping, 4096);
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd(), 0), MAP_FAILED);
}

TEST_P(Descriptors, CannotBeWrittenEvenWhenReopenedForWriting) {
  const UniqueFd writable(::open(path().c_str(), O_RDWR | O_CLOEXEC));
  if (!writable.valid()) return;  // refused earlier is as good; root gets this far
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writable.get(), 0), MAP_FAILED);
  EXPECT_EQ(::pwrite(writable.get(), "x", 1, 0), -1);
  EXPECT_NE(::ftruncate(writable.get(), 0), 0);
  EXPECT_NE(::ftruncate(writable.get(), 1 << 30), 0);
  EXPECT_NE(::fallocate(writable.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
  EXPECT_NE(::fcntl(writable.get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
}

INSTANTIATE_TEST_SUITE_P(IndexAndArena, Descriptors, testing::Bool());

TEST(SharedMemory, DaemonsOwnMappingStaysWritableAndReadersSeeIt) {
  const auto memory = create_small();
  memory->arena()[5 * kRegionBytes] = std::byte{42};
  void* mapping =
      ::mmap(nullptr, memory->arena_bytes(), PROT_READ, MAP_SHARED, memory->arena_fd_read_only(), 0);
  ASSERT_NE(mapping, MAP_FAILED);
  EXPECT_EQ(static_cast<const std::byte*>(mapping)[5 * kRegionBytes], std::byte{42});
  ::munmap(mapping, memory->arena_bytes());
}

TEST(SharedMemory, SuperblockDescribesTablesThatFitAndDoNotOverlap) {
  const auto memory = create_small(3);
  const shm::IndexSuperblock& superblock = *memory->superblock();
  EXPECT_EQ(superblock.magic, shm::kIndexMagic);
  EXPECT_EQ(superblock.version, shm::kProtocolVersion);
  EXPECT_EQ(superblock.shards, 3U);
  EXPECT_EQ(superblock.arena_bytes, 8 * kRegionBytes);
  struct stat status {};
  ASSERT_EQ(::fstat(memory->index_fd_read_only(), &status), 0);
  EXPECT_EQ(superblock.total_bytes, static_cast<uint64_t>(status.st_size));
  EXPECT_EQ(superblock.blocks.partitions, 3U);
  EXPECT_EQ(superblock.names.partitions, 1U);
  EXPECT_EQ(superblock.inodes.partitions, 1U);
  uint64_t end = sizeof(shm::IndexSuperblock);
  const uint64_t bucket_bytes[] = {sizeof(shm::SeqBucket<shm::BlockRecord>),
                                   sizeof(shm::SeqBucket<shm::NameRecord>),
                                   sizeof(shm::SeqBucket<shm::InodeRecord>)};
  unsigned number = 0;
  for (const shm::TableGeometry* table : {&superblock.blocks, &superblock.names, &superblock.inodes}) {
    EXPECT_EQ(table->offset_bytes % shm::kPageBytes, 0U);
    EXPECT_GE(table->offset_bytes, end);
    EXPECT_TRUE(std::has_single_bit(table->buckets_per_partition));
    end = table->offset_bytes + table->buckets_per_partition * table->partitions * bucket_bytes[number++];
  }
  EXPECT_LE(end, superblock.total_bytes);
  EXPECT_GE(superblock.blocks.buckets_per_partition * 3 * 7 * 8 / 10, 4096U);
}

TEST(SharedMemory, EveryDaemonHasItsOwnInstanceAndKey) {
  const auto one = create_small();
  const auto other = create_small();
  EXPECT_NE(one->superblock()->daemon_instance, other->superblock()->daemon_instance);
  EXPECT_NE(one->superblock()->name_hash_key[0], other->superblock()->name_hash_key[0]);
}

TEST(SharedMemory, IndexIsAllocatedAtCreationAndTheArenaIsNot) {
  const auto memory = create_small();
  EXPECT_GE(allocated_bytes(memory->index_fd_read_only()), memory->superblock()->total_bytes);
  EXPECT_EQ(allocated_bytes(memory->arena_fd_read_only()), 0U);
}

TEST(SharedMemory, PrepareRegionAllocatesThatRegionOnce) {
  const auto memory = create_small();
  EXPECT_TRUE(memory->prepare_region(3));
  EXPECT_TRUE(memory->prepare_region(3));
  EXPECT_EQ(memory->prepared_regions(), 1U);
  EXPECT_EQ(allocated_bytes(memory->arena_fd_read_only()), kRegionBytes);
  EXPECT_FALSE(memory->prepare_region(8));
}

TEST(SharedMemory, PreparingThreadAllocatesTheWholeArena) {
  const auto memory = create_small();
  memory->start_preparing();
  for (unsigned i = 0; i < 1000 && memory->prepared_regions() < 8; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(memory->prepared_regions(), 8U);
  EXPECT_EQ(allocated_bytes(memory->arena_fd_read_only()), 8 * kRegionBytes);
}

TEST(SharedMemory, PreparingAndUsingTheSameRegionsAgree) {
  const auto memory = create_small();
  memory->start_preparing();
  for (uint64_t region = 0; region < 8; ++region) EXPECT_TRUE(memory->prepare_region(region));
  memory->stop_preparing();
  memory->stop_preparing();
  EXPECT_EQ(memory->prepared_regions(), 8U);
}

TEST(SharedMemory, ArenaLargerThanTheMachineIsRefusedWithAdvice) {
  const auto memory = SharedMemory::create({.arena_bytes = 8 * kTiB});
  ASSERT_FALSE(memory.ok());
  EXPECT_EQ(memory.error_number(), ENOMEM);
  EXPECT_THAT(memory.status().message(), testing::HasSubstr("lower the arena's size"));
}

TEST(SharedMemory, OptionsOutOfRangeAreRefused) {
  EXPECT_EQ(SharedMemory::create({.arena_bytes = 0}).error_number(), EINVAL);
  EXPECT_EQ(SharedMemory::create({.arena_bytes = kRegionBytes + 4096}).error_number(), EINVAL);
  EXPECT_EQ(SharedMemory::create({.arena_bytes = 32 * kTiB}).error_number(), EINVAL);
  EXPECT_EQ(SharedMemory::create({.arena_bytes = kRegionBytes, .shards = 0}).error_number(), EINVAL);
  EXPECT_EQ(SharedMemory::create({.arena_bytes = kRegionBytes, .shards = 17}).error_number(), EINVAL);
  EXPECT_EQ(SharedMemory::create({.arena_bytes = kRegionBytes, .name_entries = 0}).error_number(), EINVAL);
}

TEST(SharedMemory, HugePagesThatTheMachineLacksBecomePlainOnes) {
  const auto memory =
      SharedMemory::create({.arena_bytes = 4 * kRegionBytes, .name_entries = 1000, .huge_pages = true});
  ASSERT_TRUE(memory.ok()) << memory.status().message();
  EXPECT_TRUE((*memory)->prepare_region(0));
}

TEST(SharedMemory, TierAndNamesWriteWhatItsReadersFind) {
  const auto memory = create_small(2);
  MemoryTier::Options options;
  options.arena = memory->arena();
  options.first_region = 4;
  options.region_count = 4;
  options.scan_hazards = [](std::vector<uint32_t>*) {};
  options.prepare_region = [&](uint64_t region) { return memory->prepare_region(region); };
  MemoryTier tier(options, memory->block_writer(1));
  const shm::BlockKey key{{1, 2}, 3, 4, 5};
  const SlotId slot = *tier.allocate(100'000);
  tier.publish(slot, key, 0, 100'000);
  const auto record = memory->block_reader().find(
      shm::hash_block(key), 1, [&](const shm::BlockRecord& r) { return r.key.same_block(key); });
  ASSERT_TRUE(record);
  EXPECT_EQ(record->page, slot.page);
  EXPECT_EQ(record->key.data_set, 5);
  EXPECT_EQ(memory->prepared_regions(), 1U);

  NameTable names(memory->superblock()->name_hash_key, memory->name_writer(), memory->inode_writer());
  names.put_name(1, {2, 3}, "a", {4, 5}, 100);
  const shm::NameHash hash = shm::hash_name(memory->superblock()->name_hash_key, 1, {2, 3}, "a");
  EXPECT_TRUE(memory->name_reader().find(
      hash.low, 0, [&](const shm::NameRecord& r) { return r.name_hash_high == hash.high; }));
  shm::InodeInfo info;
  info.handle = {4, 5};
  names.put_inode(1, info);
  EXPECT_TRUE(memory->inode_reader().find(shm::hash_inode(info.handle, 1), 0, [&](const shm::InodeRecord& r) {
    return r.info.handle == info.handle;
  }));
}

}  // namespace
}  // namespace cached::memory_tier
