// Serving control connections: see control_server.h.
#include "cached/admin/control_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <list>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "cached/admin/control_socket.h"

namespace cached::admin {
namespace {

using nlohmann::json;

// When the process has no descriptor left, the listener is left alone for this long instead of asked in a
// circle.
constexpr uint64_t kAcceptPauseNs = 200 * kNanosecondsPerMillisecond;

std::string line_of(const json& reply) {
  return reply.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string error_line(int error_number, const std::string& message) {
  return line_of({{"ok", false}, {"error", message}, {"errno", error_number}});
}

// The supplementary groups of the process at the other end, as they were when it connected; none if the
// kernel does not tell.
std::vector<gid_t> groups_of_peer(int fd) {
  std::vector<gid_t> groups(64);
  for (;;) {
    auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    const int result = ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
    const size_t count = size / sizeof(gid_t);
    // ERANGE says how many there are.
    if (result != 0 && (errno != ERANGE || count <= groups.size())) return {};
    groups.resize(count);
    if (result == 0) return groups;
  }
}

struct Connection {
  UniqueFd fd;
  ucred peer{};
  std::vector<gid_t> groups;
  std::string input;
  std::string output;
  bool closing = false;  // close once the output is sent
  bool gone = false;     // close now
  uint64_t active_ns = 0;
};

}  // namespace

ControlCommand for_operator(ControlCommand command) {
  return [command = std::move(command)](const ControlRequest& request) -> Result<json> {
    if (request.from_operator()) return command(request);
    return Status(EPERM, "\"" + request.command + "\" is for root and the daemon's own user (uid " +
                             std::to_string(::geteuid()) + "), and you are uid " +
                             std::to_string(request.uid) + "; use sudo");
  };
}

struct ControlServer::Impl {
  std::string path;
  SocketIdentity identity;
  ControlCommands commands;
  PeriodicWork periodic;
  uint64_t periodic_due_ns = UINT64_MAX;
  UniqueFd listener;
  UniqueFd stop_event;
  std::list<Connection> connections;
  uint64_t accept_paused_until_ns = 0;
  std::thread thread;

  void run();
  std::vector<pollfd> poll_set(uint64_t now_ns) const;
  int timeout_ms(uint64_t now_ns) const;
  void accept_connections();
  void admit(UniqueFd fd);
  void receive(Connection& connection);
  void serve_one_line(Connection& connection);
  std::string reply_to(const Connection& connection, const std::string& line) const;
  void send_output(Connection& connection);
  void drop_finished(uint64_t now_ns);
};

void ControlServer::Impl::run() {
  for (;;) {
    const uint64_t asleep_ns = system_clock().monotonic_ns();
    std::vector<pollfd> set = poll_set(asleep_ns);
    if (::poll(set.data(), set.size(), timeout_ms(asleep_ns)) < 0) {
      if (errno == EINTR) continue;
      log_error("control socket: {}", Status::from_errno("cannot wait for requests").message());
      return;
    }
    // Who is idle is judged by this moment, so that time that commands take below costs no waiting client its
    // connection.
    const uint64_t awake_ns = system_clock().monotonic_ns();
    if (awake_ns >= periodic_due_ns) {
      periodic_due_ns = awake_ns + periodic.interval_ms * kNanosecondsPerMillisecond;
      periodic.run();
    }
    if (set[0].revents != 0) return;
    size_t place = 2;
    for (Connection& connection : connections) {
      const short events = set[place++].revents;
      if ((events & (POLLERR | POLLNVAL)) != 0) connection.gone = true;
      if ((events & (POLLIN | POLLHUP)) != 0) receive(connection);
      serve_one_line(connection);
      send_output(connection);
    }
    if ((set[1].revents & POLLIN) != 0) accept_connections();
    drop_finished(awake_ns);
  }
}

std::vector<pollfd> ControlServer::Impl::poll_set(uint64_t now_ns) const {
  std::vector<pollfd> set;
  set.push_back({stop_event.get(), POLLIN, 0});
  // A negative descriptor is one that poll() leaves out.
  set.push_back({now_ns < accept_paused_until_ns ? -1 : listener.get(), POLLIN, 0});
  for (const Connection& connection : connections) {
    // One answer at a time: nothing is read from a client that does not take what it asked for.
    set.push_back({connection.fd.get(), static_cast<short>(connection.output.empty() ? POLLIN : POLLOUT), 0});
  }
  return set;
}

int ControlServer::Impl::timeout_ms(uint64_t now_ns) const {
  uint64_t wake_ns = periodic_due_ns;
  if (now_ns < accept_paused_until_ns) wake_ns = accept_paused_until_ns;
  for (const Connection& connection : connections) {
    const bool more_to_serve = connection.output.empty() && connection.input.find('\n') != std::string::npos;
    if (more_to_serve) return 0;
    wake_ns = std::min(wake_ns, connection.active_ns + kIdleTimeoutMs * kNanosecondsPerMillisecond);
  }
  if (wake_ns == UINT64_MAX) return -1;
  return wake_ns <= now_ns ? 0 : static_cast<int>((wake_ns - now_ns) / kNanosecondsPerMillisecond + 1);
}

void ControlServer::Impl::accept_connections() {
  for (;;) {
    UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) {
      admit(std::move(fd));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno != EAGAIN) {
      log_warning("control socket: {}", Status::from_errno("cannot accept a connection").message());
      accept_paused_until_ns = system_clock().monotonic_ns() + kAcceptPauseNs;
    }
    return;
  }
}

void ControlServer::Impl::admit(UniqueFd fd) {
  Connection connection;
  connection.fd = std::move(fd);
  connection.active_ns = system_clock().monotonic_ns();
  socklen_t size = sizeof connection.peer;
  if (::getsockopt(connection.fd.get(), SOL_SOCKET, SO_PEERCRED, &connection.peer, &size) != 0) return;
  connection.groups = groups_of_peer(connection.fd.get());
  const size_t limit = kMaximumConnections + (is_operator(connection.peer.uid) ? kReservedConnections : 0);
  if (connections.size() >= limit) {
    const std::string line = error_line(EUSERS, "too many control connections (" + std::to_string(limit) +
                                                    "); try again when others have finished");
    // One line fits into an empty socket buffer; a client that has gone meanwhile needs no answer.
    (void)::send(connection.fd.get(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return;
  }
  connections.push_back(std::move(connection));
}

void ControlServer::Impl::receive(Connection& connection) {
  char piece[16 * 1024];
  while (connection.input.size() <= kMaximumRequestBytes) {
    const ssize_t count = ::recv(connection.fd.get(), piece, sizeof piece, MSG_DONTWAIT);
    if (count > 0) {
      connection.input.append(piece, static_cast<size_t>(count));
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    // After its end of file a client still gets the answers to what it has asked.
    if (count == 0) connection.closing = true;
    if (count < 0 && errno != EAGAIN) connection.gone = true;
    return;
  }
}

void ControlServer::Impl::serve_one_line(Connection& connection) {
  if (connection.gone || !connection.output.empty()) return;
  const size_t end = connection.input.find('\n');
  if (std::min(end, connection.input.size()) > kMaximumRequestBytes) {
    connection.output =
        error_line(EMSGSIZE, "the request is longer than " + std::to_string(kMaximumRequestBytes) + " bytes");
    connection.input.clear();
    connection.closing = true;
    return;
  }
  if (end == std::string::npos) return;
  connection.output = reply_to(connection, connection.input.substr(0, end));
  connection.input.erase(0, end + 1);
  connection.active_ns = system_clock().monotonic_ns();
}

std::string ControlServer::Impl::reply_to(const Connection& connection, const std::string& line) const {
  Result<ControlRequest> parsed = parse_request(line);
  if (!parsed.ok()) return error_line(parsed.error_number(), parsed.status().message());
  ControlRequest request = std::move(parsed).value();
  const auto known = commands.find(request.command);
  if (known == commands.end()) {
    std::string choices;
    for (const auto& [name, handler] : commands) choices += (choices.empty() ? "" : ", ") + name;
    return error_line(EOPNOTSUPP,
                      "unknown command \"" + printable(request.command) + "\"; known are: " + choices);
  }
  request.uid = connection.peer.uid;
  request.gid = connection.peer.gid;
  request.pid = connection.peer.pid;
  request.groups = connection.groups;
  try {
    Result<json> result = known->second(request);
    if (!result.ok()) return error_line(result.error_number(), result.status().message());
    return line_of({{"ok", true}, {"result", std::move(*result)}});
  } catch (const json::exception& error) {
    // A command reads its arguments with the JSON library, which throws for one that is missing or of the
    // wrong type.
    return error_line(EINVAL, std::string("an argument is missing or of the wrong type: ") + error.what());
  }
}

void ControlServer::Impl::send_output(Connection& connection) {
  while (!connection.gone && !connection.output.empty()) {
    const ssize_t count = ::send(connection.fd.get(), connection.output.data(), connection.output.size(),
                                 MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count < 0) {
      connection.gone = true;
      return;
    }
    connection.output.erase(0, static_cast<size_t>(count));
    connection.active_ns = system_clock().monotonic_ns();
  }
}

void ControlServer::Impl::drop_finished(uint64_t now_ns) {
  connections.remove_if([now_ns](const Connection& connection) {
    const bool nothing_left = connection.output.empty() && connection.input.find('\n') == std::string::npos;
    const bool idle = now_ns >= connection.active_ns + kIdleTimeoutMs * kNanosecondsPerMillisecond;
    return connection.gone || idle || (connection.closing && nothing_left);
  });
}

ControlServer::ControlServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<ControlServer>> ControlServer::create(const std::string& path,
                                                             ControlCommands commands,
                                                             PeriodicWork periodic) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->commands = std::move(commands);
  impl->periodic = std::move(periodic);
  if (impl->periodic.interval_ms != 0) impl->periodic_due_ns = system_clock().monotonic_ns();
  impl->stop_event.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!impl->stop_event.valid()) return Status::from_errno("cannot make an eventfd");
  Result<UniqueFd> listener = listen_at(path);
  if (!listener.ok()) return listener.status();
  impl->listener = std::move(*listener);
  const Result<SocketIdentity> identity = socket_identity(path);
  if (!identity.ok()) return identity.status();
  impl->identity = *identity;
  Impl* server = impl.get();
  impl->thread = std::thread([server] { server->run(); });
  return std::unique_ptr<ControlServer>(new ControlServer(std::move(impl)));
}

ControlServer::~ControlServer() {
  const uint64_t one = 1;
  // An eventfd that counts from 0 takes a 1 always.
  (void)!::write(impl_->stop_event.get(), &one, sizeof one);
  impl_->thread.join();
  remove_socket(impl_->path, impl_->identity);
}

}  // namespace cached::admin
