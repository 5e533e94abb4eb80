// Any 128 bytes as a ring entry, with a buffer whose size the first bytes choose. What is accepted must name
// bytes inside the buffer and, as a read, one extent of an object and room for the answer.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "cached/server/request_check.h"

namespace {

using namespace cached;

void require(bool condition) {
  if (!condition) std::abort();
}

void try_entry(const shm::Submission& entry, uint64_t buffer_bytes) {
  if (server::malformed(entry, buffer_bytes) != nullptr) return;
  require(uint64_t{entry.buffer_offset} + entry.buffer_length <= buffer_bytes);
  require(entry.input_length <= entry.buffer_length);
  const bool is_read = entry.opcode == shm::Opcode::kRead;
  if (!is_read && entry.opcode != shm::Opcode::kPrefetch) return;
  require(entry.length > 0 && entry.offset + entry.length > entry.offset);
  const uint64_t last = entry.offset + entry.length - 1;
  require(entry.offset / shm::kExtentBytes == last / shm::kExtentBytes);
  require(last / shm::kBlockBytes <= UINT32_MAX);
  if (is_read) require(entry.length <= shm::kMaximumReadBytes && entry.buffer_length > entry.length);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint32_t chosen = 0;
  std::memcpy(&chosen, data, std::min(size, sizeof chosen));
  const uint64_t buffer_bytes =
      shm::kMinimumBufferBytes + chosen % (shm::kMaximumBufferBytes - shm::kMinimumBufferBytes + 1);
  shm::Submission entry;
  if (size > sizeof chosen) {
    std::memcpy(static_cast<void*>(&entry), data + sizeof chosen,
                std::min(size - sizeof chosen, sizeof entry));
  }
  try_entry(entry, buffer_bytes);
  entry.opcode = shm::Opcode::kRead;
  try_entry(entry, buffer_bytes);
  return 0;
}
