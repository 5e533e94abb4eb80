// The handshake on the session socket: Unix SEQPACKET, one packet each way, descriptors with the answer.
//
//   client -> Hello
//   daemon -> Welcome  + index memfd (read-only), arena memfd (read-only), session memfd (read-write),
//                        one eventfd for each shard, in this order; or, on refusal, no descriptors and
//                        `error`
//
// The client then says nothing more, the daemon only notices (notice.h) to those who want them; the end of
// file is the sign that the other side is gone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "shm/index_layout.h"
#include "shm/types.h"

namespace cached::shm {

inline constexpr uint64_t kHelloMagic = 0x314F4C4C45484343ULL;    // "CCHELLO1"
inline constexpr uint64_t kWelcomeMagic = 0x31434C4557484343ULL;  // "CCHWELC1"
inline constexpr unsigned kMaximumHandshakeFds = 3 + kMaximumShards;

// Flags of Hello and of Welcome.
inline constexpr uint64_t kHelloWantsNotices = 1U << 0;
inline constexpr uint32_t kWelcomeTellsChanges = 1U << 0;  // the volume has notices to tell

struct Hello {
  uint64_t magic = kHelloMagic;
  uint32_t version = kProtocolVersion;
  uint32_t queue_count = 0;
  uint32_t queue_depth = 0;
  uint32_t reserved0 = 0;
  uint64_t buffer_bytes = 0;         // for each queue
  uint64_t session_uuid[2] = {};     // chosen by the client, kept over re-attachments
  uint64_t next_request_number = 0;  // all smaller ones have been answered or given up
  char volume[128] = {};             // zero-terminated
  char label[256] = {};   // zero-terminated; what to show for this session, such as the mount point
  uint64_t snapshot = 0;  // the snapshot of the volume to show; 0: what is current, and what comes after it
  uint64_t flags = 0;     // kHello...; a daemon ignores those that it does not know
  uint64_t reserved1[6] = {};
};
static_assert(sizeof(Hello) == 504 && offsetof(Hello, snapshot) == 440 && offsetof(Hello, flags) == 448);

struct Welcome {
  uint64_t magic = kWelcomeMagic;
  uint32_t version = kProtocolVersion;
  int32_t error_number = 0;  // 0: welcome; else a positive errno, and `error` says why
  uint64_t session_id = 0;
  uint32_t volume = 0;
  uint32_t fd_count = 0;
  Handle root;
  InodeInfo root_info;
  char error[256] = {};
  // How long an answer may take although the daemon is well, because the volume's source is not; 0: no longer
  // than the client waits by itself.
  uint32_t answer_timeout_ms = 0;
  uint32_t flags = 0;  // kWelcome...
  uint64_t reserved1[7] = {};
};
static_assert(sizeof(Welcome) == 32 + 16 + 152 + 256 + 64);

// Sends one packet with descriptors. errno of sendmsg.
Status send_packet(int socket, const void* data, size_t size, const std::vector<int>& fds);

// Receives one packet of exactly `size` bytes and at most kMaximumHandshakeFds descriptors (close-on-exec).
// ECONNRESET for end of file, EPROTO for a packet of another size, EAGAIN when the socket is non-blocking and
// empty.
Status receive_packet(int socket, void* data, size_t size, std::vector<UniqueFd>* fds);

}  // namespace cached::shm
