// Segments as a daemon would have written them: see synthetic_segments.h.
#include "bench/synthetic_segments.h"

#include <optional>
#include <random>

#include "cached/ssd_tier/aligned_buffer.h"

namespace cached::bench {
namespace {

using ssd_tier::SegmentBuilder;

constexpr uint32_t kBatchBytes = kMiB;  // as the daemon's writer has it
constexpr uint32_t kBlocksOfObject = 32;

// One filling: `next` numbers its keys on.
struct Filling {
  std::optional<ssd_tier::Batch> first_batch;
  ssd_tier::Footer footer;
};

shm::BlockKey key_of(uint64_t number) {
  // Blocks of one object follow each other, as in files that were read from end to end.
  const uint64_t object = number / kBlocksOfObject;
  return {.object = {object * 0x9e3779b97f4a7c15U, object},
          .block = static_cast<uint32_t>(number % kBlocksOfObject),
          .volume = 1,
          .data_set = 0};
}

void end_batch(SegmentBuilder* builder, Filling* filling) {
  ssd_tier::Batch batch = builder->finish_batch();
  if (!filling->first_batch) filling->first_batch = std::move(batch);
}

// Adds entries from number *next on, up to `end`, until the segment is full.
Filling build(SegmentBuilder* builder, uint32_t entry_bytes, uint64_t* next, uint64_t end,
              std::mt19937_64* random) {
  Filling filling;
  while (*next < end) {
    ssd_tier::Checksums checksums{};
    for (uint32_t chunk = 0; chunk < ssd_tier::chunks_of(entry_bytes); ++chunk) {
      checksums[chunk] = static_cast<uint32_t>((*random)());
    }
    if (builder->add(key_of(*next), entry_bytes, checksums)) {
      ++*next;
      if (builder->batch_bytes() >= kBatchBytes) end_batch(builder, &filling);
    } else if (builder->batch_entries() > 0) {
      end_batch(builder, &filling);
    } else {
      break;
    }
  }
  if (builder->batch_entries() > 0) end_batch(builder, &filling);
  filling.footer = builder->finish();
  return filling;
}

Status write(io::Device* device, std::span<const std::byte> bytes, uint64_t offset_bytes) {
  Result<ssd_tier::AlignedBuffer> buffer = ssd_tier::AlignedBuffer::copy_of(bytes);
  if (!buffer.ok()) return buffer.status();
  return device->write_blocking(buffer->data(), buffer->size(), offset_bytes);
}

}  // namespace

Result<uint64_t> write_synthetic_segments(io::Device* device, const ssd_tier::Superblock& superblock,
                                          const SyntheticSegments& segments) {
  const ssd_tier::Layout& layout = superblock.layout;
  std::mt19937_64 random(superblock.start_count);
  const uint64_t first_key = uint64_t{superblock.start_count} << 40;  // each start has keys of its own
  uint64_t next = first_key;
  const uint64_t end = first_key + std::min(segments.maximum_entries, uint64_t{1} << 40);
  for (uint32_t number = segments.first; number < segments.end && next < end; ++number) {
    const uint64_t sequence = ssd_tier::make_sequence(superblock.start_count, number - segments.first);
    SegmentBuilder builder(layout, {.device = superblock.uuid, .number = number, .sequence = sequence});
    const Filling filling = build(&builder, segments.entry_bytes, &next, end, &random);
    const uint64_t start = layout.segment_offset(number);
    CACHED_RETURN_IF_ERROR(write(device, filling.first_batch->header, start));
    CACHED_RETURN_IF_ERROR(write(device, filling.footer.bytes, start + filling.footer.offset_bytes));
  }
  CACHED_RETURN_IF_ERROR(device->sync_blocking());
  return next - first_key;
}

}  // namespace cached::bench
