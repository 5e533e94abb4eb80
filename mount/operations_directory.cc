// Listings. A reply is filled from the client library's entries until the kernel's buffer is full; nothing is
// kept from one call to the next, the kernel hands back the cookie of the last entry that it took
// (cookies.h).
#include <dirent.h>

#include <climits>
#include <cstring>

#include "mount/cookies.h"
#include "mount/operations.h"

namespace cached::mount {

namespace {

// About how many entries the kernel's buffer has room for; names are short more often than not.
uint32_t entries_in(size_t size, bool plus) {
  constexpr size_t kEntryBytes = 32;
  constexpr size_t kEntryWithAttributesBytes = 160;
  return static_cast<uint32_t>(size / (plus ? kEntryWithAttributesBytes : kEntryBytes)) + 1;
}

}  // namespace

// A reply that is being filled, in the kernel's format, in the worker's scratch memory.
class Operations::Listing {
 public:
  Listing(Operations& operations, Worker& worker, fuse_req_t request, Inode* directory, size_t size,
          bool plus)
      : operations_(operations), worker_(worker), request_(request), directory_(directory), plus_(plus) {
    worker_.directory_buffer.resize(std::min<size_t>(size, shm::kMaximumReadBytes));
    worker_.directory_inodes.clear();
  }

  bool empty() const { return used_ == 0; }
  bool full() const { return full_; }

  // Adds "." or "..".
  void add_dot(const char* name, uint64_t ino, uint64_t next_cookie) {
    add_name(name, ino, DT_DIR, next_cookie);
  }

  // Adds an entry; false if there is no room for it.
  bool add(const shm::DirectoryEntry& entry) {
    if (entry.name.empty() || entry.name.size() > NAME_MAX) return true;
    char name[NAME_MAX + 1];
    std::memcpy(name, entry.name.data(), entry.name.size());
    name[entry.name.size()] = '\0';
    // Our own files hide those of the source with their names.
    if (directory_ == operations_.inodes_.root() && virtual_file(name) != nullptr) return true;
    if (plus_ && entry.info != nullptr && add_with_attributes(name, entry)) return !full_;
    return add_name(name, entry.ino, entry.type, entry.next_cookie);
  }

  void reply() {
    if (fuse_reply_buf(request_, worker_.directory_buffer.data(), used_) == 0) return;
    // The kernel did not take the entries, so it does not hold their inodes.
    for (Inode* inode : worker_.directory_inodes) operations_.inodes_.release(inode);
  }

 private:
  char* position() { return worker_.directory_buffer.data() + used_; }
  size_t room() const { return worker_.directory_buffer.size() - used_; }
  bool take(size_t bytes) {
    full_ = bytes > room();
    if (!full_) used_ += bytes;
    return !full_;
  }

  bool add_name(const char* name, uint64_t ino, unsigned type, uint64_t next_cookie) {
    fuse_entry_param entry{};  // nodeid 0: no attributes
    entry.attr.st_ino = ino;
    entry.attr.st_mode = DTTOIF(type);
    const off_t next = static_cast<off_t>(next_cookie);
    return take(plus_ ? fuse_add_direntry_plus(request_, position(), room(), name, &entry, next)
                      : fuse_add_direntry(request_, position(), room(), name, &entry.attr, next));
  }

  // Adds an entry with attributes, which counts as a lookup of it. False: the attributes must not
  // go out, because the kernel has pages of an older version than they tell, or had until a moment ago.
  bool add_with_attributes(const char* name, const shm::DirectoryEntry& entry) {
    const size_t needed = fuse_add_direntry_plus(request_, nullptr, 0, name, nullptr, 0);
    if (needed > room()) {
      full_ = true;
      return true;
    }
    InodeTable& inodes = operations_.inodes_;
    Inode* inode = inodes.reference(*entry.info, directory_, name);
    const bool stale = inode->pages_stale();
    if (stale || operations_.refusals_.settling(*inode)) {
      if (stale) operations_.invalidator_.expire_attributes(inode, std::chrono::milliseconds{0});
      inodes.release(inode);
      return false;
    }
    const fuse_entry_param parameters = operations_.entry_of(*inode, entry.info->validated_at_ns);
    take(fuse_add_direntry_plus(request_, position(), room(), name, &parameters,
                                static_cast<off_t>(entry.next_cookie)));
    worker_.directory_inodes.push_back(inode);
    return true;
  }

  Operations& operations_;
  Worker& worker_;
  fuse_req_t request_;
  Inode* directory_;
  const bool plus_;
  size_t used_ = 0;
  bool full_ = false;
};

// The kernel keeps listings from one open to the next, which python's imports and every walk of a tree gain
// by: as fresh as the attributes, since each open is answered after they were looked at. A directory that
// changed a moment ago may change again within one tick of its clock, so that its times do not tell: its
// listings are not kept.
void Operations::open_directory(Worker& worker, fuse_req_t request, fuse_ino_t id,
                                const fuse_file_info* info) {
  if (is_virtual(id)) {
    reply_error(request, ENOTDIR);
    return;
  }
  Inode* inode = inodes_.from_nodeid(id);
  if (const Status status = refresh(worker, inode, attribute_timeout_ns_); !status.ok()) {
    reply_error(request, status.error_number());
    return;
  }
  after_invalidation(inode, [this, request, inode, reply = *info]() mutable {
    const bool keep = keep_cache(*inode);
    if (keep) inode->keep_listing();
    reply.cache_readdir = keep ? 1 : 0;
    reply.keep_cache = keep ? 1 : 0;
    fuse_reply_open(request, &reply);
  });
}

void Operations::read_directory(Worker& worker, fuse_req_t request, fuse_ino_t id, size_t size,
                                uint64_t cookie, bool plus) {
  if (is_virtual(id)) {
    reply_error(request, ENOTDIR);
    return;
  }
  Inode* directory = inodes_.from_nodeid(id);
  Listing listing(*this, worker, request, directory, size, plus);
  ListingPosition position = listing_position(cookie);
  if (position.dot) listing.add_dot(".", directory->attributes().ino, kAfterDot);
  if (position.dot_dot) listing.add_dot("..", inodes_.parent_ino(directory), kAfterDotDot);

  Status status;
  bool end = false;
  bool progress = true;
  do {
    progress = false;
    status = with_resolve(worker, directory, [&] {
      return worker.channel->read_directory(
          directory->handle(), position.source_cookie, plus, entries_in(size, plus),
          [&](const shm::DirectoryEntry& entry) {
            if (!listing.add(entry)) return false;
            position.source_cookie = entry.next_cookie;
            progress = true;
            return true;
          },
          &end);
    });
  } while (status.ok() && !end && progress && listing.empty());

  if (!status.ok() && listing.empty()) {
    reply_error(request, status.error_number());
  } else {
    listing.reply();
  }
}

}  // namespace cached::mount
