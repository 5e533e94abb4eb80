// Any bytes as a hello: as they are, and again with the magic and the version that the daemon takes. What is
// accepted must make a session whose every part lies inside its memory.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "cached/server/request_check.h"

namespace {

using namespace cached;

void require(bool condition) {
  if (!condition) std::abort();
}

void try_hello(const shm::Hello& hello) {
  const Result<server::CheckedHello> checked = server::check_hello(hello);
  if (!checked.ok()) return require(!checked.status().message().empty());
  require(checked->volume.size() < sizeof hello.volume && checked->label.size() < sizeof hello.label);
  const shm::SessionGeometry geometry =
      shm::make_session_geometry(hello.queue_count, hello.queue_depth, hello.buffer_bytes, 8);
  require(geometry.queue_stride_bytes >= shm::queue_area_bytes(hello.queue_depth));
  require(geometry.total_bytes <= uint64_t{320} << 20);
  require(geometry.buffers_offset_bytes + geometry.buffer_bytes * hello.queue_count == geometry.total_bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  shm::Hello hello;
  std::memcpy(static_cast<void*>(&hello), data, std::min(size, sizeof hello));
  try_hello(hello);
  hello.magic = shm::kHelloMagic;
  hello.version = shm::kProtocolVersion;
  try_hello(hello);
  return 0;
}
