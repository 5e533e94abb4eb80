// SessionServer: the session socket: who may connect, the handshake, and the end of sessions.
//
// One thread, asleep in poll() while nothing happens. It owns the listening socket, connections that have not
// said hello yet, those whose root is being looked for (greeter.h), and of each session the socket and the
// pidfd. A session ends in two steps (PROTOCOL.md): when its socket closes, shards stop serving it; when its
// process is gone, shards forget its hazards and pins.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "cached/config/config.h"
#include "cached/memory_tier/shared_memory.h"
#include "cached/server/greeter.h"
#include "cached/server/session.h"
#include "cached/server/shard.h"

namespace cached::server {

class SessionServer {
 public:
  struct Options {
    std::string socket;
    std::string group;  // members may attach; empty: root and the daemon's own uid only
    unsigned max_sessions = 256;
  };
  // Locks `socket`.lock, listens and starts. EADDRINUSE: another daemon has the lock; nothing of it is
  // disturbed.
  static Result<std::unique_ptr<SessionServer>> create(const Options& options,
                                                       memory_tier::SharedMemory& memory,
                                                       std::vector<Shard*> shards,
                                                       std::map<std::string, volume::Volume*> volumes);
  // Closes all connections, tells the shards, removes the socket.
  ~SessionServer();

  // The sessions now, ended ones included whose process still lives. Any thread.
  std::vector<std::shared_ptr<Session>> sessions() const;
  // What may be mounted, and how many sessions there may be, from now on. Sessions that are there stay. Any
  // thread.
  void reconfigure(std::map<std::string, volume::Volume*> volumes, unsigned max_sessions);
  // Both as of one moment, those of sessions that are gone by the name of their volume. Any thread.
  struct Snapshot {
    std::vector<std::shared_ptr<Session>> sessions;
    std::map<std::string, std::vector<uint64_t>> past_counters;  // in order of shm::Counter
    // Over all sessions, those that are gone included.
    uint64_t sum(shm::Counter counter) const;
  };
  Snapshot snapshot() const;

 private:
  struct Pending {
    UniqueFd socket;
    Peer peer;
    bool trusted = false;
    uint64_t deadline_ns = 0;
  };
  // Admitted, and waiting for the root of its volume.
  struct Asking {
    std::shared_ptr<Session> session;
    UniqueFd socket;
    UniqueFd pidfd;
  };
  struct Live {
    std::shared_ptr<Session> session;
    UniqueFd socket;  // invalid once closed
    UniqueFd pidfd;
  };

  SessionServer(const Options& options, memory_tier::SharedMemory& memory, std::vector<Shard*> shards,
                std::map<std::string, volume::Volume*> volumes);
  Status listen();
  void run();
  // Until something is late; -1: nothing can be.
  int timeout_ms() const;
  void accept_one();
  bool trusted(int socket, const Peer& peer) const;
  void greet(Pending pending);
  // The sentence of refusal, or the new session.
  Result<std::shared_ptr<Session>> admit(const Pending& pending, const shm::Hello& hello);
  // Refuses, in a sentence, which is logged once a minute.
  void refuse(int socket, const Peer& peer, const Status& why);
  // Goes on with those whose root has come, or will not.
  void take_roots();
  void begin_session(Asking asking, const volume::InodeAnswer& root);
  Status welcome(int socket, const Session& session, const volume::InodeAnswer& root);
  void close_socket(Live* live);
  void forget(size_t index);
  void on_all_shards(const std::function<void(Shard&)>& work);
  void connect_volumes();

  const Options options_;
  memory_tier::SharedMemory& memory_;
  const std::vector<Shard*> shards_;
  int64_t trusted_gid_ = -1;
  UniqueFd lock_;
  UniqueFd listener_;
  UniqueFd stop_event_;
  std::unique_ptr<Greeter> greeter_;
  std::vector<Pending> pending_;
  std::map<uint64_t, Asking> asking_;         // by session id
  std::map<std::string, uint64_t> refusals_;  // when each was logged
  mutable std::mutex mutex_;  // guards all below but the last two; live_ is changed by the thread only
  std::map<std::string, volume::Volume*> volumes_;
  unsigned max_sessions_;
  std::vector<Live> live_;
  std::map<std::string, std::vector<uint64_t>> past_counters_;  // by volume
  uint64_t next_session_id_ = 1;
  std::thread thread_;
};

}  // namespace cached::server
