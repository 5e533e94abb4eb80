// The client library: what a mount, a benchmark or any other program on the node uses to read through cached.
//
// One Client for each volume and process; one Channel for each thread that reads. A thread that wants many
// reads in flight has an AsyncReader instead (async_reader.h). A hit is answered from
// shared memory without the daemon; anything else goes over the channel's ring and waits. The library
// attaches again by itself when the daemon was restarted: calls that need the daemon wait up to
// `daemon_timeout_ms`, then fail with EIO; hits go on.
//
// Threads. Client: any thread. Channel: one thread at a time. ReadView: the thread of its channel, and before
// the channel's next call.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "shm/notice.h"
#include "shm/session_layout.h"
#include "shm/types.h"

namespace cached::shm {

inline constexpr const char* kDefaultSocket = "/run/cached/cached.sock";

struct ClientOptions {
  std::string socket = kDefaultSocket;
  std::string volume;
  uint64_t snapshot = 0;  // of the volume; 0: the current one, and its successors
  std::string label;      // shown by `cachedctl sessions`
  unsigned channels = 1;  // queue pairs to ask for (limit kMaximumQueues)
  unsigned queue_depth = 16;
  uint64_t buffer_bytes = kMaximumReadBytes + kReadBufferSlackBytes + 64 * 1024;
  uint64_t daemon_timeout_ms = 30'000;
  bool count_uses = true;  // by user and data set, for `cachedctl top`; benchmarks measure what it costs
};

// How fresh an answer from the name table must be.
struct Freshness {
  uint64_t maximum_age_ns = 1'000'000'000;
};

// Answer of lookup(): the inode, or knowledge that the name does not exist.
struct LookupResult {
  bool exists = false;
  uint64_t name_validated_at_ns = 0;  // when (parent, name) was last known to lead there
  InodeInfo info;                     // valid if exists
};

// A listing's entry as readdir() hands it out; `name` points into the channel's buffer.
struct DirectoryEntry {
  std::string_view name;
  uint64_t ino = 0;
  uint64_t next_cookie = 0;
  uint8_t type = 0;
  const InodeInfo* info = nullptr;  // null without attributes
};

// One file, as the caller knows it. The library clips nothing: the caller has clipped to `size`.
struct FileReference {
  Handle handle;
  ObjectId object;
  uint64_t layout_base = 0;
  LayoutKind layout = LayoutKind::kObject;
  uint16_t data_set = 0;
};

struct ReadState;

// Bytes of a read, in place: iovecs into the arena, or into the session's buffer. Nothing there is
// overwritten while the view lives. Destroying it clears hazards and gives pins back. Views end before the
// Channel or AsyncReader that they come from.
class ReadView {
 public:
  ReadView() = default;
  ReadView(ReadView&& other) noexcept;
  ReadView& operator=(ReadView&& other) noexcept;
  ~ReadView() { release(); }
  const iovec* iovecs() const;
  unsigned iovec_count() const;
  uint64_t bytes() const;
  // Gives everything back now.
  void release();

 private:
  friend class Channel;
  friend class AsyncReader;
  ReadView(ReadState* read, uint64_t serial) : read_(read), serial_(serial) {}
  bool valid() const;
  ReadState* read_ = nullptr;
  uint64_t serial_ = 0;  // a later call on the channel ends a view that was forgotten
};

// Why a call failed beyond its errno.
enum class Trouble : uint8_t {
  kNone,
  kHandleUnknown,  // ESTALE: the daemon does not know the handle (any more); resolve() the path, then try
                   // again
  kObjectChanged,  // ESTALE: the file has another object id now; attributes() tells it
};

class Client;

class Channel {
 public:
  ~Channel();

  // (parent, name) -> inode. From the name table if both the name and the inode are fresh enough.
  Result<LookupResult> lookup(const Handle& parent, std::string_view name, const Freshness& freshness);
  // Attributes of an inode. From the name table if fresh enough.
  Result<InodeInfo> attributes(const Handle& handle, const Freshness& freshness);
  // What the name table or the caller last knew counts while the daemon is away: like attributes(), but asks
  // no daemon. Nothing if the table has no record.
  bool cached_attributes(const Handle& handle, InodeInfo* info);
  // Walks `path` (names joined by '/', no leading '/'; empty: the root) from the root: gives the daemon a
  // handle back.
  Result<InodeInfo> resolve(const Handle& expected, std::string_view path);

  // The user for whom the channel reads from now on, for the figures of `cachedctl top`.
  void set_user(uint32_t uid);
  // Reads [offset, offset + length) of the file; length at most kMaximumReadBytes. Either all of it or an
  // error.
  Result<ReadView> read(const FileReference& file, uint64_t offset, uint64_t length);
  // Hints that [offset, offset + length) will be read soon. Never waits, may be dropped.
  void prefetch(const FileReference& file, uint64_t offset, uint64_t length);

  Result<std::string> read_link(const Handle& handle);
  // Calls `visit` for entries from `cookie` (0: the first) on until it returns false or one batch is through.
  // A batch has at most `maximum_entries` (0: the daemon's choice): ask for what you can use, the rest is
  // fetched again. *end_of_directory says whether the listing is complete. "." and ".." are not listed.
  Status read_directory(const Handle& handle, uint64_t cookie, bool with_attributes, uint32_t maximum_entries,
                        const std::function<bool(const DirectoryEntry&)>& visit, bool* end_of_directory);
  Result<std::string> get_xattr(const Handle& handle, std::string_view name);
  // Names, each ended by a zero byte.
  Result<std::string> list_xattrs(const Handle& handle);
  Result<VolumeStatistics> statistics();

  // Why the last call failed.
  Trouble trouble() const;

  // Opaque; public for the library's own parts.
  struct Impl;
  explicit Channel(std::unique_ptr<Impl> impl);
  Impl* impl() { return impl_.get(); }

 private:
  std::unique_ptr<Impl> impl_;
};

class Client {
 public:
  // Connects and attaches. ENOENT/ECONNREFUSED when no daemon listens, and what the daemon answers otherwise
  // (ENOENT for an unknown volume, EPROTO for another version, EUSERS at the session limit); the message is
  // fit for a user.
  static Result<std::unique_ptr<Client>> connect(const ClientOptions& options);
  ~Client();

  // A channel of its own for the calling thread; EAGAIN when all `channels` are taken. Destroy it before the
  // client.
  Result<std::unique_ptr<Channel>> open_channel();

  // Calls `handler` for what the daemon tells of records that are not right any more, and, where the volume
  // tells such things at all, with kEverything after each new attachment, since nobody was told meanwhile.
  // Comes from a thread of the client's own, one call at a time; must not wait for the daemon. Null ends it:
  // when this returns no call is under way.
  void on_notices(std::function<void(const std::vector<Notice>&)> handler);
  // Whether changes of the volume are told.
  bool tells_changes() const;

  // The volume's root, as of the last attachment.
  InodeInfo root() const;
  // False while the daemon is away.
  bool attached() const;
  // Sums of this session's counters.
  uint64_t counter(Counter counter) const;
  // The mapped arena and its size, for benchmarks that compare a hit with a copy of the same memory.
  struct ArenaView {
    const std::byte* data;
    uint64_t bytes;
  };
  ArenaView arena() const;

  struct Impl;
  explicit Client(std::shared_ptr<Impl> impl);

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace cached::shm
