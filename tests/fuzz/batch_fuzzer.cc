// Any bytes as a batch header, read from the unit that the first two bytes of the input say.
#include "tests/fuzz/fuzz_support.h"

namespace {

using namespace cached::ssd_tier;

void try_decode(std::span<const std::byte> bytes, uint32_t offset_bytes) {
  std::vector<Record> records;
  const uint32_t wanted = batch_header_bytes_wanted(bytes);
  fuzz::require(wanted <= kMaximumBatchHeaderBytes);
  const cached::Result<BatchInfo> batch =
      decode_batch(fuzz::layout(), fuzz::device(), fuzz::kSegment, offset_bytes, bytes, records);
  if (!batch.ok()) {
    fuzz::require(records.empty());
    return;
  }
  fuzz::require(batch->offset_bytes == offset_bytes && batch->record_count == records.size());
  const uint64_t end = uint64_t{offset_bytes} + batch->length_bytes;
  fuzz::require(batch->length_bytes > 0 && end <= fuzz::layout().segment_bytes - kTrailerBytes);
  fuzz::require_sound(records, uint64_t{offset_bytes} + batch->header_bytes, end);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const uint32_t offset_bytes = (data[0] | data[1] << 8) % 2048 * 512;
  const auto input = std::as_bytes(std::span(data, size)).subspan(2);
  std::vector<std::byte> bytes(input.begin(), input.end());
  try_decode(bytes, offset_bytes);
  if (bytes.size() < sizeof(BatchHeader)) return 0;
  // Again with all that mutation cannot guess; lengths, counts and records stay as they are.
  fuzz::put(std::span(bytes), 0, kBatchMagic);
  fuzz::put(std::span(bytes), 8, kFormatVersion);
  fuzz::put(std::span(bytes), 24, fuzz::kSegment);
  fuzz::put(std::span(bytes), 28, offset_bytes / 512);
  std::memcpy(&bytes[48], fuzz::device().bytes.data(), 8);
  fuzz::put(std::span(bytes), 56, uint64_t{0});
  const size_t records_bytes = std::min<size_t>(fuzz::get<uint32_t>(bytes, 44), bytes.size() - 64);
  const uint64_t seed = XXH3_64bits_withSeed(bytes.data(), 64, fuzz::seed_of(bytes, 24, 1));
  fuzz::put(std::span(bytes), 56, uint64_t{XXH3_64bits_withSeed(bytes.data() + 64, records_bytes, seed)});
  try_decode(bytes, offset_bytes);
  return 0;
}
