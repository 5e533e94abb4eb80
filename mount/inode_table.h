// The inodes that the kernel holds: what each is, where it was found last, and which version its cached pages
// show.
//
// A nodeid is the address of an Inode, so a request finds its inode without a look-up; the root is
// FUSE_ROOT_ID. The table by handle is only asked when a name was looked up, to find the inode that the
// kernel may know already.
//
// Memory. An inode costs less than 256 bytes with its name, allocator overhead and bucket, because a mount
// holds hundreds of thousands of them: the attributes are kept in a packed form, the table is chained through
// the inodes, and everything that only few inodes ever need is kept elsewhere (refusals.h, the read-ahead
// state of open files).
//
// References. One counter counts all reasons to exist: the kernel's lookups, children that name the inode as
// their parent, jobs under way. Only the step to zero takes the lock of the shard, which is also held
// whenever the table gives out a reference, so that an inode cannot be found while it dies.
//
// Locks. The shard's mutex guards the chain; a spin lock of one byte in each inode guards its attributes,
// page state, parent and name, and is held for a copy only. Nobody takes two inode locks at once, or a
// shard's mutex inside an inode lock. A walk towards the root pins each parent under the child's lock before
// it lets go of the child.
#pragma once

#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "shm/client.h"
#include "shm/types.h"

namespace cached::mount {

inline constexpr uint64_t kRootNodeId = 1;  // FUSE_ROOT_ID

// InodeInfo without what an inode keeps elsewhere and without reserved room.
struct Attributes {
  uint64_t validated_at_ns = 0;
  shm::ObjectId object;
  uint64_t layout_base = 0;
  uint64_t ino = 0;
  uint64_t size = 0;
  uint64_t blocks_512 = 0;
  int64_t atime_s = 0;
  int64_t mtime_s = 0;
  int64_t ctime_s = 0;
  uint32_t atime_ns = 0;
  uint32_t mtime_ns = 0;
  uint32_t ctime_ns = 0;
  uint32_t mode = 0;
  uint32_t nlink = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t rdev = 0;
  uint32_t flags = 0;
  uint16_t data_set = 0;
  shm::LayoutKind layout = shm::LayoutKind::kObject;

  bool immutable() const { return (flags & shm::kInodeImmutable) != 0; }
};
static_assert(sizeof(Attributes) == 120);

Attributes to_attributes(const shm::InodeInfo& info);
struct stat to_stat(const Attributes& attributes);

// What a READ needs of an inode, taken in one go so that size and object belong together.
struct ReadSource {
  shm::FileReference file;
  uint64_t size = 0;
  uint64_t validated_at_ns = 0;
  bool immutable = false;
  bool refusing = false;
  bool settling = false;
  uint64_t told_size = 0;  // what the kernel was told last
};

class Inode {
 public:
  const shm::Handle& handle() const { return handle_; }
  Attributes attributes() const;
  ReadSource read_source() const;

  // Takes over attributes that are not older than those it has. If they bring another object while the kernel
  // may hold pages of the present one, those pages are stale from now on (see pages_stale()).
  void adopt(const shm::InodeInfo& info);
  // Something changed before `told_at_ns`: until attributes come that were validated later, what is known
  // counts as never validated, and anything that comes is as good.
  void outdate(uint64_t told_at_ns);

  // Page state: which version the kernel's pages show.
  //
  // Pages are *served* when a buffered READ was answered since the last invalidation: the kernel may hold
  // pages of the object. They are *stale* when the object changed while they were served: the kernel may hold
  // pages of an older version than the attributes tell, and they go before these attributes are told.
  //
  // READs are *refused* besides if the bytes may differ: size or mtime did. Another object with the same size
  // and mtime is a file that settled (its id was a passing one), or one that was linked, renamed or chmodded:
  // to let its readers fail would be wrong, and the pages go all the same. And READs are refused, served
  // pages or not, if the file became shorter: the kernel believes in the size that it was told, and fills up
  // a short answer with zeros.

  // The pages of a directory are the listings that the kernel keeps. They are stale when its times changed,
  // or something was told of it (outdate()); no READ of them is ever refused.

  // Says that the kernel may keep a listing of this directory from now on.
  void keep_listing();
  // Says that a buffered READ is about to be answered with bytes of `object`. False if the inode has another
  // object by now: the bytes must not go out. A true answer comes before any later change, which therefore
  // sees the pages as served and invalidates them; the kernel keeps a page locked until its READ is answered
  // and an invalidation waits for that, so bytes on their way are caught too.
  bool commit_read(const shm::ObjectId& object);
  bool pages_stale() const;
  bool refusing() const;
  // Brackets an invalidation of the kernel's pages: begin returns the object whose pages may be loaded from
  // now on, end takes it. False: the object changed meanwhile and pages of several versions may be there
  // again; invalidate again.
  shm::ObjectId begin_invalidation();
  bool end_invalidation(const shm::ObjectId& object);
  // Attributes for a reply to the kernel; their size is remembered as told.
  Attributes tell_attributes();
  // Whether the pages were dropped not long ago; kept by Refusals, which knows how long that lasts.
  bool settling() const;
  void set_settling(bool settling);

 private:
  friend class InodeTable;
  class Guard;
  enum PageBits : uint8_t {
    kPagesServed = 1U << 0,
    kPagesStale = 1U << 1,
    kSettling = 1U << 2,
    kRefusing = 1U << 3,
    kOutdated = 1U << 4  // attributes_.validated_at_ns is when that was told
  };
  // What is known, under the lock; validated_at_ns is kNeverValidatedNs while it is outdated.
  Attributes known() const;
  uint64_t validated_at_ns() const {
    return (page_bits_ & kOutdated) != 0 ? shm::kNeverValidatedNs : attributes_.validated_at_ns;
  }

  Inode(const shm::InodeInfo& info, Inode* parent, char* name, uint8_t name_length);

  const shm::Handle handle_;
  Attributes attributes_;
  Inode* next_ = nullptr;    // in the bucket; guarded by the shard's mutex
  Inode* parent_ = nullptr;  // holds a reference; null for the root only
  char* name_ = nullptr;     // owned, not terminated
  std::atomic<uint64_t> references_{1};
  uint64_t told_size_ = 0;
  uint8_t name_length_ = 0;
  uint8_t page_bits_ = 0;
  mutable std::atomic<uint8_t> locked_{0};
};
static_assert(sizeof(Inode) <= 184, "with name, allocator and bucket an inode must stay below 256 bytes");

class InodeTable {
 public:
  explicit InodeTable(const shm::InodeInfo& root);
  ~InodeTable();
  InodeTable(const InodeTable&) = delete;
  InodeTable& operator=(const InodeTable&) = delete;

  Inode* root() const { return root_; }
  // The inode of a nodeid that the kernel holds.
  Inode* from_nodeid(uint64_t nodeid) const {
    return nodeid == kRootNodeId ? root_ : reinterpret_cast<Inode*>(static_cast<uintptr_t>(nodeid));
  }
  uint64_t nodeid(const Inode* inode) const {
    return inode == root_ ? kRootNodeId : static_cast<uint64_t>(reinterpret_cast<uintptr_t>(inode));
  }

  // The inode that was found as `name` in `parent`, known already or new, with a reference for the caller
  // (the kernel). Adopts `info` and remembers the place. `parent` must be held by the caller; `name` has at
  // most 255 bytes.
  Inode* reference(const shm::InodeInfo& info, Inode* parent, std::string_view name);
  // The inode that has this handle, with a reference for the caller; null if the kernel holds none.
  Inode* find(const shm::Handle& handle);
  // Calls `visit(inode)` for the inodes that are there, without a lock; a reference holds each meanwhile.
  // Those that come while it runs may be left out.
  template <typename Visit>
  void for_each(const Visit& visit);
  // One more reference for somebody who holds one.
  void retain(Inode* inode) { inode->references_.fetch_add(1, std::memory_order_relaxed); }
  // Gives `count` references back; the last one frees the inode and its reference on the parent.
  void release(Inode* inode, uint64_t count = 1);

  // The names from the root to `inode`, joined by '/'; empty for the root. Nothing if the chain is longer
  // than a path can be. Caller holds a reference.
  std::optional<std::string> path(Inode* inode);
  // st_ino of the directory in which `inode` was found last; its own for the root.
  uint64_t parent_ino(Inode* inode);
  // Inodes in the table, the root included. Approximate while others change it.
  uint64_t size() const;

 private:
  static constexpr unsigned kShards = 64;
  struct alignas(64) Shard {
    std::mutex mutex;
    std::vector<Inode*> buckets;  // a power of two
    std::atomic<uint64_t> count{0};
  };

  Shard& shard_of(uint64_t hash) { return shards_[hash >> 58]; }
  Inode* find_locked(Shard& shard, uint64_t hash, const shm::Handle& handle);
  void insert_locked(Shard& shard, uint64_t hash, Inode* inode);
  void remove_locked(Shard& shard, uint64_t hash, Inode* inode);
  void resize_locked(Shard& shard, size_t buckets);
  std::vector<Inode*> retain_all(Shard& shard);
  bool drop_references(Inode* inode, uint64_t count);
  void remember_place(Inode* inode, Inode* parent, std::string_view name);
  bool is_at_or_above(const Inode* candidate, Inode* inode);
  Inode* pin_parent(Inode* inode, std::string* name);

  std::array<Shard, kShards> shards_;
  Inode* root_;
};

template <typename Visit>
void InodeTable::for_each(const Visit& visit) {
  for (Shard& shard : shards_) {
    for (Inode* const inode : retain_all(shard)) {
      visit(inode);
      release(inode);
    }
  }
}

}  // namespace cached::mount
