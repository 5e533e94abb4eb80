// Any bytes as the end of a segment: the first 64 are the trailer's fields, the rest the table's bytes.
#include "tests/fuzz/fuzz_support.h"

namespace {

using namespace cached::ssd_tier;

void try_decode(std::span<const std::byte, kTrailerBytes> bytes, std::span<const std::byte> table) {
  const cached::Result<TrailerInfo> trailer =
      decode_trailer(fuzz::layout(), fuzz::device(), fuzz::kSegment, bytes);
  if (!trailer.ok()) return;
  fuzz::require(trailer->table_offset_bytes + uint64_t{trailer->table_bytes} <=
                fuzz::layout().segment_bytes - kTrailerBytes);
  std::vector<Record> records;
  const cached::Status status = decode_table(fuzz::layout(), fuzz::device(), *trailer, table, records);
  fuzz::require(status.ok() ? records.size() == trailer->record_count : records.empty());
  fuzz::require_sound(records, 0, trailer->table_offset_bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 64) return 0;
  const std::span<const std::byte> table = std::as_bytes(std::span(data, size)).subspan(64);
  std::vector<std::byte> bytes(kTrailerBytes);
  std::memcpy(bytes.data(), data, 64);
  const std::span<std::byte, kTrailerBytes> trailer(bytes);
  try_decode(trailer, table);
  fuzz::put(trailer, 0, kTrailerMagic);
  fuzz::put(trailer, 8, kFormatVersion);
  fuzz::put(trailer, 12, fuzz::kSegment);
  std::memcpy(&bytes[56], fuzz::device().bytes.data(), 8);
  const size_t table_bytes = table.size();
  if (table_bytes <= fuzz::layout().segment_bytes / 2) {
    const uint64_t offset = fuzz::layout().segment_bytes - kTrailerBytes - cached::align_up(table_bytes, 512);
    fuzz::put(trailer, 24, static_cast<uint32_t>(offset / 512));
    fuzz::put(trailer, 28, static_cast<uint32_t>(table_bytes));
  }
  fuzz::put(trailer, 40,
            uint64_t{XXH3_64bits_withSeed(table.data(), table_bytes, fuzz::seed_of(bytes, 12, 2))});
  fuzz::put(trailer, 48, uint64_t{0});
  fuzz::put(trailer, 48,
            uint64_t{XXH3_64bits_withSeed(bytes.data(), bytes.size(), fuzz::seed_of(bytes, 12, 3))});
  try_decode(trailer, table);
  return 0;
}
