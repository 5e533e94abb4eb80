// Attachment: one session with one daemon process, from the handshake to the mappings; private to the client
// library.
//
// It believes nothing before it has checked it: every size, offset and count that the daemon states is held
// against the size of the descriptor (fstat) first, so that a daemon of another version, or a broken one, is
// an error message and not a SIGBUS. Geometry is copied out of the shared memory once and the copy is what is
// used.
//
// An attachment ends by mark_dead(): the daemon closed the socket, or was silent past a deadline. The
// mappings stay: what the index names in the arena goes on being served, until the last channel has moved to
// another attachment and the last reference unmaps all. Its rings are never used again, because the I/O of a
// dead daemon may still end in the session's buffers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "shm/handshake.h"
#include "shm/index_layout.h"
#include "shm/seq_table.h"
#include "shm/session_layout.h"

namespace cached::shm {

// What to ask for at the handshake.
struct AttachmentRequest {
  std::string socket;
  std::string volume;
  uint64_t snapshot = 0;
  std::string label;
  unsigned queue_count = 1;
  unsigned queue_depth = 16;
  uint64_t buffer_bytes = 0;
  uint64_t session_uuid[2] = {};
  uint64_t next_request_number = 0;
  uint64_t timeout_ms = 5000;  // for the whole handshake
  int stop_fd = -1;            // when it becomes readable the handshake is given up
};

// Owns one mapping of a whole descriptor.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();
  // Maps all of `fd`, which has at least `minimum_bytes`. `what` names it in errors. EPROTO when it is
  // smaller.
  static Result<Mapping> map(int fd, bool writable, uint64_t minimum_bytes, const std::string& what);
  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
};

// A table of the index with what is needed to find a key's partition.
template <typename Payload>
struct Table {
  SeqTableReader<Payload> reader;
  unsigned partitions = 1;
};

class Attachment {
 public:
  // Connects, shakes hands, maps and checks. errno of connect(), the daemon's refusal, ETIMEDOUT without an
  // answer, EPROTO for anything that does not fit, ECANCELED when `stop_fd` became readable.
  static Result<std::shared_ptr<Attachment>> open(const AttachmentRequest& request);
  Attachment() = default;
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;

  // Any thread: gives the session up and wakes every channel that waits in it. The keeper then sees the
  // socket's end.
  void mark_dead();
  bool dead() const { return dead_.load(std::memory_order_seq_cst); }

  int socket() const { return socket_.get(); }
  uint64_t volume() const { return volume_; }
  const InodeInfo& root() const { return root_; }
  const uint64_t* name_hash_key() const { return name_hash_key_; }
  const Table<BlockRecord>& blocks() const { return blocks_; }
  const Table<NameRecord>& names() const { return names_; }
  const Table<InodeRecord>& inodes() const { return inodes_; }
  const std::byte* arena() const { return arena_.data(); }
  uint64_t arena_bytes() const { return arena_bytes_; }
  // Whether the daemon tells of changes of the volume.
  bool tells_changes() const { return tells_changes_; }
  // How long the daemon may take for an answer because the volume's source does not answer it.
  uint64_t answer_timeout_ns() const { return answer_timeout_ns_; }

  QueueView queue(unsigned queue) const { return QueueView(session_.data(), geometry_, queue); }
  // Says that `queue` has submissions; wake_shard() must follow if the daemon is to look at once.
  void ring_doorbell(unsigned queue) const;
  // Wakes the shard of `queue` if it sleeps; true if that took a system call.
  bool wake_shard(unsigned queue) const;

  // Whether each queue has rows for who reads what.
  bool has_use_rows() const {
    return header().use_rows == kUseRows &&
           geometry_.queue_stride_bytes >= use_rows_end(geometry_.queue_depth);
  }

 private:
  Status shake_hands(const AttachmentRequest& request, Welcome* welcome, std::vector<UniqueFd>* fds);
  Status adopt_index(int fd);
  Status adopt_session(int fd, const AttachmentRequest& request);
  SessionHeader& header() const { return *reinterpret_cast<SessionHeader*>(session_.data()); }
  unsigned shard_of(unsigned queue) const { return static_cast<unsigned>((session_id_ + queue) % shards_); }

  UniqueFd socket_;
  Mapping index_;
  Mapping arena_;
  Mapping session_;
  std::vector<UniqueFd> shard_events_;
  SessionGeometry geometry_;
  uint64_t session_id_ = 0;
  uint64_t volume_ = 0;
  InodeInfo root_;
  uint64_t arena_bytes_ = 0;
  uint64_t answer_timeout_ns_ = 0;
  bool tells_changes_ = false;
  unsigned shards_ = 1;
  uint64_t name_hash_key_[2] = {};
  Table<BlockRecord> blocks_;
  Table<NameRecord> names_;
  Table<InodeRecord> inodes_;
  std::atomic<bool> dead_{false};
};

}  // namespace cached::shm
