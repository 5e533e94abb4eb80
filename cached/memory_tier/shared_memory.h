// SharedMemory: makes the two memfds that all clients map, index and arena, and owns the daemon's mappings of
// them.
//
// Who may do what with them is decided here, once, by the order of creation:
//   memfd_create, fchmod 0600      a memfd is born 0777, and any uid could reopen it through /proc for
//   writing ftruncate, fallocate (index)   memory that is not allocated is a SIGBUS for whoever touches it
//   first mmap read-write                the daemon's own view, which outlives the seals seal SHRINK GROW
//   FUTURE_WRITE SEAL: from now on nobody, root included, gets a writable
//                                  mapping or writes through a descriptor
//   reopen O_RDONLY                the descriptors that clients get
//
// The index is small and allocated wholly at creation. The arena is hundreds of gigabytes: allocating
// (zeroing) it would keep a starting daemon silent for minutes, so it is allocated region by region, by
// prepare_region() at the latest when a shard first uses the region, and ahead of that by a thread of low
// priority.
//
// Running out of memory. fallocate() of a memfd does not fail when the machine is full, it wakes the OOM
// killer. So create() refuses an arena larger than the machine or the daemon's cgroup, and prepare_region()
// refuses a region that would take the machine below a reserve.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "shm/index_layout.h"
#include "shm/seq_table.h"

namespace cached::memory_tier {

class SharedMemory {
 public:
  struct Options {
    uint64_t arena_bytes = 0;  // a multiple of kRegionBytes
    unsigned shards = 1;       // 1...kMaximumShards; partitions of the block index
    uint64_t index_entries =
        0;  // records of pieces of blocks; 0: one for each 32 KiB of arena, at least 4096
    uint64_t name_entries = 1 << 20;
    uint64_t inode_entries = 0;  // 0: as many as names
    bool huge_pages =
        false;  // arena in 2 MiB pages of the machine's pool if enough are free, else plain pages
  };

  // Makes both memfds as described above. EINVAL: options out of range. ENOMEM: the message names the size in
  // the configuration to lower. The daemon instance and the key of name hashes are random.
  static Result<std::unique_ptr<SharedMemory>> create(const Options& options);
  // Stops the preparing thread and unmaps. Nobody may use what the accessors returned any more.
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  shm::IndexSuperblock* superblock() const { return superblock_; }
  // The writable mapping of the whole arena.
  std::byte* arena() const { return arena_; }
  uint64_t arena_bytes() const { return arena_bytes_; }
  uint64_t region_count() const { return region_states_.size(); }
  bool arena_has_huge_pages() const { return arena_has_huge_pages_; }

  // The one writer of a shard's partition of the block index, for that shard's thread.
  shm::SeqTableWriter<shm::BlockRecord> block_writer(unsigned shard) const;
  // The one writer of names and of inodes, for shard 0's thread.
  shm::SeqTableWriter<shm::NameRecord> name_writer() const;
  shm::SeqTableWriter<shm::InodeRecord> inode_writer() const;
  // The daemon's own look-ups, any thread. Partition of a block: partition_of_hash(hash_extent(key), shards);
  // of names and inodes: 0.
  shm::SeqTableReader<shm::BlockRecord> block_reader() const;
  shm::SeqTableReader<shm::NameRecord> name_reader() const;
  shm::SeqTableReader<shm::InodeRecord> inode_reader() const;

  // Descriptors to send to clients, opened read-only; owned here.
  int index_fd_read_only() const { return index_read_only_.get(); }
  int arena_fd_read_only() const { return arena_read_only_.get(); }

  // Allocates the memory of one region; true at once if it is. False: no memory (or no such region). Any
  // thread.
  bool prepare_region(uint64_t region);
  // Starts the thread that allocates the arena ahead of use (once; idempotent); it ends when all is
  // allocated, or when memory is short.
  void start_preparing();
  // Ends that thread and waits for it (well under a second). Idempotent.
  void stop_preparing();
  // Whether the memory of [offset, offset + length) of the arena is allocated. Any thread.
  bool prepared(uint64_t offset_bytes, uint64_t length_bytes) const;
  // Regions whose memory is allocated.
  uint64_t prepared_regions() const { return prepared_regions_.load(std::memory_order_relaxed); }

 private:
  SharedMemory() = default;
  Status create_index(const Options& options);
  Status create_arena(const Options& options);
  bool map_huge_arena();
  void prepare_all();

  UniqueFd index_;
  UniqueFd arena_fd_;
  UniqueFd index_read_only_;
  UniqueFd arena_read_only_;
  shm::IndexSuperblock* superblock_ = nullptr;
  uint64_t index_bytes_ = 0;
  std::byte* arena_ = nullptr;
  uint64_t arena_bytes_ = 0;
  uint64_t reserve_bytes_ = 0;  // what prepare_region() leaves to the machine
  bool arena_has_huge_pages_ = false;
  unsigned shards_ = 1;

  std::vector<std::atomic<bool>> region_states_;  // true: allocated
  std::atomic<uint64_t> prepared_regions_{0};
  std::atomic<bool> stop_preparing_{false};
  std::thread preparing_thread_;
};

}  // namespace cached::memory_tier
