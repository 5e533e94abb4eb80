// Notices on the session socket: see notice.h.
#include "shm/notice.h"

#include <sys/socket.h>

#include <algorithm>

namespace cached::shm {
namespace {

bool is_sound(const Notice& notice) {
  return notice.kind == NoticeKind::kInode || notice.kind == NoticeKind::kEntries ||
         notice.kind == NoticeKind::kEverything;
}

}  // namespace

Status send_notices(int socket, std::span<const Notice> notices) {
  while (!notices.empty()) {
    const std::span<const Notice> part = notices.first(std::min<size_t>(notices.size(), kMaximumNotices));
    NoticePacket packet;
    packet.count = static_cast<uint32_t>(part.size());
    std::ranges::copy(part, packet.notices.begin());
    ssize_t sent = 0;
    do {
      sent = ::send(socket, &packet, packet_bytes(part.size()), MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) return Status::from_errno("cannot send notices on the session socket");
    notices = notices.subspan(part.size());
  }
  return Status();
}

Result<std::vector<Notice>> receive_notices(int socket) {
  NoticePacket packet;
  packet.magic = 0;
  ssize_t received = 0;
  do {
    received = ::recv(socket, &packet, sizeof packet, MSG_DONTWAIT);
  } while (received < 0 && errno == EINTR);
  if (received < 0) return Status::from_errno("cannot receive notices on the session socket");
  if (received == 0) return Status(ECONNRESET, "the other side closed the session socket");
  const bool whole = static_cast<size_t>(received) >= packet_bytes(0) && packet.magic == kNoticeMagic &&
                     packet.count <= kMaximumNotices &&
                     static_cast<size_t>(received) == packet_bytes(packet.count);
  if (!whole || !std::all_of(packet.notices.begin(), packet.notices.begin() + packet.count, is_sound)) {
    return Status(EPROTO,
                  "a packet of " + std::to_string(received) +
                      " bytes came that holds no notices; client and daemon are of different versions");
  }
  return std::vector<Notice>(packet.notices.begin(), packet.notices.begin() + packet.count);
}

}  // namespace cached::shm
