// Any bytes as each record of a JuiceFS volume. What is accepted must keep what the parsers promise.
#include <string_view>

#include "cached/volume/juicefs_format.h"
#include "tests/fuzz/fuzz_support.h"

namespace {

namespace fuzz = cached::ssd_tier::fuzz;
using namespace cached;
using namespace cached::volume::juicefs;

void try_slices(std::string_view bytes) {
  const Result<std::vector<Slice>> slices = parse_slices(bytes);
  if (!slices.ok()) return;
  const uint64_t base = 3 * kChunkBytes;
  uint64_t at = base;
  const std::vector<shm::MapPiece> pieces = merge_slices(*slices, base, kChunkBytes);
  for (const shm::MapPiece& piece : pieces) {
    fuzz::require(piece.file_offset == at && piece.length > 0);
    at = piece.end();
    if (piece.object.empty()) continue;
    const Result<SliceName> slice = slice_of_object(piece.object);
    fuzz::require(slice.ok() && piece.object_offset + piece.length <= slice->size);
  }
  fuzz::require(at == base + kChunkBytes && shm::run_is_sound(pieces, base));
}

void try_inode(std::string_view bytes) {
  const size_t attributes = std::min<size_t>(bytes.size(), 73);
  const Result<shm::InodeInfo> info =
      inode_info(1, 42, bytes.substr(0, attributes), bytes.substr(attributes), false);
  if (!info.ok() || info->layout != shm::LayoutKind::kObject || info->object.empty()) return;
  const Result<SliceName> slice = slice_of_object(info->object);
  fuzz::require(slice.ok() && info->layout_base + info->size <= slice->size);
}

void try_block(std::string_view bytes) {
  std::string plain(4096, '\0');
  static_cast<void>(decompress(Compression::kLz4, bytes, plain.data(), plain.size()).ok());
  static_cast<void>(decompress(Compression::kZstd, bytes, plain.data(), plain.size()).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 7) {
    case 0:
      try_slices(bytes);
      break;
    case 1:
      try_inode(bytes);
      break;
    case 2:
      try_block(bytes);
      break;
    case 3:
      static_cast<void>(parse_setting(bytes).ok());
      break;
    case 4:
      if (const auto entry = parse_entry(bytes); entry.ok())
        fuzz::require(entry->ino != 0 && entry->ino < kTrashIno);
      break;
    case 5:
      if (const auto acl = acl_as_xattr(bytes); acl.ok()) fuzz::require(acl->size() % 8 == 4);
      break;
    default:
      static_cast<void>(ino_of_key(bytes));
  }
  return 0;
}
