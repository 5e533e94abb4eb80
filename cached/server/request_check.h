// What the daemon makes of a client's bytes before it believes any of them: pure functions of a private copy,
// so that fuzzers reach them as they are. Whatever they let pass may be used without a further check of
// ranges.
//
// Any thread.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "shm/handshake.h"
#include "shm/session_layout.h"

namespace cached::server {

// What a hello asks for, in strings of our own.
struct CheckedHello {
  std::string volume;
  std::string label;
};

// EPROTO: not this protocol, or another version of it. EINVAL: a geometry outside the limits of
// session_layout.h, or text that does not end. Else `hello`'s numbers may be used as they are.
Result<CheckedHello> check_hello(const shm::Hello& hello);

// Why a copied ring entry breaks the protocol by itself, or null: unknown opcode, bytes outside the queue's
// buffer of `buffer_bytes`, a read that is empty, too long, beyond the largest object or across an extent.
// What depends on the queue's state (numbers in use, its depth) is the shard's to check.
const char* malformed(const shm::Submission& submission, uint64_t buffer_bytes);

}  // namespace cached::server
