// Making the control socket: a listening Unix socket at a path, in the place of one that a dead daemon left
// behind.
#pragma once

#include <string>

#include "base/status.h"
#include "base/unique_fd.h"

namespace cached::admin {

// A non-blocking listening SOCK_STREAM socket at `path`, mode 0666. EADDRINUSE if a living process listens
// there already, EEXIST if the path is no socket, ENAMETOOLONG, or the errno of what failed.
Result<UniqueFd> listen_at(const std::string& path);

// Removes the socket at `path` if it is the one with this device and inode number, so that a successor's
// stays.
struct SocketIdentity {
  dev_t device = 0;
  ino_t inode = 0;
};
Result<SocketIdentity> socket_identity(const std::string& path);
void remove_socket(const std::string& path, const SocketIdentity& identity);

}  // namespace cached::admin
