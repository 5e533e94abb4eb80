// The session socket: see session_server.h.
#include "cached/server/session_server.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <future>

#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"

namespace cached::server {
namespace {

constexpr uint64_t kHelloTimeoutNs = 5 * kNanosecondsPerSecond;
constexpr size_t kMaximumPending = 64;
constexpr uint64_t kMaximumSessionBytes = 256 * kMiB;
constexpr int kSoPeerPidfd = 77;  // SO_PEERPIDFD, Linux 6.5; Debian 12's headers do not have it

// The text of a fixed field, or nothing if it is not zero-terminated.
template <size_t N>
std::optional<std::string> text_of(const char (&field)[N]) {
  const void* const end = std::memchr(field, 0, N);
  if (end == nullptr) return std::nullopt;
  return std::string(field, static_cast<const char*>(end));
}

// A pidfd of the socket's peer. Without SO_PEERPIDFD the pid could have been reused since it connected, which
// can only make the session live as long as the wrong process: too long, never too short for the process that
// holds the socket, whose end the caller also sees by the socket.
UniqueFd pidfd_of(int socket, pid_t pid) {
  int fd = -1;
  socklen_t size = sizeof fd;
  if (::getsockopt(socket, SOL_SOCKET, kSoPeerPidfd, &fd, &size) == 0) return UniqueFd(fd);
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

Status check_geometry(const shm::Hello& hello) {
  if (hello.queue_count == 0 || hello.queue_count > shm::kMaximumQueues) {
    return Status(
        EINVAL, "the client asks for " + std::to_string(hello.queue_count) + " queues; 1 to 64 are possible");
  }
  if (hello.queue_depth < shm::kMinimumQueueDepth || hello.queue_depth > shm::kMaximumQueueDepth ||
      !std::has_single_bit(hello.queue_depth)) {
    return Status(EINVAL, "the client asks for a queue depth that is not a power of two from 4 to 256");
  }
  if (hello.buffer_bytes < shm::kMinimumBufferBytes || hello.buffer_bytes > shm::kMaximumBufferBytes ||
      hello.buffer_bytes * hello.queue_count > kMaximumSessionBytes) {
    return Status(EINVAL,
                  "the client asks for buffers outside the limits (64 KiB to 16 MiB, 256 MiB in all)");
  }
  return Status();
}

}  // namespace

Result<std::unique_ptr<SessionServer>> SessionServer::create(const Options& options,
                                                             memory_tier::SharedMemory& memory,
                                                             std::vector<Shard*> shards,
                                                             std::map<std::string, volume::Volume*> volumes) {
  std::unique_ptr<SessionServer> server(
      new SessionServer(options, memory, std::move(shards), std::move(volumes)));
  if (Status status = server->listen(); !status.ok()) return status;
  SessionServer* const self = server.get();
  server->thread_ = std::thread([self] { self->run(); });
  return server;
}

SessionServer::SessionServer(const Options& options, memory_tier::SharedMemory& memory,
                             std::vector<Shard*> shards, std::map<std::string, volume::Volume*> volumes)
    : options_(options), memory_(memory), shards_(std::move(shards)), volumes_(std::move(volumes)) {
  if (options_.group.empty()) return;
  if (const group* const found = ::getgrnam(options_.group.c_str())) trusted_gid_ = found->gr_gid;
}

Status SessionServer::listen() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (options_.socket.size() >= sizeof address.sun_path) {
    return Status(ENAMETOOLONG, "the socket path " + options_.socket + " is longer than 107 bytes");
  }
  std::memcpy(address.sun_path, options_.socket.c_str(), options_.socket.size() + 1);
  const std::string lock_path = options_.socket + ".lock";
  lock_.reset(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock_.valid()) return Status::from_errno("cannot open the lock " + lock_path);
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return Status(EADDRINUSE, "another cached is running on " + options_.socket + " (it holds " + lock_path +
                                  "); stop it, or configure another daemon.socket");
  }
  ::unlink(options_.socket.c_str());
  listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_.valid() ||
      ::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(options_.socket.c_str(), 0666) != 0 || ::listen(listener_.get(), 128) != 0) {
    return Status::from_errno("cannot listen on " + options_.socket);
  }
  stop_event_.reset(::eventfd(0, EFD_CLOEXEC));
  if (!stop_event_.valid()) return Status::from_errno("cannot make an eventfd");
  return Status();
}

SessionServer::~SessionServer() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    if (::write(stop_event_.get(), &one, sizeof one) != sizeof one)
      log_error("cannot wake the session thread");
    thread_.join();
    ::unlink(options_.socket.c_str());
    while (!live_.empty()) forget(live_.size() - 1);
  }
}

std::vector<std::shared_ptr<Session>> SessionServer::sessions() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Session>> sessions;
  for (const Live& live : live_) sessions.push_back(live.session);
  return sessions;
}

std::vector<uint64_t> SessionServer::past_counters() const {
  const std::lock_guard lock(mutex_);
  std::vector<uint64_t> sums(static_cast<size_t>(shm::Counter::kCount));
  for (const auto& [volume, counters] : past_counters_) {
    std::transform(sums.begin(), sums.end(), counters.begin(), sums.begin(), std::plus<>());
  }
  return sums;
}

SessionServer::Snapshot SessionServer::snapshot() const {
  const std::lock_guard lock(mutex_);
  Snapshot snapshot{{}, past_counters_};
  for (const Live& live : live_) snapshot.sessions.push_back(live.session);
  return snapshot;
}

void SessionServer::on_all_shards(const std::function<void(Shard&)>& work) {
  for (Shard* const shard : shards_) {
    // Shared: the shard may still be inside set_value() when we go on.
    auto done = std::make_shared<std::promise<void>>();
    std::future<void> answered = done->get_future();
    shard->reactor().post([&work, shard, done] {
      work(*shard);
      done->set_value();
    });
    answered.wait();
  }
}

void SessionServer::run() {
  ::pthread_setname_np(::pthread_self(), "sessions");
  for (;;) {
    std::vector<pollfd> polled{{stop_event_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const Pending& pending : pending_) polled.push_back({pending.socket.get(), POLLIN, 0});
    for (const Live& live : live_) {
      polled.push_back({live.socket.get(), POLLIN, 0});  // a negative descriptor is skipped
      polled.push_back({live.pidfd.get(), POLLIN, 0});
    }
    int timeout_ms = -1;
    const uint64_t now_ns = system_clock().monotonic_ns();
    if (!pending_.empty()) {
      const uint64_t first_ns = pending_.front().deadline_ns;  // the oldest is first
      const uint64_t rest_ns = first_ns > now_ns ? first_ns - now_ns : 0;
      timeout_ms = static_cast<int>(rest_ns / kNanosecondsPerMillisecond) + 1;
    }
    if (::poll(polled.data(), polled.size(), timeout_ms) < 0 && errno != EINTR) {
      log_error("the session thread cannot poll: {}", strerror(errno));
      return;
    }
    if (polled[0].revents != 0) return;
    // From the back, so that removing one does not move those still to be looked at.
    const size_t first_live = 2 + pending_.size();
    for (size_t i = live_.size(); i-- > 0;) {
      if (polled[first_live + 2 * i].revents != 0) close_socket(&live_[i]);
      if (polled[first_live + 2 * i + 1].revents != 0) forget(i);
    }
    const uint64_t after_ns = system_clock().monotonic_ns();
    for (size_t i = pending_.size(); i-- > 0;) {
      const bool ready = polled[2 + i].revents != 0;
      if (!ready && pending_[i].deadline_ns > after_ns) continue;
      Pending pending = std::move(pending_[i]);
      pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(i));
      if (ready) greet(std::move(pending));
    }
    if (polled[1].revents != 0) accept_one();
  }
}

void SessionServer::accept_one() {
  Pending pending;
  pending.socket.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!pending.socket.valid()) {
    // Out of descriptors the connection stays in the queue; without a pause this would spin until one is
    // free.
    if (errno == EMFILE || errno == ENFILE) ::usleep(10'000);
    return;
  }
  if (pending_.size() >= kMaximumPending) pending_.erase(pending_.begin());
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(pending.socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return;
  pending.peer = {credentials.pid, credentials.uid, credentials.gid};
  pending.trusted = trusted(pending.socket.get(), pending.peer);
  pending.deadline_ns = system_clock().monotonic_ns() + kHelloTimeoutNs;
  pending_.push_back(std::move(pending));
}

bool SessionServer::trusted(int socket, const Peer& peer) const {
  if (peer.uid == 0 || peer.uid == ::geteuid()) return true;
  if (trusted_gid_ < 0) return false;
  if (peer.gid == static_cast<gid_t>(trusted_gid_)) return true;
  std::vector<gid_t> groups(65536 / sizeof(gid_t));
  socklen_t size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0) return false;
  groups.resize(size / sizeof(gid_t));
  return std::find(groups.begin(), groups.end(), static_cast<gid_t>(trusted_gid_)) != groups.end();
}

void SessionServer::greet(Pending pending) {
  shm::Hello hello;
  std::vector<UniqueFd> uninvited;  // closed at once
  Status status = shm::receive_packet(pending.socket.get(), &hello, sizeof hello, &uninvited);
  std::shared_ptr<Session> session;
  if (status.ok()) {
    Result<std::shared_ptr<Session>> admitted = admit(pending, hello);
    status = admitted.status();
    if (admitted.ok()) session = std::move(admitted).value();
  } else if (status.error_number() == ECONNRESET) {
    return;
  }
  if (!status.ok()) {
    log_warning("refused a client (pid {}, uid {}): {}", pending.peer.pid, pending.peer.uid,
                printable(status.message()));
    shm::Welcome refusal;
    refusal.error_number = status.error_number();
    std::strncpy(refusal.error, status.message().c_str(), sizeof refusal.error - 1);
    if (!shm::send_packet(pending.socket.get(), &refusal, sizeof refusal, {}).ok()) return;
    return;
  }
  UniqueFd pidfd = pidfd_of(pending.socket.get(), pending.peer.pid);
  if (!pidfd.valid()) return;  // the process is gone already
  Live live{session, std::move(pending.socket), std::move(pidfd)};
  session->set_socket(live.socket.get());
  // Before the client can publish a hazard, every shard must count it.
  on_all_shards([&](Shard& shard) { shard.add_session(session); });
  const Status welcomed = welcome(live.socket.get(), *session);
  log_info("session {}: pid {}, uid {}, volume {}, {}", session->id(), session->peer().pid,
           session->peer().uid, session->volume()->name(), printable(session->label()));
  {
    const std::lock_guard lock(mutex_);
    live_.push_back(std::move(live));
  }
  if (!welcomed.ok()) close_socket(&live_.back());
}

Result<std::shared_ptr<Session>> SessionServer::admit(const Pending& pending, const shm::Hello& hello) {
  if (hello.magic != shm::kHelloMagic)
    return Status(EPROTO, "the client does not speak the protocol of cached");
  if (hello.version != shm::kProtocolVersion) {
    return Status(EPROTO, "the client speaks version " + std::to_string(hello.version) +
                              " of the protocol, this daemon " + std::to_string(shm::kProtocolVersion) +
                              "; install the same release of both");
  }
  if (!pending.trusted) {
    return Status(EACCES, "uid " + std::to_string(pending.peer.uid) +
                              " may not attach; run as root or join the group " +
                              (options_.group.empty() ? "that daemon.group names" : options_.group));
  }
  CACHED_RETURN_IF_ERROR(check_geometry(hello));
  const std::optional<std::string> volume_name = text_of(hello.volume);
  if (!volume_name || !text_of(hello.label))
    return Status(EINVAL, "the client's volume or label is not terminated");
  const auto volume = volumes_.find(*volume_name);
  if (volume == volumes_.end()) {
    return Status(
        ENOENT, "no volume \"" + *volume_name + "\" is configured; `cachedctl volumes` lists those that are");
  }
  if (live_.size() >= options_.max_sessions) {
    return Status(EUSERS, "all " + std::to_string(options_.max_sessions) +
                              " sessions are in use; raise daemon.max_sessions");
  }
  return Session::create(next_session_id_++, pending.peer, hello, volume->second,
                         static_cast<unsigned>(shards_.size()));
}

Status SessionServer::welcome(int socket, const Session& session) {
  const volume::InodeAnswer root = session.volume()->root(session.snapshot());
  shm::Welcome packet;
  std::vector<int> fds;
  if (!root.outcome.ok()) {
    packet.error_number = root.outcome.error;
    const std::string snapshot =
        session.snapshot() == 0 ? "" : "snapshot " + std::to_string(session.snapshot()) + " of ";
    const std::string text = "the root of " + snapshot + "volume " + session.volume()->name() +
                             " cannot be read (" + session.volume()->source() +
                             "): " + strerror(root.outcome.error);
    std::strncpy(packet.error, text.c_str(), sizeof packet.error - 1);
  } else {
    packet.session_id = session.id();
    packet.volume = session.volume()->id();
    packet.root = root.info.handle;
    packet.root_info = root.info;
    fds = {memory_.index_fd_read_only(), memory_.arena_fd_read_only(), session.memory_fd()};
    for (unsigned shard = 0; shard < shards_.size(); ++shard) fds.push_back(session.eventfd(shard));
    packet.fd_count = static_cast<uint32_t>(fds.size());
  }
  CACHED_RETURN_IF_ERROR(shm::send_packet(socket, &packet, sizeof packet, fds));
  return root.outcome.ok() ? Status() : Status(root.outcome.error, packet.error);
}

void SessionServer::close_socket(Live* live) {
  if (!live->socket.valid()) return;
  live->session->set_socket(-1);
  live->session->stop_serving();
  const uint64_t id = live->session->id();
  on_all_shards([id](Shard& shard) { shard.stop_serving(id); });
  live->socket.reset();
}

void SessionServer::forget(size_t index) {
  close_socket(&live_[index]);
  const std::shared_ptr<Session> session = live_[index].session;
  const uint64_t id = session->id();
  on_all_shards([id](Shard& shard) { shard.remove_session(id); });
  log_info("session {} ended", id);
  const std::lock_guard lock(mutex_);
  std::vector<uint64_t>& past = past_counters_[session->volume()->name()];
  past.resize(static_cast<size_t>(shm::Counter::kCount));
  for (size_t i = 0; i < past.size(); ++i) past[i] += session->counter(static_cast<shm::Counter>(i));
  live_.erase(live_.begin() + static_cast<ptrdiff_t>(index));
}

}  // namespace cached::server
