// Session: one client's connection, as the daemon holds it.
//
// Made by the session thread, then shared with every shard; it is freed when the client's process is gone,
// every shard has let go of it, and the last request that writes into its memory has ended. Immutable but for
// the atomics.
//
// The shared memory is the client's to write at any time. Geometry and identity are therefore kept here in
// private, and what is read from the mapping is a hint (counters, touches), a hazard (any value is safe), or
// copied and then checked.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "cached/volume/volume.h"
#include "shm/handshake.h"
#include "shm/notice.h"
#include "shm/session_layout.h"

namespace cached::server {

struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};

class Session {
 public:
  // Makes the session's memory and eventfds by what `hello` asks for, which has been checked against the
  // limits.
  static Result<std::shared_ptr<Session>> create(uint64_t id, const Peer& peer, const shm::Hello& hello,
                                                 volume::Volume* volume, unsigned shards);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  uint64_t id() const { return id_; }
  const Peer& peer() const { return peer_; }
  const std::string& label() const { return label_; }
  volume::Volume* volume() const { return volume_; }
  // Of the volume; 0: the current one.
  uint64_t snapshot() const { return snapshot_; }
  uint64_t started_ns() const { return started_ns_; }
  const shm::SessionGeometry& geometry() const { return geometry_; }
  shm::QueueView queue(unsigned index) const { return {memory_, geometry_, index}; }
  shm::Doorbell& doorbell(unsigned shard) const { return header()->doorbells[shard]; }
  int memory_fd() const { return memory_fd_.get(); }
  int eventfd(unsigned shard) const { return eventfds_[shard].get(); }
  // What the client says of itself, as far as it is possible: a figure that nobody can have reached since the
  // session began counts as 0, so that a client that writes nonsense does not spoil the sums over all of
  // them.
  uint64_t counter(shm::Counter counter) const;

  // What the client says of who reads what: adds to `uses`, by shm::use_key(). At most so many keys as a
  // client can write: kUseRows for each queue.
  struct Use {
    uint64_t reads = 0;
    uint64_t hit_bytes = 0;
    uint64_t miss_bytes = 0;
  };
  void add_uses(std::map<uint64_t, Use>* uses) const;

  // True while requests are served; false once the socket has closed or the client has broken the protocol.
  bool serving() const { return serving_.load(std::memory_order_relaxed); }
  void stop_serving() { serving_.store(false, std::memory_order_relaxed); }
  // Slots pinned for this session, over all shards.
  std::atomic<int64_t>& pins() { return pins_; }

  // Notices to the client; shard 0's thread, while the session is attached there. tell() drops them if the
  // client wants none, and what cannot be sent becomes one notice of everything, which send_overdue() tries
  // again.
  void start_notices();  // the client has its Welcome
  void tell(const std::vector<shm::Notice>& notices);
  void send_overdue();
  bool notices_overdue() const { return notices_overdue_ && notices_started_; }

  // Ends the client's service for breaking the protocol: the socket is shut down, which the session thread
  // sees. Any thread, once or often.
  void end_service(const std::string& why);
  // The session's socket, owned by the session thread.
  void set_socket(int socket) { socket_.store(socket, std::memory_order_release); }

 private:
  Session() = default;
  uint64_t age_s() const;
  shm::SessionHeader* header() const { return reinterpret_cast<shm::SessionHeader*>(memory_); }

  uint64_t id_ = 0;
  Peer peer_;
  std::string label_;
  volume::Volume* volume_ = nullptr;
  uint64_t snapshot_ = 0;
  uint64_t started_ns_ = 0;
  shm::SessionGeometry geometry_;
  std::byte* memory_ = nullptr;
  UniqueFd memory_fd_;
  std::vector<UniqueFd> eventfds_;
  std::atomic<bool> serving_{true};
  std::atomic<int64_t> pins_{0};
  std::atomic<int> socket_{-1};
  bool wants_notices_ = false;
  bool notices_started_ = false;  // both: shard 0's
  bool notices_overdue_ = false;
};

}  // namespace cached::server
