// Packets with descriptors: see handshake.h.
#include "shm/handshake.h"

#include <sys/socket.h>

#include <cstring>

namespace cached::shm {
namespace {

struct alignas(cmsghdr) ControlBuffer {
  char bytes[CMSG_SPACE(sizeof(int) * kMaximumHandshakeFds)];
};

}  // namespace

Status send_packet(int socket, const void* data, size_t size, const std::vector<int>& fds) {
  if (fds.size() > kMaximumHandshakeFds) return Status(EINVAL, "too many descriptors for one packet");
  iovec iov{const_cast<void*>(data), size};
  ControlBuffer control{};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return Status::from_errno("cannot send on the session socket");
  return Status();
}

Status receive_packet(int socket, void* data, size_t size, std::vector<UniqueFd>* fds) {
  iovec iov{data, size};
  ControlBuffer control{};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  ssize_t received = 0;
  do {
    received = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0) return Status::from_errno("cannot receive on the session socket");
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      fds->emplace_back(fd);
    }
  }
  if (received == 0) return Status(ECONNRESET, "the other side closed the session socket");
  if (static_cast<size_t>(received) != size || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return Status(EPROTO, "a packet of " + std::to_string(received) + " bytes came where one of " +
                              std::to_string(size) +
                              " was expected; client and daemon are of different versions");
  }
  return Status();
}

}  // namespace cached::shm
