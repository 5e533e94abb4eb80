// What the tests of the device format share: layouts, keys, data by a seed, and segments made of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "cached/ssd_tier/format.h"

namespace cached::ssd_tier {

inline Layout layout_of(uint32_t block_bytes, uint64_t capacity_bytes = 64 * kMiB) {
  return layout_for(capacity_bytes, block_bytes).value();
}

inline SegmentName segment_name(uint32_t number, uint64_t sequence) {
  SegmentName name;
  for (size_t i = 0; i < name.device.bytes.size(); ++i)
    name.device.bytes[i] = static_cast<uint8_t>(17 * i + 3);
  name.number = number;
  name.sequence = sequence;
  return name;
}

inline shm::BlockKey key_of(uint64_t number) {
  return {{number * 0x9e3779b97f4a7c15U, number},
          static_cast<uint32_t>(number % 5),
          static_cast<uint16_t>(number % 3),
          static_cast<uint16_t>(number % 4)};
}

inline std::vector<std::byte> random_bytes(size_t length_bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(align_up(length_bytes, 8));
  for (size_t at = 0; at < bytes.size(); at += 8) {
    const uint64_t word = random();
    std::memcpy(&bytes[at], &word, 8);
  }
  bytes.resize(length_bytes);
  return bytes;
}

// A segment as it lies on the device, and what its records must be.
struct WrittenSegment {
  std::vector<std::byte> bytes;
  std::vector<Record> records;
  std::vector<Batch> batches;
  bool full = false;  // an entry did not fit
};

// Writes one batch for each list of lengths, and the footer if `sealed`. Keys are numbered from `first_key`.
inline WrittenSegment write_segment(const Layout& layout, const SegmentName& name,
                                    const std::vector<std::vector<uint32_t>>& batches, bool sealed,
                                    uint64_t first_key = 1) {
  WrittenSegment segment;
  segment.bytes.resize(layout.segment_bytes);
  SegmentBuilder builder(layout, name);
  uint64_t number = first_key;
  for (const std::vector<uint32_t>& lengths : batches) {
    std::vector<std::vector<std::byte>> data;
    std::vector<Record> records;
    for (const uint32_t length_bytes : lengths) {
      data.push_back(random_bytes(length_bytes, number));
      const shm::BlockKey key = key_of(number++);
      const Checksums checksums = checksums_of(key, name.sequence, data.back());
      if (!builder.add(key, length_bytes, checksums)) {
        segment.full = true;
        break;
      }
      records.push_back({key, 0, length_bytes, checksums});
    }
    if (builder.batch_entries() == 0) break;
    Batch batch = builder.finish_batch();
    std::copy(batch.header.begin(), batch.header.end(), segment.bytes.begin() + batch.offset_bytes);
    for (const Batch::Piece& piece : batch.pieces) {
      records[piece.entry].offset_bytes = piece.offset_bytes;
      std::copy(data[piece.entry].begin(), data[piece.entry].end(),
                segment.bytes.begin() + piece.offset_bytes);
      segment.records.push_back(records[piece.entry]);
    }
    segment.batches.push_back(std::move(batch));
  }
  if (sealed) {
    const Footer footer = builder.finish();
    std::copy(footer.bytes.begin(), footer.bytes.end(), segment.bytes.begin() + footer.offset_bytes);
  }
  return segment;
}

}  // namespace cached::ssd_tier
