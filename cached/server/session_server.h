// SessionServer: the session socket: who may connect, the handshake, and the end of sessions.
//
// One thread, asleep in poll() while nothing happens. It owns the listening socket, connections that have not
// said hello yet, and of each session the socket and the pidfd. A session ends in two steps (PROTOCOL.md):
// when its socket closes, shards stop serving it; when its process is gone, shards forget its hazards and
// pins.
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
  // Sums of the counters of sessions that are gone, in order of shm::Counter. Any thread.
  std::vector<uint64_t> past_counters() const;
  // Both as of one moment, those of sessions that are gone by the name of their volume. Any thread.
  struct Snapshot {
    std::vector<std::shared_ptr<Session>> sessions;
    std::map<std::string, std::vector<uint64_t>> past_counters;
  };
  Snapshot snapshot() const;

 private:
  struct Pending {
    UniqueFd socket;
    Peer peer;
    bool trusted = false;
    uint64_t deadline_ns = 0;
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
  void accept_one();
  bool trusted(int socket, const Peer& peer) const;
  void greet(Pending pending);
  // The sentence of refusal, or the new session.
  Result<std::shared_ptr<Session>> admit(const Pending& pending, const shm::Hello& hello);
  Status welcome(int socket, const Session& session);
  void close_socket(Live* live);
  void forget(size_t index);
  void on_all_shards(const std::function<void(Shard&)>& work);

  const Options options_;
  memory_tier::SharedMemory& memory_;
  const std::vector<Shard*> shards_;
  const std::map<std::string, volume::Volume*> volumes_;
  int64_t trusted_gid_ = -1;
  UniqueFd lock_;
  UniqueFd listener_;
  UniqueFd stop_event_;
  std::vector<Pending> pending_;
  mutable std::mutex mutex_;  // guards live_ (changed by the thread only) and past_counters_
  std::vector<Live> live_;
  std::map<std::string, std::vector<uint64_t>> past_counters_;  // by volume
  uint64_t next_session_id_ = 1;
  std::thread thread_;
};

}  // namespace cached::server
