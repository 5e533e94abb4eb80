// Checks of what clients send: see request_check.h.
#include "cached/server/request_check.h"

#include <bit>
#include <cstring>
#include <optional>

#include "base/units.h"

namespace cached::server {
namespace {

constexpr uint64_t kMaximumSessionBytes = 256 * kMiB;

// The text of a fixed field, or nothing if it is not zero-terminated.
template <size_t N>
std::optional<std::string> text_of(const char (&field)[N]) {
  const void* const end = std::memchr(field, 0, N);
  if (end == nullptr) return std::nullopt;
  return std::string(field, static_cast<const char*>(end));
}

Status check_geometry(const shm::Hello& hello) {
  if (hello.queue_count == 0 || hello.queue_count > shm::kMaximumQueues) {
    return Status(EINVAL, "the client asks for " + std::to_string(hello.queue_count) + " queues; 1 to " +
                              std::to_string(shm::kMaximumQueues) + " are possible");
  }
  if (hello.queue_depth < shm::kMinimumQueueDepth || hello.queue_depth > shm::kMaximumQueueDepth ||
      !std::has_single_bit(hello.queue_depth)) {
    return Status(EINVAL, "the client asks for a queue depth that is not a power of two from 4 to 256");
  }
  if (hello.buffer_bytes < shm::kMinimumBufferBytes || hello.buffer_bytes > shm::kMaximumBufferBytes ||
      hello.buffer_bytes * hello.queue_count > kMaximumSessionBytes) {
    return Status(EINVAL,
                  "the client asks for buffers outside the limits (64 KiB to 16 MiB, 256 MiB in all)");
  }
  return Status();
}

}  // namespace

Result<CheckedHello> check_hello(const shm::Hello& hello) {
  if (hello.magic != shm::kHelloMagic)
    return Status(EPROTO, "the client does not speak the protocol of cached");
  if (hello.version != shm::kProtocolVersion) {
    return Status(EPROTO, "the client speaks version " + std::to_string(hello.version) +
                              " of the protocol, this daemon " + std::to_string(shm::kProtocolVersion) +
                              "; install the same release of both");
  }
  CACHED_RETURN_IF_ERROR(check_geometry(hello));
  std::optional<std::string> volume = text_of(hello.volume);
  std::optional<std::string> label = text_of(hello.label);
  if (!volume || !label) return Status(EINVAL, "the client's volume or label is not terminated");
  return CheckedHello{std::move(*volume), std::move(*label)};
}

const char* malformed(const shm::Submission& submission, uint64_t buffer_bytes) {
  const auto opcode = static_cast<unsigned>(submission.opcode);
  if (opcode < static_cast<unsigned>(shm::Opcode::kLookup) ||
      opcode > static_cast<unsigned>(shm::Opcode::kFileMap)) {
    return "a request has an unknown opcode";
  }
  if (uint64_t{submission.buffer_offset} + submission.buffer_length > buffer_bytes ||
      submission.input_length > submission.buffer_length) {
    return "a request names bytes outside its buffer";
  }
  const bool is_read = submission.opcode == shm::Opcode::kRead;
  if (!is_read && submission.opcode != shm::Opcode::kPrefetch) return nullptr;
  const uint64_t limit = is_read ? shm::kMaximumReadBytes : shm::kExtentBytes;
  constexpr uint64_t kObjectLimit = shm::kBlockBytes << 32;
  if (submission.length == 0 || submission.length > limit || submission.offset >= kObjectLimit ||
      submission.offset / shm::kExtentBytes !=
          (submission.offset + submission.length - 1) / shm::kExtentBytes) {
    return "a read is empty, too long, or crosses an extent";
  }
  if (is_read && submission.buffer_length < submission.length + shm::kReadBufferSlackBytes) {
    return "a read has too small a buffer";
  }
  return nullptr;
}

}  // namespace cached::server
