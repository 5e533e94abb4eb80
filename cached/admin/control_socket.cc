// Making and removing the control socket: see control_socket.h.
#include "cached/admin/control_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>

#include "base/log.h"

namespace cached::admin {
namespace {

constexpr int kBacklog = 64;
constexpr mode_t kEverybody = 0666;

// Makes room at `path`: a dead daemon's socket is removed, anything else is left alone and an error.
Status clear_path(const std::string& path, const sockaddr_un& address) {
  struct stat attributes {};
  if (::lstat(path.c_str(), &attributes) != 0) {
    return errno == ENOENT ? Status()
                           : Status::from_errno(printable(path) + ": cannot examine the control socket");
  }
  if (!S_ISSOCK(attributes.st_mode)) {
    return Status(EEXIST,
                  printable(path) + ": is in the way of the control socket and is no socket; remove it");
  }
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return Status::from_errno("cannot make a socket");
  const int connected = ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  if (connected == 0 || errno == EAGAIN) {
    return Status(EADDRINUSE, printable(path) + ": another daemon answers on this control socket");
  }
  if (errno != ECONNREFUSED) return Status::from_errno(printable(path) + ": cannot probe the control socket");
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return Status::from_errno(printable(path) + ": cannot remove the socket that a dead daemon left");
  }
  return Status();
}

}  // namespace

Result<UniqueFd> listen_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Status(ENAMETOOLONG, printable(path) + ": is too long for a Unix socket");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  CACHED_RETURN_IF_ERROR(clear_path(path, address));

  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return Status::from_errno("cannot make a socket");
  // The mode is set between bind and listen: until listen nobody can connect whatever the mode.
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), kEverybody) != 0 || ::listen(listener.get(), kBacklog) != 0) {
    return Status::from_errno(printable(path) + ": cannot make the control socket");
  }
  return listener;
}

Result<SocketIdentity> socket_identity(const std::string& path) {
  struct stat attributes {};
  if (::lstat(path.c_str(), &attributes) != 0) {
    return Status::from_errno(printable(path) + ": cannot examine the control socket");
  }
  return SocketIdentity{attributes.st_dev, attributes.st_ino};
}

void remove_socket(const std::string& path, const SocketIdentity& identity) {
  const Result<SocketIdentity> now = socket_identity(path);
  if (now.ok() && now->device == identity.device && now->inode == identity.inode) ::unlink(path.c_str());
}

}  // namespace cached::admin
