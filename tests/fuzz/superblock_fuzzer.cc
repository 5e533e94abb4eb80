// Any 4096 bytes as a superblock: as they are, and again with a valid magic, version and checksum.
#include "cached/ssd_tier/superblock.h"
#include "tests/fuzz/fuzz_support.h"

namespace {

using namespace cached::ssd_tier;

void try_decode(std::span<const std::byte, kSuperblockBytes> bytes) {
  const cached::Result<Superblock> decoded = decode_superblock(bytes);
  if (!decoded.ok()) return;
  const Layout& layout = decoded->layout;
  fuzz::require(layout.segment_count > 0 && layout.data_offset >= cached::kMiB);
  fuzz::require(layout.segment_offset(layout.segment_count) <= layout.capacity_bytes);
  const SuperblockOnDevice encoded = encode_superblock(*decoded);
  const auto again = decode_superblock(std::as_bytes(std::span<const SuperblockOnDevice, 1>(&encoded, 1)));
  fuzz::require(again.ok() && *again == *decoded);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::byte> bytes(kSuperblockBytes);
  std::memcpy(bytes.data(), data, std::min(size, bytes.size()));
  const std::span<std::byte, kSuperblockBytes> superblock(bytes);
  try_decode(superblock);
  std::memcpy(bytes.data(), kSuperblockMagic.data(), kSuperblockMagic.size());
  fuzz::put<uint32_t>(superblock, 16, 1);
  fuzz::put<uint64_t>(superblock, 4088, XXH3_64bits(bytes.data(), 4088));
  try_decode(superblock);
  return 0;
}
