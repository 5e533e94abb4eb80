// Making the memfds. The order of steps is in shared_memory.h.
#include "cached/memory_tier/shared_memory.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>

#include "base/log.h"
#include "base/units.h"
#include "cached/memory_tier/memory_tier.h"

namespace cached::memory_tier {
namespace {

constexpr uint64_t kIndexBytesOfArenaPerEntry = 32 * kKiB;
constexpr uint64_t kMinimumIndexEntries = 4096;
constexpr uint64_t kMaximumTableEntries = uint64_t{1} << 32;
// What prepare_region() leaves to the machine: a 64th of its memory, at most this.
constexpr uint64_t kLargestReserveBytes = kGiB;
// One fallocate() holds the memfd's lock. The preparing thread may lose its CPU meanwhile, and a shard that
// needs the lock would wait for it: so the steps are small.
constexpr uint64_t kAllocationStepBytes = 256 * kKiB;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

// A table for `entries` records that is full to four fifths at most: with two buckets of seven for each key
// hardly a record is then lost to full buckets. A power of two of buckets, so up to twice that.
template <typename Record>
shm::TableGeometry table_geometry(uint64_t entries, unsigned partitions, uint64_t offset_bytes) {
  const uint64_t records = entries + entries / 4;
  const uint64_t buckets = (records + shm::kRecordsPerBucket - 1) / shm::kRecordsPerBucket;
  const uint64_t buckets_per_partition = std::bit_ceil((buckets + partitions - 1) / partitions);
  return {offset_bytes, buckets_per_partition, partitions, sizeof(shm::SeqRecord<Record>)};
}

template <typename Record>
uint64_t table_end(const shm::TableGeometry& table) {
  const uint64_t bytes = table.buckets_per_partition * table.partitions * sizeof(shm::SeqBucket<Record>);
  return align_up(table.offset_bytes + bytes, shm::kPageBytes);
}

template <typename Record>
shm::SeqBucket<Record>* buckets_of(shm::IndexSuperblock* superblock, const shm::TableGeometry& table) {
  return reinterpret_cast<shm::SeqBucket<Record>*>(reinterpret_cast<std::byte*>(superblock) +
                                                   table.offset_bytes);
}

// A figure of /proc/meminfo in bytes; `otherwise` if the line is not there.
uint64_t memory_figure_bytes(const std::string& name, uint64_t otherwise) {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, name.size() + 1, name + ":") == 0)
      return std::strtoull(line.c_str() + name.size() + 1, nullptr, 10) * kKiB;
  }
  return otherwise;
}

// The smallest memory.max of the process's cgroup (version 2) and those above it; the largest number if none
// is set.
uint64_t cgroup_limit_bytes() {
  uint64_t limit_bytes = std::numeric_limits<uint64_t>::max();
  std::ifstream membership("/proc/self/cgroup");
  for (std::string line; std::getline(membership, line);) {
    if (line.compare(0, 3, "0::") != 0) continue;
    for (std::string group = line.substr(3); !group.empty(); group.resize(group.rfind('/'))) {
      std::ifstream file("/sys/fs/cgroup" + group + "/memory.max");
      uint64_t bytes = 0;
      if (file >> bytes) limit_bytes = std::min(limit_bytes, bytes);  // otherwise it says "max"
    }
  }
  return limit_bytes;
}

uint64_t free_huge_pages() {
  std::ifstream file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
  uint64_t count = 0;
  return file >> count ? count : 0;
}

// Allocates [offset, offset + length) of a memfd in steps.
Status allocate_memory(int fd, uint64_t offset_bytes, uint64_t length_bytes, uint64_t step_bytes) {
  for (uint64_t done = 0; done < length_bytes;) {
    const uint64_t step = std::min(step_bytes, length_bytes - done);
    if (::fallocate(fd, 0, static_cast<off_t>(offset_bytes + done), static_cast<off_t>(step)) == 0) {
      done += step;
    } else if (errno != EINTR) {
      return Status::from_errno("fallocate of " + format_size(step));
    }
  }
  return {};
}

// A memfd of the given size that only its owner may open.
Result<UniqueFd> create_memfd(const char* name, unsigned flags, uint64_t size_bytes) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags));
  if (!fd.valid()) return Status::from_errno(std::string("memfd_create of ") + name);
  if (::fchmod(fd.get(), S_IRUSR | S_IWUSR) != 0) return Status::from_errno(std::string("fchmod of ") + name);
  if (::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0) {
    return Status::from_errno(std::string("setting the size of ") + name + " to " + format_size(size_bytes));
  }
  return fd;
}

Result<std::byte*> map_for_writing(const UniqueFd& fd, uint64_t size_bytes) {
  void* mapping = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (mapping == MAP_FAILED) return Status::from_errno("mapping " + format_size(size_bytes));
  ::madvise(mapping, size_bytes,
            MADV_DONTDUMP);  // or a crash would write the arena to disk
  return static_cast<std::byte*>(mapping);
}

// Seals a memfd that is mapped, and opens it once more for clients.
Result<UniqueFd> seal_and_reopen(const UniqueFd& fd, const char* name) {
  if (::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) {
    return Status::from_errno(std::string("sealing ") + name +
                              " against writing by clients (F_SEAL_FUTURE_WRITE needs Linux 5.1)");
  }
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  UniqueFd read_only(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!read_only.valid())
    return Status::from_errno(std::string("opening ") + name + " read-only through " + path);
  return read_only;
}

Status fill_random(void* target, size_t size_bytes) {
  size_t done = 0;
  while (done < size_bytes) {
    const ssize_t got = ::getrandom(static_cast<std::byte*>(target) + done, size_bytes - done, 0);
    if (got < 0 && errno != EINTR) return Status::from_errno("getrandom for the key of name hashes");
    if (got > 0) done += static_cast<size_t>(got);
  }
  return {};
}

Status check_options(const SharedMemory::Options& options) {
  if (options.arena_bytes == 0 || options.arena_bytes % kRegionBytes != 0) {
    return {EINVAL, "the arena's size must be a multiple of " + format_size(kRegionBytes) + ", not " +
                        std::to_string(options.arena_bytes) + " bytes"};
  }
  if (options.arena_bytes / shm::kPageBytes > std::numeric_limits<uint32_t>::max()) {
    return {EINVAL, "the arena's size is limited to 16 TiB; it is " + format_size(options.arena_bytes)};
  }
  if (options.shards == 0 || options.shards > shm::kMaximumShards) {
    return {EINVAL, "the number of shards must be 1 to " + std::to_string(shm::kMaximumShards) + ", not " +
                        std::to_string(options.shards)};
  }
  if (options.name_entries == 0) return {EINVAL, "the name table must have at least one entry"};
  if (std::max({options.index_entries, options.name_entries, options.inode_entries}) > kMaximumTableEntries) {
    return {EINVAL, "index, name and inode tables are limited to " + std::to_string(kMaximumTableEntries) +
                        " entries each"};
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<SharedMemory>> SharedMemory::create(const Options& options) {
  CACHED_RETURN_IF_ERROR(check_options(options));
  std::unique_ptr<SharedMemory> memory(new SharedMemory);
  CACHED_RETURN_IF_ERROR(memory->create_index(options).with_context("shared memory"));
  CACHED_RETURN_IF_ERROR(memory->create_arena(options).with_context("shared memory, arena"));
  return memory;
}

SharedMemory::~SharedMemory() {
  stop_preparing();
  if (superblock_ != nullptr) ::munmap(superblock_, index_bytes_);
  if (arena_ != nullptr) ::munmap(arena_, arena_bytes_);
}

Status SharedMemory::create_index(const Options& options) {
  const uint64_t entries =
      options.index_entries != 0
          ? options.index_entries
          : std::max(kMinimumIndexEntries, options.arena_bytes / kIndexBytesOfArenaPerEntry);
  const uint64_t inode_entries = options.inode_entries != 0 ? options.inode_entries : options.name_entries;
  const auto blocks = table_geometry<shm::BlockRecord>(entries, options.shards, shm::kPageBytes);
  const auto names =
      table_geometry<shm::NameRecord>(options.name_entries, 1, table_end<shm::BlockRecord>(blocks));
  const auto inodes = table_geometry<shm::InodeRecord>(inode_entries, 1, table_end<shm::NameRecord>(names));
  index_bytes_ = table_end<shm::InodeRecord>(inodes);
  shards_ = options.shards;

  const uint64_t limit_bytes = std::min(memory_figure_bytes("MemTotal", UINT64_MAX), cgroup_limit_bytes());
  if (index_bytes_ > limit_bytes || options.arena_bytes > limit_bytes - index_bytes_) {
    return {ENOMEM, "arena of " + format_size(options.arena_bytes) + " and tables of " +
                        format_size(index_bytes_) + " do not fit into the " + format_size(limit_bytes) +
                        " that machine or cgroup have; lower the arena's size in the configuration"};
  }
  Result<UniqueFd> fd = create_memfd("cached-index", 0, index_bytes_);
  if (!fd.ok()) return fd.status();
  index_ = std::move(*fd);
  if (const Status status = allocate_memory(index_.get(), 0, index_bytes_, 64 * kMiB); !status.ok()) {
    return status.with_context(
        "no memory for the " + format_size(index_bytes_) +
        " of block index, names and inodes; lower the number of their entries or the arena's size in "
        "the configuration");
  }
  Result<std::byte*> mapping = map_for_writing(index_, index_bytes_);
  if (!mapping.ok()) return mapping.status();
  superblock_ = reinterpret_cast<shm::IndexSuperblock*>(*mapping);
  superblock_->version = shm::kProtocolVersion;
  superblock_->shards = options.shards;
  superblock_->total_bytes = index_bytes_;
  superblock_->arena_bytes = options.arena_bytes;
  superblock_->blocks = blocks;
  superblock_->names = names;
  superblock_->inodes = inodes;
  CACHED_RETURN_IF_ERROR(fill_random(&superblock_->daemon_instance, sizeof superblock_->daemon_instance));
  CACHED_RETURN_IF_ERROR(fill_random(superblock_->name_hash_key, sizeof superblock_->name_hash_key));
  superblock_->magic = shm::kIndexMagic;
  Result<UniqueFd> read_only = seal_and_reopen(index_, "the index");
  if (!read_only.ok()) return read_only.status();
  index_read_only_ = std::move(*read_only);
  return {};
}

Status SharedMemory::create_arena(const Options& options) {
  arena_bytes_ = options.arena_bytes;
  reserve_bytes_ = std::min(kLargestReserveBytes, memory_figure_bytes("MemTotal", 0) / 64);
  region_states_ = std::vector<std::atomic<bool>>(arena_bytes_ / kRegionBytes);
  arena_has_huge_pages_ = options.huge_pages && map_huge_arena();
  if (!arena_has_huge_pages_) {
    Result<UniqueFd> fd = create_memfd("cached-arena", 0, arena_bytes_);
    if (!fd.ok()) return fd.status();
    Result<std::byte*> mapping = map_for_writing(*fd, arena_bytes_);
    if (!mapping.ok()) return mapping.status();
    arena_fd_ = std::move(*fd);
    arena_ = *mapping;
  }
  Result<UniqueFd> read_only = seal_and_reopen(arena_fd_, "the arena");
  if (!read_only.ok()) return read_only.status();
  arena_read_only_ = std::move(*read_only);
  return {};
}

// Tries an arena in huge pages. Mapping it reserves them all, so this is the moment at which it can fail.
bool SharedMemory::map_huge_arena() {
  const uint64_t free_pages = free_huge_pages();
  if (free_pages < arena_bytes_ / kRegionBytes) {
    log_info(
        "arena: {} huge pages of 2 MiB are free and {} would be needed; using plain pages. vm.nr_hugepages "
        "sets the pool",
        free_pages, arena_bytes_ / kRegionBytes);
    return false;
  }
  Result<UniqueFd> fd = create_memfd("cached-arena", MFD_HUGETLB | MFD_HUGE_2MB, arena_bytes_);
  Result<std::byte*> mapping = fd.ok() ? map_for_writing(*fd, arena_bytes_) : Result<std::byte*>(fd.status());
  if (!mapping.ok()) {
    log_info("arena: {}; using plain pages", mapping.status().message());
    return false;
  }
  arena_fd_ = std::move(*fd);
  arena_ = *mapping;
  return true;
}

shm::SeqTableWriter<shm::BlockRecord> SharedMemory::block_writer(unsigned shard) const {
  return {buckets_of<shm::BlockRecord>(superblock_, superblock_->blocks),
          superblock_->blocks.buckets_per_partition, shard};
}
shm::SeqTableWriter<shm::NameRecord> SharedMemory::name_writer() const {
  return {buckets_of<shm::NameRecord>(superblock_, superblock_->names),
          superblock_->names.buckets_per_partition, 0};
}
shm::SeqTableWriter<shm::InodeRecord> SharedMemory::inode_writer() const {
  return {buckets_of<shm::InodeRecord>(superblock_, superblock_->inodes),
          superblock_->inodes.buckets_per_partition, 0};
}
shm::SeqTableReader<shm::BlockRecord> SharedMemory::block_reader() const {
  return {buckets_of<shm::BlockRecord>(superblock_, superblock_->blocks),
          superblock_->blocks.buckets_per_partition};
}
shm::SeqTableReader<shm::NameRecord> SharedMemory::name_reader() const {
  return {buckets_of<shm::NameRecord>(superblock_, superblock_->names),
          superblock_->names.buckets_per_partition};
}
shm::SeqTableReader<shm::InodeRecord> SharedMemory::inode_reader() const {
  return {buckets_of<shm::InodeRecord>(superblock_, superblock_->inodes),
          superblock_->inodes.buckets_per_partition};
}

bool SharedMemory::prepare_region(uint64_t region) {
  if (region >= region_states_.size()) return false;
  if (region_states_[region].load(std::memory_order_acquire)) return true;
  if (!arena_has_huge_pages_) {  // huge ones were taken from the machine before
    if (memory_figure_bytes("MemAvailable", UINT64_MAX) < reserve_bytes_ + kRegionBytes) return false;
  }
  const uint64_t step_bytes = arena_has_huge_pages_ ? kRegionBytes : kAllocationStepBytes;
  if (!allocate_memory(arena_fd_.get(), region * kRegionBytes, kRegionBytes, step_bytes).ok()) return false;
  // Maps its pages in one go, which else every first touch of one does by a fault of its own: a tenth of a
  // cold read. Kernels before 5.14 refuse, and are left to their faults.
  static_cast<void>(::madvise(arena_ + region * kRegionBytes, kRegionBytes, MADV_POPULATE_WRITE));
  // Two threads may have allocated the same region, which does no harm; it is counted once.
  if (!region_states_[region].exchange(true, std::memory_order_acq_rel)) {
    prepared_regions_.fetch_add(1, std::memory_order_relaxed);
  }
  return true;
}

bool SharedMemory::prepared(uint64_t offset_bytes, uint64_t length_bytes) const {
  const uint64_t end = std::min<uint64_t>(align_up(offset_bytes + length_bytes, kRegionBytes) / kRegionBytes,
                                          region_states_.size());
  for (uint64_t region = offset_bytes / kRegionBytes; region < end; ++region) {
    if (!region_states_[region].load(std::memory_order_acquire)) return false;
  }
  return true;
}

void SharedMemory::start_preparing() {
  if (preparing_thread_.joinable()) return;
  preparing_thread_ = std::thread([this] { prepare_all(); });
}

void SharedMemory::stop_preparing() {
  stop_preparing_.store(true, std::memory_order_relaxed);
  if (preparing_thread_.joinable()) preparing_thread_.join();
}

// Goes through the arena in the order of use: every shard starts at the beginning of its own share.
void SharedMemory::prepare_all() {
  ::pthread_setname_np(::pthread_self(), "arena-prepare");
  const sched_param parameters{};
  ::pthread_setschedparam(::pthread_self(), SCHED_IDLE,
                          &parameters);  // refused: it runs with normal priority
  const uint64_t share = (region_states_.size() + shards_ - 1) / shards_;
  for (uint64_t i = 0; i < share; ++i) {
    for (uint64_t region = i; region < region_states_.size(); region += share) {
      if (stop_preparing_.load(std::memory_order_relaxed)) return;
      if (prepare_region(region)) continue;
      log_warning("arena: memory is short after {} of {}; no more is allocated ahead of use",
                  format_size(prepared_regions() * kRegionBytes), format_size(arena_bytes_));
      return;
    }
  }
}

}  // namespace cached::memory_tier
