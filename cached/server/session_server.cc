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
#include <cstring>
#include <future>

#include "base/clock.h"
#include "base/log.h"
#include "cached/server/request_check.h"

namespace cached::server {
namespace {

constexpr uint64_t kHelloTimeoutNs = 5 * kNanosecondsPerSecond;
constexpr size_t kMaximumPending = 64;
constexpr size_t kMaximumRefusals = 256;
constexpr uint64_t kRefusalRepeatNs = 60 * kNanosecondsPerSecond;
constexpr int kSoPeerPidfd = 77;  // SO_PEERPIDFD, Linux 6.5; Debian 12's headers do not have it

// A pidfd of the socket's peer. Without SO_PEERPIDFD the pid could have been reused since it connected, which
// can only make the session live as long as the wrong process: too long, never too short for the process that
// holds the socket, whose end the caller also sees by the socket.
UniqueFd pidfd_of(int socket, pid_t pid) {
  int fd = -1;
  socklen_t size = sizeof fd;
  if (::getsockopt(socket, SOL_SOCKET, kSoPeerPidfd, &fd, &size) == 0) return UniqueFd(fd);
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

// Why a client cannot have the volume. What is wrong with the volume says more than the errno.
Status root_failure(volume::Volume& volume, uint64_t snapshot, int error) {
  const std::string which = snapshot == 0 ? "" : "snapshot " + std::to_string(snapshot) + " of ";
  std::string why = volume.trouble();
  if (why.empty() && snapshot != 0 && error == ENOENT)
    why = "there is no such snapshot; cachedctl volume snapshots " + volume.name() + " lists them";
  if (why.empty() && error == ETIMEDOUT) why = "it does not answer; look at the source, then try again";
  return Status(error, which + "volume " + volume.name() + " (" + volume.source() +
                           ") cannot be used: " + (why.empty() ? strerror(error) : why));
}

}  // namespace

Result<std::unique_ptr<SessionServer>> SessionServer::create(const Options& options,
                                                             memory_tier::SharedMemory& memory,
                                                             std::vector<Shard*> shards,
                                                             std::map<std::string, volume::Volume*> volumes) {
  std::unique_ptr<SessionServer> server(
      new SessionServer(options, memory, std::move(shards), std::move(volumes)));
  if (Status status = server->listen(); !status.ok()) return status;
  Result<std::unique_ptr<Greeter>> greeter = Greeter::create(system_clock());
  if (!greeter.ok()) return greeter.status();
  server->greeter_ = std::move(greeter).value();
  SessionServer* const self = server.get();
  server->thread_ = std::thread([self] { self->run(); });
  return server;
}

SessionServer::SessionServer(const Options& options, memory_tier::SharedMemory& memory,
                             std::vector<Shard*> shards, std::map<std::string, volume::Volume*> volumes)
    : options_(options),
      memory_(memory),
      shards_(std::move(shards)),
      volumes_(std::move(volumes)),
      max_sessions_(options.max_sessions) {
  connect_volumes();
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

// Lets every volume tell its clients of changes.
void SessionServer::connect_volumes() {
  Shard* const first = shards_.front();
  for (const auto& [name, volume] : volumes_) {
    first->reactor().post([volume = volume, first] {
      volume->set_tell_changes(
          [volume, first](const std::vector<shm::Notice>& notices) { first->tell(*volume, notices); });
    });
  }
}

void SessionServer::reconfigure(std::map<std::string, volume::Volume*> volumes, unsigned max_sessions) {
  const std::lock_guard lock(mutex_);
  volumes_ = std::move(volumes);
  max_sessions_ = max_sessions;
  connect_volumes();
}

uint64_t SessionServer::Snapshot::sum(shm::Counter counter) const {
  uint64_t total = 0;
  for (const auto& [volume, past] : past_counters) total += past[static_cast<size_t>(counter)];
  for (const std::shared_ptr<Session>& session : sessions) total += session->counter(counter);
  return total;
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
    std::vector<pollfd> polled{
        {stop_event_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}, {greeter_->event_fd(), POLLIN, 0}};
    const size_t first_pending = polled.size();
    for (const Pending& pending : pending_) polled.push_back({pending.socket.get(), POLLIN, 0});
    for (const Live& live : live_) {
      polled.push_back({live.socket.get(), POLLIN, 0});  // a negative descriptor is skipped
      polled.push_back({live.pidfd.get(), POLLIN, 0});
    }
    if (::poll(polled.data(), polled.size(), timeout_ms()) < 0 && errno != EINTR) {
      log_error("the session thread cannot poll: {}", strerror(errno));
      return;
    }
    if (polled[0].revents != 0) return;
    // From the back, so that removing one does not move those still to be looked at.
    const size_t first_live = first_pending + pending_.size();
    for (size_t i = live_.size(); i-- > 0;) {
      if (polled[first_live + 2 * i].revents != 0) close_socket(&live_[i]);
      if (polled[first_live + 2 * i + 1].revents != 0) forget(i);
    }
    const uint64_t after_ns = system_clock().monotonic_ns();
    for (size_t i = pending_.size(); i-- > 0;) {
      const bool ready = polled[first_pending + i].revents != 0;
      if (!ready && pending_[i].deadline_ns > after_ns) continue;
      Pending pending = std::move(pending_[i]);
      pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(i));
      if (ready) greet(std::move(pending));
    }
    take_roots();
    if (polled[1].revents != 0) accept_one();
  }
}

int SessionServer::timeout_ms() const {
  const int root_ms = greeter_->timeout_ms();
  if (pending_.empty()) return root_ms;
  const uint64_t now_ns = system_clock().monotonic_ns();
  const uint64_t first_ns = pending_.front().deadline_ns;  // the oldest is first
  const uint64_t rest_ns = first_ns > now_ns ? first_ns - now_ns : 0;
  const int hello_ms = static_cast<int>(rest_ns / kNanosecondsPerMillisecond) + 1;
  return root_ms < 0 ? hello_ms : std::min(root_ms, hello_ms);
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
  const Status received = shm::receive_packet(pending.socket.get(), &hello, sizeof hello, &uninvited);
  if (received.error_number() == ECONNRESET) return;
  if (!received.ok()) return refuse(pending.socket.get(), pending.peer, received);
  Result<std::shared_ptr<Session>> admitted = admit(pending, hello);
  if (!admitted.ok()) return refuse(pending.socket.get(), pending.peer, admitted.status());
  const std::shared_ptr<Session> session = std::move(admitted).value();
  UniqueFd pidfd = pidfd_of(pending.socket.get(), pending.peer.pid);
  if (!pidfd.valid()) return;  // the process is gone already
  if (const Status asked = greeter_->ask(session->id(), session->volume(), session->snapshot()); !asked.ok())
    return refuse(pending.socket.get(), pending.peer, asked);
  asking_.emplace(session->id(), Asking{session, std::move(pending.socket), std::move(pidfd)});
}

void SessionServer::refuse(int socket, const Peer& peer, const Status& why) {
  const std::string line = "refused a client (pid " + std::to_string(peer.pid) + ", uid " +
                           std::to_string(peer.uid) + "): " + printable(why.message());
  // A mount whose volume is in trouble tries again each second.
  const uint64_t now_ns = system_clock().monotonic_ns();
  if (refusals_.size() >= kMaximumRefusals) refusals_.clear();
  uint64_t& logged_ns = refusals_[line];
  if (logged_ns == 0 || now_ns - logged_ns >= kRefusalRepeatNs) {
    log_warning("{}", line);
    logged_ns = now_ns;
  }
  shm::Welcome refusal;
  refusal.error_number = why.error_number();
  std::strncpy(refusal.error, why.message().c_str(), sizeof refusal.error - 1);
  // If it cannot be sent, the client is gone.
  (void)shm::send_packet(socket, &refusal, sizeof refusal, {});
}

void SessionServer::take_roots() {
  for (const Greeter::Answer& answer : greeter_->take_answers()) {
    auto asked = asking_.extract(answer.question);
    begin_session(std::move(asked.mapped()), answer.root);
  }
}

void SessionServer::begin_session(Asking asking, const volume::InodeAnswer& root) {
  const std::shared_ptr<Session> session = std::move(asking.session);
  if (!root.outcome.ok()) {
    return refuse(asking.socket.get(), session->peer(),
                  root_failure(*session->volume(), session->snapshot(), root.outcome.error));
  }
  Live live{session, std::move(asking.socket), std::move(asking.pidfd)};
  session->set_socket(live.socket.get());
  // Before the client can publish a hazard, every shard must count it.
  on_all_shards([&](Shard& shard) { shard.add_session(session); });
  const Status welcomed = welcome(live.socket.get(), *session, root);
  shards_.front()->reactor().post([first = shards_.front(), session] { first->start_notices(session); });
  log_info("session {}: pid {}, uid {}, volume {}, {}", session->id(), session->peer().pid,
           session->peer().uid, session->volume()->name(), printable(session->label()));
  {
    const std::lock_guard lock(mutex_);
    live_.push_back(std::move(live));
  }
  if (!welcomed.ok()) close_socket(&live_.back());
}

Result<std::shared_ptr<Session>> SessionServer::admit(const Pending& pending, const shm::Hello& hello) {
  const Result<CheckedHello> checked = check_hello(hello);
  if (!checked.ok()) return checked.status();
  if (!pending.trusted) {
    return Status(EACCES, "uid " + std::to_string(pending.peer.uid) +
                              " may not attach; run as root or join the group " +
                              (options_.group.empty() ? "that daemon.group names" : options_.group));
  }
  const std::lock_guard lock(mutex_);
  const auto volume = volumes_.find(checked->volume);
  if (volume == volumes_.end()) {
    return Status(ENOENT, "no volume \"" + printable(checked->volume) +
                              "\" is configured; `cachedctl volumes` lists those that are");
  }
  if (live_.size() + asking_.size() >= max_sessions_) {
    return Status(EUSERS,
                  "all " + std::to_string(max_sessions_) + " sessions are in use; raise daemon.max_sessions");
  }
  return Session::create(next_session_id_++, pending.peer, hello, volume->second,
                         static_cast<unsigned>(shards_.size()));
}

Status SessionServer::welcome(int socket, const Session& session, const volume::InodeAnswer& root) {
  shm::Welcome packet;
  packet.session_id = session.id();
  packet.volume = session.volume()->id();
  packet.root = root.info.handle;
  packet.root_info = root.info;
  packet.answer_timeout_ms = session.volume()->answer_timeout_ms();
  packet.flags = session.volume()->tells_changes() ? shm::kWelcomeTellsChanges : 0;
  std::vector<int> fds{memory_.index_fd_read_only(), memory_.arena_fd_read_only(), session.memory_fd()};
  for (unsigned shard = 0; shard < shards_.size(); ++shard) fds.push_back(session.eventfd(shard));
  packet.fd_count = static_cast<uint32_t>(fds.size());
  return shm::send_packet(socket, &packet, sizeof packet, fds);
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
