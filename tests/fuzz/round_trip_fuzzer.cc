// Any sequence of entries and batches, encoded, must be found again exactly: four bytes of input are an entry
// (length and key) or, when the top bit is set, also the end of its batch; the first byte says whether the
// segment is sealed.
#include "cached/ssd_tier/segment_scan.h"
#include "tests/fuzz/fuzz_support.h"

namespace {

using namespace cached::ssd_tier;

constexpr uint64_t kSequence = make_sequence(2, 9);

struct Written {
  std::vector<std::byte> bytes = std::vector<std::byte>(fuzz::layout().segment_bytes);
  std::vector<Record> records;  // in the order of the device
};

void finish_batch(SegmentBuilder& builder, std::vector<Record>& batch, Written& written) {
  if (batch.empty()) return;
  const Batch encoded = builder.finish_batch();
  std::copy(encoded.header.begin(), encoded.header.end(), written.bytes.begin() + encoded.offset_bytes);
  for (const Batch::Piece& piece : encoded.pieces) {
    written.records.push_back(batch[piece.entry]);
    written.records.back().offset_bytes = piece.offset_bytes;
  }
  batch.clear();
}

Written write(std::span<const uint8_t> input, bool sealed) {
  Written written;
  SegmentBuilder builder(fuzz::layout(), {fuzz::device(), fuzz::kSegment, kSequence});
  std::vector<Record> batch;
  for (; input.size() >= 4; input = input.subspan(4)) {
    uint32_t word;
    std::memcpy(&word, input.data(), 4);
    Record record;
    record.length_bytes = 1 + word % kMaximumEntryBytes;
    record.key = {
        {word * 31U, word >> 8}, word >> 16, static_cast<uint16_t>(word), static_cast<uint16_t>(word >> 4)};
    for (uint32_t i = 0; i < chunks_of(record.length_bytes); ++i) record.checksums[i] = word + i;
    if (!builder.add(record.key, record.length_bytes, record.checksums)) {
      finish_batch(builder, batch, written);
      if (!builder.add(record.key, record.length_bytes, record.checksums)) break;
    }
    batch.push_back(record);
    if ((word & 0x80000000U) != 0) finish_batch(builder, batch, written);
  }
  finish_batch(builder, batch, written);
  if (sealed) {
    const Footer footer = builder.finish();
    std::copy(footer.bytes.begin(), footer.bytes.end(), written.bytes.begin() + footer.offset_bytes);
  }
  return written;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const bool sealed = (data[0] & 1) != 0;
  const Written written = write(std::span(data, size).subspan(1), sealed);
  SegmentScan scan(fuzz::layout(), fuzz::device());
  scan.begin(fuzz::kSegment);
  while (const auto read = scan.next()) {
    scan.feed(std::span(written.bytes).subspan(read->offset_bytes, read->length_bytes));
  }
  fuzz::require(scan.content().records == written.records);
  fuzz::require_sound(written.records, 0, fuzz::layout().segment_bytes);
  if (!written.records.empty()) {
    fuzz::require(scan.content().state == (sealed ? SegmentState::kSealed : SegmentState::kOpen));
  }
  return 0;
}
