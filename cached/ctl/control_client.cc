// Asking the daemon over its control socket: see control_client.h.
#include "cached/ctl/control_client.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cstring>

#include "base/unique_fd.h"

namespace cached::ctl {
namespace {

using nlohmann::json;

// Longer than a command may take at the daemon (a second) with some others waiting before it.
constexpr int kTimeoutSeconds = 10;
constexpr size_t kMaximumReplyBytes = size_t{64} * 1024 * 1024;

Result<UniqueFd> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Status(ENAMETOOLONG, "the path is too long for a Unix socket");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Status::from_errno("cannot make a socket");
  const timeval timeout{kTimeoutSeconds, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return Status::from_errno("cannot connect");
  }
  return fd;
}

Status send_line(int fd, const std::string& line) {
  for (size_t sent = 0; sent < line.size();) {
    const ssize_t count = ::send(fd, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Status::from_errno("cannot send the request");
    sent += static_cast<size_t>(count);
  }
  return Status();
}

Result<std::string> receive_line(int fd) {
  std::string line;
  char piece[64 * 1024];
  while (line.empty() || line.back() != '\n') {
    const ssize_t count = ::recv(fd, piece, sizeof piece, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) {
      return Status(ETIMEDOUT, "no answer within " + std::to_string(kTimeoutSeconds) + " s");
    }
    if (count < 0) return Status::from_errno("cannot receive the answer");
    if (count == 0) return Status(ECONNRESET, "the daemon closed the connection without an answer");
    line.append(piece, static_cast<size_t>(count));
    if (line.size() > kMaximumReplyBytes) return Status(EMSGSIZE, "the answer is too long");
  }
  return line;
}

Result<std::string> request_line(const std::string& socket_path, const std::string& request) {
  const Result<UniqueFd> fd = connect_to(socket_path);
  if (!fd.ok()) return fd.status();
  CACHED_RETURN_IF_ERROR(send_line(fd->get(), request));
  return receive_line(fd->get());
}

}  // namespace

ControlReply ask_daemon(const std::string& socket_path, const std::string& command, json arguments) {
  ControlReply reply;
  arguments["command"] = command;
  // A path may hold bytes that are no text; the daemon then finds no such device.
  const std::string request = arguments.dump(-1, ' ', false, json::error_handler_t::replace);
  const Result<std::string> line = request_line(socket_path, request + "\n");
  if (!line.ok()) {
    reply.error = "no daemon answers at " + socket_path + ": " + line.status().message() +
                  "; is cached running, and is --socket its control_socket?";
    return reply;
  }
  const json answer = json::parse(*line, nullptr, /*allow_exceptions=*/false);
  reply.outcome = ControlReply::Outcome::kRefused;
  if (!answer.is_object() || !answer.contains("ok") || !answer["ok"].is_boolean()) {
    reply.error = "what answers at " + socket_path + " is not cached";
  } else if (answer["ok"].get<bool>() && answer.contains("result")) {
    reply.outcome = ControlReply::Outcome::kAnswered;
    reply.result = answer["result"];
  } else {
    reply.error = answer.contains("error") && answer["error"].is_string()
                      ? answer["error"].get<std::string>()
                      : "the daemon refused without a reason";
  }
  return reply;
}

}  // namespace cached::ctl
