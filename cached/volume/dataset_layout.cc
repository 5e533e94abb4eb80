// Where the bytes of data objects are: see dataset_layout.h.
#include "cached/volume/dataset_layout.h"

#include <algorithm>
#include <bit>

namespace cached::volume {

ObjectLayout::ObjectLayout(const ObjectRecord& record, std::vector<Extent> extents)
    : record_(record), extents_(std::move(extents)) {
  for (const Extent& extent : extents_) {
    uint64_t first = extent.offset / kPieceBytes;
    const uint64_t last = (extent.end() - 1) / kPieceBytes;
    if (!runs_.empty() && first < runs_.back().first + runs_.back().count)
      first = runs_.back().first + runs_.back().count;
    if (first > last) continue;
    if (!runs_.empty() && first == runs_.back().first + runs_.back().count) {
      runs_.back().count += last - first + 1;
    } else {
      const uint64_t before = runs_.empty() ? 0 : runs_.back().before + runs_.back().count;
      runs_.push_back({first, last - first + 1, before});
    }
  }
}

Result<ObjectLayout> ObjectLayout::make(const ObjectRecord& record, std::vector<Extent> extents) {
  const Status damage(EIO, "the record of a data object is damaged");
  if (record.size == 0 || record.size > kMaximumObjectBytes || is_metadata_object(record.id) ||
      record.id.high == 0) {
    return damage;
  }
  if ((record.flags & kObjectDense) != 0) {
    if (!extents.empty()) return damage;
    extents.push_back({0, record.size});
  }
  uint64_t end = 0;
  for (const Extent& extent : extents) {
    if (extent.length == 0 || extent.offset < end || extent.offset > record.size ||
        extent.length > record.size - extent.offset) {
      return damage;
    }
    end = extent.end();
  }
  ObjectLayout layout(record, std::move(extents));
  if (layout.checksums() != record.checksum_count) return damage;
  return layout;
}

ObjectLayout ObjectLayout::plan(ObjectRecord record, std::vector<Extent> extents) {
  if ((record.flags & kObjectDense) != 0) extents = {{0, record.size}};
  ObjectLayout layout(record, std::move(extents));
  layout.record_.checksum_count = layout.checksums();
  return layout;
}

const ObjectLayout::Run* ObjectLayout::run_of(uint64_t piece) const {
  auto run = std::upper_bound(runs_.begin(), runs_.end(), piece,
                              [](uint64_t wanted, const Run& candidate) { return wanted < candidate.first; });
  if (run == runs_.begin()) return nullptr;
  --run;
  return piece - run->first < run->count ? &*run : nullptr;
}

uint64_t ObjectLayout::stored_bytes(uint64_t piece) const {
  if (run_of(piece) == nullptr) return 0;
  const uint64_t begin = piece * kPieceBytes;
  // The last extent that begins in front of the piece's end.
  auto after = std::lower_bound(extents_.begin(), extents_.end(), begin + kPieceBytes,
                                [](const Extent& extent, uint64_t end) { return extent.offset < end; });
  return std::min(std::prev(after)->end(), begin + kPieceBytes) - begin;
}

uint64_t ObjectLayout::stored_pieces() const {
  return runs_.empty() ? 0 : runs_.back().before + runs_.back().count;
}

uint64_t ObjectLayout::blocks_of(uint64_t piece) const {
  const uint64_t bytes = std::min(record_.size - piece * kPieceBytes, kPieceBytes);
  return (bytes + kChecksumBlockBytes - 1) / kChecksumBlockBytes;
}

std::optional<uint64_t> ObjectLayout::checksum_of_block(uint64_t block) const {
  const uint64_t piece = block / kBlocksPerPiece;
  const Run* const run = run_of(piece);
  if (run == nullptr) return std::nullopt;
  return (run->before + piece - run->first) * kBlocksPerPiece + block % kBlocksPerPiece;
}

uint64_t ObjectLayout::checksums() const {
  if (runs_.empty()) return 0;
  const uint64_t last = runs_.back().first + runs_.back().count - 1;
  return (stored_pieces() - 1) * kBlocksPerPiece + blocks_of(last);
}

uint64_t pack_alignment(uint64_t size) {
  return std::clamp<uint64_t>(std::bit_floor(size / 16), 16, 4096);
}

}  // namespace cached::volume
