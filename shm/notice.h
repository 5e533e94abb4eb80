// Notices: what the daemon tells a client, unasked, on the session socket: records that it was given, and may
// have passed on, are not right any more.
//
// A client that wants them says so in its Hello (kHelloWantsNotices); Welcome says whether the volume has any
// to tell (kWelcomeTellsChanges). They shorten the time for which something old is shown and are no part of
// the bound on it, which is the client's own timeout: a client may ignore them, and the daemon drops them
// when the socket is full, then says kEverything as soon as there is room.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "shm/types.h"

namespace cached::shm {

enum class NoticeKind : uint32_t {
  kInode = 1,      // attributes or content of the inode
  kEntries = 2,    // names in the directory
  kEverything = 3  // any of them; `handle` says nothing
};

struct Notice {
  NoticeKind kind = NoticeKind::kInode;
  uint32_t reserved = 0;
  Handle handle;
  // CLOCK_MONOTONIC when the daemon learnt of it: what was validated later is right.
  uint64_t told_at_ns = 0;
};
static_assert(sizeof(Notice) == 32 && offsetof(Notice, handle) == 8 && offsetof(Notice, told_at_ns) == 24);

inline constexpr uint64_t kNoticeMagic = 0x3143544F4E434343ULL;  // "CCCNOTC1"
inline constexpr unsigned kMaximumNotices = 64;                  // in a packet

// A packet is as long as its notices: packet_bytes(count).
struct NoticePacket {
  uint64_t magic = kNoticeMagic;
  uint32_t count = 0;
  uint32_t reserved = 0;
  std::array<Notice, kMaximumNotices> notices;
};
static_assert(sizeof(NoticePacket) == 16 + kMaximumNotices * sizeof(Notice));

constexpr size_t packet_bytes(size_t count) {
  return offsetof(NoticePacket, notices) + count * sizeof(Notice);
}

// Sends `notices` without waiting, in as many packets as it takes. EAGAIN: the socket is full, and some were
// not sent.
Status send_notices(int socket, std::span<const Notice> notices);

// Receives one packet without waiting. EAGAIN: there is none; ECONNRESET: end of file; EPROTO: what came is
// none.
Result<std::vector<Notice>> receive_notices(int socket);

}  // namespace cached::shm
