#include "mount/inode_table.h"

#include <sched.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace cached::mount {

namespace {

constexpr size_t kInitialBuckets = 16;
constexpr unsigned kMaximumDepth = 2048;  // PATH_MAX leaves no room for more names
constexpr unsigned kSpinsBeforeYield = 64;

// Handles are opaque: spread them, whatever they are made of.
uint64_t hash_of(const shm::Handle& handle) {
  uint64_t hash = std::hash<shm::Handle>{}(handle)*0xD6E8FEB86659FD93ULL;
  hash ^= hash >> 32;
  return hash * 0xD6E8FEB86659FD93ULL;
}

// Whether a directory's entries may differ: its times do.
bool changed_between(const Attributes& a, const Attributes& b) {
  return a.mtime_s != b.mtime_s || a.mtime_ns != b.mtime_ns || a.ctime_s != b.ctime_s ||
         a.ctime_ns != b.ctime_ns;
}

char* copy_name(std::string_view name) {
  if (name.empty()) return nullptr;
  char* copy = static_cast<char*>(std::malloc(name.size()));
  if (copy == nullptr) throw std::bad_alloc();
  std::memcpy(copy, name.data(), name.size());
  return copy;
}

}  // namespace

// The inode's spin lock. Held for a copy of some 100 bytes, so whoever finds it taken spins; if the holder
// lost its CPU, it yields.
class Inode::Guard {
 public:
  explicit Guard(const Inode& inode) : locked_(inode.locked_) {
    for (unsigned spins = 0; locked_.exchange(1, std::memory_order_acquire) != 0; ++spins) {
      if (spins >= kSpinsBeforeYield) sched_yield();
    }
  }
  ~Guard() { locked_.store(0, std::memory_order_release); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  std::atomic<uint8_t>& locked_;
};

Attributes to_attributes(const shm::InodeInfo& info) {
  Attributes a;
  a.validated_at_ns = info.validated_at_ns;
  a.object = info.object;
  a.layout_base = info.layout_base;
  a.ino = info.ino;
  a.size = info.size;
  a.blocks_512 = info.blocks_512;
  a.atime_s = info.atime_s;
  a.mtime_s = info.mtime_s;
  a.ctime_s = info.ctime_s;
  a.atime_ns = info.atime_ns;
  a.mtime_ns = info.mtime_ns;
  a.ctime_ns = info.ctime_ns;
  a.mode = info.mode;
  a.nlink = info.nlink;
  a.uid = info.uid;
  a.gid = info.gid;
  a.rdev = info.rdev;
  a.flags = info.flags;
  a.data_set = info.data_set;
  a.layout = info.layout;
  return a;
}

struct stat to_stat(const Attributes& a) {
  struct stat result {};
  result.st_ino = a.ino;
  result.st_mode = a.mode;
  result.st_nlink = a.nlink;
  result.st_uid = a.uid;
  result.st_gid = a.gid;
  result.st_rdev = a.rdev;
  result.st_size = static_cast<off_t>(a.size);
  result.st_blksize = 4096;
  result.st_blocks = static_cast<blkcnt_t>(a.blocks_512);
  result.st_atim = {.tv_sec = a.atime_s, .tv_nsec = a.atime_ns};
  result.st_mtim = {.tv_sec = a.mtime_s, .tv_nsec = a.mtime_ns};
  result.st_ctim = {.tv_sec = a.ctime_s, .tv_nsec = a.ctime_ns};
  return result;
}

Inode::Inode(const shm::InodeInfo& info, Inode* parent, char* name, uint8_t name_length)
    : handle_(info.handle),
      attributes_(to_attributes(info)),
      parent_(parent),
      name_(name),
      name_length_(name_length) {}

Attributes Inode::known() const {
  Attributes attributes = attributes_;
  attributes.validated_at_ns = validated_at_ns();
  return attributes;
}

Attributes Inode::attributes() const {
  const Guard guard(*this);
  return known();
}

ReadSource Inode::read_source() const {
  ReadSource source;
  source.file.handle = handle_;
  const Guard guard(*this);
  source.file.object = attributes_.object;
  source.file.layout_base = attributes_.layout_base;
  source.file.layout = attributes_.layout;
  source.file.data_set = attributes_.data_set;
  source.size = attributes_.size;
  source.validated_at_ns = validated_at_ns();
  source.immutable = attributes_.immutable();
  source.refusing = (page_bits_ & kRefusing) != 0;
  source.settling = (page_bits_ & kSettling) != 0;
  source.told_size = told_size_;
  return source;
}

void Inode::adopt(const shm::InodeInfo& info) {
  Attributes fresh = to_attributes(info);
  const Guard guard(*this);
  if ((page_bits_ & kOutdated) == 0) {
    if (fresh.validated_at_ns < attributes_.validated_at_ns) return;
  } else if (fresh.validated_at_ns > attributes_.validated_at_ns) {
    page_bits_ &= static_cast<uint8_t>(~kOutdated);
  } else {
    fresh.validated_at_ns = attributes_.validated_at_ns;
  }
  const bool served = (page_bits_ & kPagesServed) != 0;
  if (served && S_ISDIR(fresh.mode) && changed_between(attributes_, fresh)) page_bits_ |= kPagesStale;
  if (fresh.object != attributes_.object) {
    const bool same_bytes = fresh.size == attributes_.size && fresh.mtime_s == attributes_.mtime_s &&
                            fresh.mtime_ns == attributes_.mtime_ns;
    if (served) page_bits_ |= kPagesStale;
    if ((served && !same_bytes) || fresh.size < attributes_.size) page_bits_ |= kPagesStale | kRefusing;
  }
  attributes_ = fresh;
}

void Inode::outdate(uint64_t told_at_ns) {
  const Guard guard(*this);
  if (attributes_.immutable() || told_at_ns < attributes_.validated_at_ns) return;
  attributes_.validated_at_ns = told_at_ns;
  page_bits_ |= kOutdated;
  if (S_ISDIR(attributes_.mode) && (page_bits_ & kPagesServed) != 0) page_bits_ |= kPagesStale;
}

bool Inode::commit_read(const shm::ObjectId& object) {
  const Guard guard(*this);
  if (attributes_.object != object) return false;
  page_bits_ |= kPagesServed;
  return true;
}

void Inode::keep_listing() {
  const Guard guard(*this);
  page_bits_ |= kPagesServed;
}

bool Inode::pages_stale() const {
  const Guard guard(*this);
  return (page_bits_ & kPagesStale) != 0;
}

Attributes Inode::tell_attributes() {
  const Guard guard(*this);
  told_size_ = attributes_.size;
  return known();
}

bool Inode::refusing() const {
  const Guard guard(*this);
  return (page_bits_ & kRefusing) != 0;
}

shm::ObjectId Inode::begin_invalidation() {
  const Guard guard(*this);
  page_bits_ &= static_cast<uint8_t>(~kPagesServed);
  return attributes_.object;
}

bool Inode::end_invalidation(const shm::ObjectId& object) {
  const Guard guard(*this);
  if (attributes_.object != object && (page_bits_ & kPagesServed) != 0) return false;
  page_bits_ &= static_cast<uint8_t>(~(kPagesStale | kRefusing));
  return true;
}

bool Inode::settling() const {
  const Guard guard(*this);
  return (page_bits_ & kSettling) != 0;
}

void Inode::set_settling(bool settling) {
  const Guard guard(*this);
  page_bits_ = static_cast<uint8_t>(settling ? page_bits_ | kSettling : page_bits_ & ~kSettling);
}

InodeTable::InodeTable(const shm::InodeInfo& root) : root_(new Inode(root, nullptr, nullptr, 0)) {
  for (Shard& shard : shards_) shard.buckets.resize(kInitialBuckets, nullptr);
  const uint64_t hash = hash_of(root.handle);
  insert_locked(shard_of(hash), hash, root_);
}

InodeTable::~InodeTable() {
  for (Shard& shard : shards_) {
    for (Inode* inode : shard.buckets) {
      while (inode != nullptr) {
        Inode* next = inode->next_;
        std::free(inode->name_);
        delete inode;
        inode = next;
      }
    }
  }
}

Inode* InodeTable::find_locked(Shard& shard, uint64_t hash, const shm::Handle& handle) {
  Inode* inode = shard.buckets[hash & (shard.buckets.size() - 1)];
  while (inode != nullptr && inode->handle_ != handle) inode = inode->next_;
  return inode;
}

void InodeTable::insert_locked(Shard& shard, uint64_t hash, Inode* inode) {
  const uint64_t count = shard.count.load(std::memory_order_relaxed) + 1;
  if (count > shard.buckets.size()) resize_locked(shard, shard.buckets.size() * 2);
  Inode*& bucket = shard.buckets[hash & (shard.buckets.size() - 1)];
  inode->next_ = bucket;
  bucket = inode;
  shard.count.store(count, std::memory_order_relaxed);
}

void InodeTable::remove_locked(Shard& shard, uint64_t hash, Inode* inode) {
  Inode** link = &shard.buckets[hash & (shard.buckets.size() - 1)];
  while (*link != inode) link = &(*link)->next_;
  *link = inode->next_;
  const uint64_t count = shard.count.load(std::memory_order_relaxed) - 1;
  shard.count.store(count, std::memory_order_relaxed);
  if (shard.buckets.size() > kInitialBuckets && count < shard.buckets.size() / 8) {
    resize_locked(shard, shard.buckets.size() / 4);
  }
}

void InodeTable::resize_locked(Shard& shard, size_t buckets) {
  std::vector<Inode*> resized(buckets, nullptr);
  for (Inode* inode : shard.buckets) {
    while (inode != nullptr) {
      Inode* next = inode->next_;
      Inode*& bucket = resized[hash_of(inode->handle_) & (buckets - 1)];
      inode->next_ = bucket;
      bucket = inode;
      inode = next;
    }
  }
  shard.buckets.swap(resized);
}

Inode* InodeTable::reference(const shm::InodeInfo& info, Inode* parent, std::string_view name) {
  const uint64_t hash = hash_of(info.handle);
  Shard& shard = shard_of(hash);
  Inode* inode = nullptr;
  {
    const std::lock_guard lock(shard.mutex);
    inode = find_locked(shard, hash, info.handle);
    if (inode == nullptr) {
      retain(parent);
      inode = new Inode(info, parent, copy_name(name), static_cast<uint8_t>(name.size()));
      insert_locked(shard, hash, inode);
      return inode;
    }
    retain(inode);
  }
  inode->adopt(info);
  remember_place(inode, parent, name);
  return inode;
}

Inode* InodeTable::find(const shm::Handle& handle) {
  const uint64_t hash = hash_of(handle);
  Shard& shard = shard_of(hash);
  const std::lock_guard lock(shard.mutex);
  Inode* const inode = find_locked(shard, hash, handle);
  if (inode != nullptr) retain(inode);
  return inode;
}

std::vector<Inode*> InodeTable::retain_all(Shard& shard) {
  const std::lock_guard lock(shard.mutex);
  std::vector<Inode*> inodes;
  inodes.reserve(shard.count.load(std::memory_order_relaxed));
  for (Inode* inode : shard.buckets) {
    for (; inode != nullptr; inode = inode->next_) {
      retain(inode);
      inodes.push_back(inode);
    }
  }
  return inodes;
}

// Takes `count` references away; true if none are left and the inode is out of the table.
bool InodeTable::drop_references(Inode* inode, uint64_t count) {
  uint64_t references = inode->references_.load(std::memory_order_relaxed);
  while (references > count) {
    if (inode->references_.compare_exchange_weak(references, references - count, std::memory_order_acq_rel))
      return false;
  }
  const uint64_t hash = hash_of(inode->handle_);
  Shard& shard = shard_of(hash);
  const std::lock_guard lock(shard.mutex);
  if (inode->references_.fetch_sub(count, std::memory_order_acq_rel) != count) return false;
  remove_locked(shard, hash, inode);
  return true;
}

void InodeTable::release(Inode* inode, uint64_t count) {
  while (inode != nullptr && inode != root_ && drop_references(inode, count)) {
    Inode* parent = inode->parent_;
    std::free(inode->name_);
    delete inode;
    inode = parent;
    count = 1;
  }
}

// The parent of `inode`, pinned, and its name there. Null for the root.
Inode* InodeTable::pin_parent(Inode* inode, std::string* name) {
  const Inode::Guard guard(*inode);
  if (inode->parent_ == nullptr) return nullptr;
  if (name != nullptr && inode->name_length_ != 0) name->assign(inode->name_, inode->name_length_);
  retain(inode->parent_);
  return inode->parent_;
}

// Whether `candidate` is `inode` or a directory above it.
bool InodeTable::is_at_or_above(const Inode* candidate, Inode* inode) {
  retain(inode);
  for (unsigned depth = 0; depth < kMaximumDepth && inode != nullptr; ++depth) {
    if (inode == candidate) {
      release(inode);
      return true;
    }
    Inode* parent = pin_parent(inode, nullptr);
    release(inode);
    inode = parent;
  }
  if (inode != nullptr) release(inode);
  return false;
}

// The inode was seen as `name` in `parent`. After a rename at the source that is another place than before;
// with hard links the last one counts. A directory that was moved below what we still take for its child
// keeps its old place: two directories that hold each other would never be freed.
void InodeTable::remember_place(Inode* inode, Inode* parent, std::string_view name) {
  {
    const Inode::Guard guard(*inode);
    if (inode->parent_ == nullptr) return;
    if (inode->parent_ == parent && name == std::string_view(inode->name_, inode->name_length_)) return;
  }
  if (is_at_or_above(inode, parent)) return;
  char* copy = copy_name(name);
  retain(parent);
  Inode* old_parent = nullptr;
  {
    const Inode::Guard guard(*inode);
    old_parent = std::exchange(inode->parent_, parent);
    std::swap(inode->name_, copy);
    inode->name_length_ = static_cast<uint8_t>(name.size());
  }
  std::free(copy);
  release(old_parent);
}

std::optional<std::string> InodeTable::path(Inode* inode) {
  std::string path;
  std::string name;
  retain(inode);
  for (unsigned depth = 0; depth < kMaximumDepth; ++depth) {
    Inode* parent = pin_parent(inode, &name);
    release(inode);
    if (parent == nullptr) return path;
    if (!path.empty()) path.insert(0, 1, '/');
    path.insert(0, name);
    inode = parent;
  }
  release(inode);
  return std::nullopt;
}

uint64_t InodeTable::parent_ino(Inode* inode) {
  Inode* parent = pin_parent(inode, nullptr);
  if (parent == nullptr) return inode->attributes().ino;
  const uint64_t ino = parent->attributes().ino;
  release(parent);
  return ino;
}

uint64_t InodeTable::size() const {
  uint64_t sum = 0;
  for (const Shard& shard : shards_) sum += shard.count.load(std::memory_order_relaxed);
  return sum;
}

}  // namespace cached::mount
