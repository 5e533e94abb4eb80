#include "cached/ssd_tier/format.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#endif

namespace cached::ssd_tier {

namespace {

// On x86-64 the library also has a build that picks AVX2 or AVX-512 at run time; compiled-in XXH3 knows SSE2
// alone. Measured on an EPYC with AVX2, 16 KiB chunks: 14 against 30 GB/s in cache, 10 against 14 from
// memory.
uint64_t xxh3(const void* data, size_t length_bytes, uint64_t seed) {
#if defined(__x86_64__)
  return XXH3_64bits_withSeed_dispatch(data, length_bytes, seed);
#else
  return XXH3_64bits_withSeed(data, length_bytes, seed);
#endif
}

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

enum class Kind : uint32_t { kBatch = 1, kTable = 2, kTrailer = 3 };

// What makes a structure's checksum valid in one place of one filling of one device only.
uint64_t metadata_seed(const Uuid& device, uint64_t sequence, uint32_t number, Kind kind) {
  struct {
    Uuid device;
    uint64_t sequence;
    uint32_t number;
    Kind kind;
  } place{device, sequence, number, kind};
  static_assert(sizeof place == 32);
  return xxh3(&place, sizeof place, 0);
}

uint64_t device_tag(const Uuid& device) {
  uint64_t tag;
  std::memcpy(&tag, device.bytes.data(), sizeof tag);
  return tag;
}

uint64_t batch_checksum(const Uuid& device, BatchHeader header, std::span<const std::byte> records) {
  header.checksum = 0;
  const uint64_t seed = metadata_seed(device, header.sequence, header.segment_number, Kind::kBatch);
  return xxh3(records.data(), records.size(), xxh3(&header, sizeof header, seed));
}

uint64_t table_checksum(const Uuid& device, uint64_t sequence, uint32_t number,
                        std::span<const std::byte> table) {
  return xxh3(table.data(), table.size(), metadata_seed(device, sequence, number, Kind::kTable));
}

uint64_t trailer_checksum(const Uuid& device, Trailer trailer) {
  trailer.checksum = 0;
  return xxh3(&trailer, sizeof trailer,
              metadata_seed(device, trailer.sequence, trailer.segment_number, Kind::kTrailer));
}

void append_record(std::vector<std::byte>& to, const Record& record) {
  const RecordHeader header{record.key.object.high, record.key.object.low, record.key.block,
                            record.key.volume,      record.key.data_set,   record.offset_bytes / kUnitBytes,
                            record.length_bytes};
  const size_t at = to.size();
  to.resize(at + record_bytes(record.length_bytes));
  std::memcpy(&to[at], &header, sizeof header);
  std::memcpy(&to[at + sizeof header], record.checksums.data(), 4 * size_t{chunks_of(record.length_bytes)});
}

Status damaged(const std::string& what) {
  return {EBADMSG, what};
}

// Decodes `count` records that fill `bytes` and whose extents lie in [begin, end) of a segment, ascending.
Status decode_records(const Layout& layout, std::span<const std::byte> bytes, uint32_t count, uint64_t begin,
                      uint64_t end, std::vector<Record>& records) {
  for (uint32_t i = 0; i < count; ++i) {
    const std::string where = "record " + std::to_string(i);
    if (bytes.size() < sizeof(RecordHeader)) return damaged(where + " is cut off");
    const auto header = load<RecordHeader>(bytes.data());
    if (header.length_bytes == 0 || header.length_bytes > kMaximumEntryBytes) {
      return damaged(where + " has a length of " + std::to_string(header.length_bytes) + " bytes");
    }
    const uint32_t size_bytes = record_bytes(header.length_bytes);
    if (bytes.size() < size_bytes) return damaged(where + " is cut off");
    const uint64_t offset = uint64_t{header.offset_units} * kUnitBytes;
    if (offset % entry_alignment(layout, header.length_bytes) != 0) return damaged(where + " is not aligned");
    if (offset < begin) return damaged(where + " overlaps what is before it");
    begin = offset + entry_extent_bytes(layout, header.length_bytes);
    if (begin > end) return damaged(where + " goes beyond the end of its batch or table");
    Record& record = records.emplace_back();
    record.key = {{header.object_high, header.object_low}, header.block, header.volume, header.data_set};
    record.offset_bytes = static_cast<uint32_t>(offset);
    record.length_bytes = header.length_bytes;
    std::memcpy(record.checksums.data(), &bytes[sizeof header], size_bytes - sizeof header);
    bytes = bytes.subspan(size_bytes);
  }
  if (!bytes.empty()) return damaged("bytes are left behind the last record");
  return {};
}

// decode_records, and no records after an error.
Status decode_all_records(const Layout& layout, std::span<const std::byte> bytes, uint32_t count,
                          uint64_t begin, uint64_t end, std::vector<Record>& records) {
  Status status = decode_records(layout, bytes, count, begin, end, records);
  if (!status.ok()) records.clear();
  return status;
}

Status check_version(uint32_t version) {
  if (version > kFormatVersion) {
    return {EPROTONOSUPPORT, "written by a newer version (" + std::to_string(version) + ") of the format"};
  }
  if (version != kFormatVersion) return damaged("version " + std::to_string(version));
  return {};
}

Status check_batch_bounds(const Layout& layout, const BatchHeader& header) {
  const uint64_t header_bytes = uint64_t{header.header_units} * kUnitBytes;
  const uint64_t length_bytes = uint64_t{header.length_units} * kUnitBytes;
  const uint64_t offset_bytes = uint64_t{header.offset_units} * kUnitBytes;
  if (header.sequence == 0) return damaged("batch header without a sequence");
  if (header.record_count == 0 || header.record_count > kMaximumBatchRecords) {
    return damaged("batch of " + std::to_string(header.record_count) + " records");
  }
  if (header_bytes > kMaximumBatchHeaderBytes || header_bytes % layout.block_bytes != 0 ||
      header_bytes < sizeof header + uint64_t{header.records_bytes}) {
    return damaged("batch header of " + std::to_string(header_bytes) + " bytes");
  }
  if (offset_bytes % layout.block_bytes != 0 || length_bytes % layout.block_bytes != 0 ||
      length_bytes <= header_bytes || offset_bytes + length_bytes > layout.segment_bytes - kTrailerBytes) {
    return damaged("batch that does not lie in its segment");
  }
  return {};
}

}  // namespace

std::string to_string(const Uuid& uuid) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < uuid.bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += kDigits[uuid.bytes[i] >> 4];
    text += kDigits[uuid.bytes[i] & 15];
  }
  return text;
}

Result<Layout> layout_for(uint64_t capacity_bytes, uint32_t block_bytes) {
  if (!std::has_single_bit(block_bytes) || block_bytes < kUnitBytes || block_bytes > kMaximumBlockBytes) {
    return Status(EINVAL, "a device with blocks of " + std::to_string(block_bytes) +
                              " bytes cannot be used: they must be 512, 1024, 2048 or 4096 bytes");
  }
  if (capacity_bytes < kMinimumDeviceBytes) {
    return Status(
        ENOSPC, "a device needs at least 16 MiB; this one has " + std::to_string(capacity_bytes) + " bytes");
  }
  if (capacity_bytes > kMaximumDeviceBytes) {
    return Status(EFBIG,
                  "a device of more than 128 TiB (" + format_size(capacity_bytes) + "): make it partitions");
  }
  constexpr uint64_t kWantedSegments = 1024;
  Layout layout;
  layout.capacity_bytes = capacity_bytes;
  layout.data_offset = kSuperblockAreaBytes;
  layout.block_bytes = block_bytes;
  layout.segment_bytes = static_cast<uint32_t>(std::clamp(std::bit_floor(capacity_bytes / kWantedSegments),
                                                          kMinimumSegmentBytes, kMaximumSegmentBytes));
  layout.segment_count = static_cast<uint32_t>((capacity_bytes - layout.data_offset) / layout.segment_bytes);
  return layout;
}

Status check_layout(const Layout& layout) {
  if (!std::has_single_bit(layout.block_bytes) || layout.block_bytes < kUnitBytes ||
      layout.block_bytes > kMaximumBlockBytes) {
    return damaged("blocks of " + std::to_string(layout.block_bytes) + " bytes");
  }
  if (!std::has_single_bit(layout.segment_bytes) || layout.segment_bytes < kMinimumSegmentBytes ||
      layout.segment_bytes > kMaximumSegmentBytes) {
    return damaged("segments of " + std::to_string(layout.segment_bytes) + " bytes");
  }
  if (layout.capacity_bytes < kMinimumDeviceBytes || layout.capacity_bytes > kMaximumDeviceBytes) {
    return damaged("a capacity of " + std::to_string(layout.capacity_bytes) + " bytes");
  }
  if (layout.data_offset < kSuperblockAreaBytes || layout.data_offset > layout.capacity_bytes ||
      layout.data_offset % kMaximumBlockBytes != 0) {
    return damaged("data from " + std::to_string(layout.data_offset) + " on");
  }
  if (layout.segment_count == 0 ||
      layout.segment_count > (layout.capacity_bytes - layout.data_offset) / layout.segment_bytes) {
    return damaged(std::to_string(layout.segment_count) + " segments");
  }
  return {};
}

uint32_t chunk_checksum(const shm::BlockKey& key, uint64_t sequence, uint32_t chunk,
                        std::span<const std::byte> data) {
  struct {
    shm::BlockKey key;
    uint64_t sequence;
    uint32_t chunk;
    uint32_t zero;
  } place{key, sequence, chunk, 0};
  static_assert(sizeof place == 40);
  place.key.data_set = 0;
  return static_cast<uint32_t>(xxh3(data.data(), data.size(), xxh3(&place, sizeof place, 0)));
}

Checksums checksums_of(const shm::BlockKey& key, uint64_t sequence, std::span<const std::byte> data) {
  Checksums checksums{};
  for (uint32_t chunk = 0; !data.empty() && chunk < kMaximumChunks; ++chunk) {
    const size_t length_bytes = std::min<size_t>(data.size(), shm::kChunkBytes);
    checksums[chunk] = chunk_checksum(key, sequence, chunk, data.first(length_bytes));
    data = data.subspan(length_bytes);
  }
  return checksums;
}

bool verify_chunks(const shm::BlockKey& key, uint64_t sequence, uint32_t first_chunk,
                   std::span<const std::byte> data, const Checksums& expected) {
  for (uint32_t chunk = first_chunk; !data.empty(); ++chunk) {
    const size_t length_bytes = std::min<size_t>(data.size(), shm::kChunkBytes);
    if (chunk >= kMaximumChunks ||
        chunk_checksum(key, sequence, chunk, data.first(length_bytes)) != expected[chunk]) {
      return false;
    }
    data = data.subspan(length_bytes);
  }
  return true;
}

// ---- encoding

SegmentBuilder::SegmentBuilder(const Layout& layout, const SegmentName& name)
    : layout_(layout), name_(name) {}

uint32_t SegmentBuilder::Sizes::header_bytes(const Layout& layout, uint32_t offset_bytes) const {
  const uint64_t least = align_up(sizeof(BatchHeader) + records_bytes, layout.block_bytes);
  if (large_bytes == 0) return static_cast<uint32_t>(least);
  return static_cast<uint32_t>(align_up(offset_bytes + least, kMaximumBlockBytes) - offset_bytes);
}

SegmentBuilder::Sizes SegmentBuilder::sizes_with(uint32_t length_bytes) const {
  Sizes sizes = batch_sizes_;
  sizes.records_bytes += record_bytes(length_bytes);
  (length_bytes < kLargeEntryBytes ? sizes.small_bytes : sizes.large_bytes) +=
      entry_extent_bytes(layout_, length_bytes);
  return sizes;
}

bool SegmentBuilder::add(const shm::BlockKey& key, uint32_t length_bytes, const Checksums& checksums) {
  if (batch_.size() == kMaximumBatchRecords) return false;
  const Sizes sizes = sizes_with(length_bytes);
  const uint64_t batch_bytes =
      uint64_t{sizes.header_bytes(layout_, used_bytes_)} + sizes.large_bytes + sizes.small_bytes;
  const uint64_t footer_bytes =
      align_up(table_.size() + sizes.records_bytes, layout_.block_bytes) + kTrailerBytes;
  if (used_bytes_ + batch_bytes + footer_bytes > layout_.segment_bytes) return false;
  batch_.push_back({key, 0, length_bytes, checksums});
  batch_sizes_ = sizes;
  batch_bytes_ = static_cast<uint32_t>(batch_bytes);
  return true;
}

// Gives the entries of the batch their places, and its pieces, both in the order of the places.
void SegmentBuilder::place(Batch& batch) {
  const auto header_bytes = static_cast<uint32_t>(batch.header.size());
  for (uint32_t i = 0; i < batch_.size(); ++i) {
    batch.pieces.push_back({i, 0, entry_extent_bytes(layout_, batch_[i].length_bytes)});
  }
  std::stable_partition(batch.pieces.begin(), batch.pieces.end(), [this](const Batch::Piece& piece) {
    return batch_[piece.entry].length_bytes >= kLargeEntryBytes;
  });
  uint32_t offset_bytes = batch.offset_bytes + header_bytes;
  for (Batch::Piece& piece : batch.pieces) {
    piece.offset_bytes = offset_bytes;
    batch_[piece.entry].offset_bytes = offset_bytes;
    offset_bytes += piece.extent_bytes;
  }
}

Batch SegmentBuilder::finish_batch() {
  Batch batch{batch_number_++, used_bytes_, batch_bytes_, {}, {}};
  const uint32_t header_bytes = batch_sizes_.header_bytes(layout_, used_bytes_);
  batch.header.resize(header_bytes);
  place(batch);
  std::vector<std::byte> records;
  records.reserve(batch_sizes_.records_bytes);
  for (const Batch::Piece& piece : batch.pieces) append_record(records, batch_[piece.entry]);
  BatchHeader header{kBatchMagic,
                     kFormatVersion,
                     batch.number,
                     name_.sequence,
                     name_.number,
                     used_bytes_ / kUnitBytes,
                     batch_bytes_ / kUnitBytes,
                     header_bytes / kUnitBytes,
                     batch_entries(),
                     batch_sizes_.records_bytes,
                     device_tag(name_.device),
                     0};
  header.checksum = batch_checksum(name_.device, header, records);
  std::memcpy(batch.header.data(), &header, sizeof header);
  std::copy(records.begin(), records.end(), batch.header.begin() + sizeof header);

  table_.insert(table_.end(), records.begin(), records.end());
  record_count_ += batch_entries();
  used_bytes_ += batch_bytes_;
  batch_.clear();
  batch_sizes_ = {};
  batch_bytes_ = 0;
  return batch;
}

Footer SegmentBuilder::finish() const {
  Footer footer;
  footer.offset_bytes = static_cast<uint32_t>(layout_.segment_bytes - kTrailerBytes -
                                              align_up(table_.size(), layout_.block_bytes));
  footer.bytes.resize(layout_.segment_bytes - footer.offset_bytes);
  std::copy(table_.begin(), table_.end(), footer.bytes.begin());
  Trailer trailer{};
  trailer.magic = kTrailerMagic;
  trailer.version = kFormatVersion;
  trailer.segment_number = name_.number;
  trailer.sequence = name_.sequence;
  trailer.table_offset_units = footer.offset_bytes / kUnitBytes;
  trailer.table_bytes = static_cast<uint32_t>(table_.size());
  trailer.record_count = record_count_;
  trailer.batch_count = batch_number_;
  trailer.table_checksum = table_checksum(name_.device, name_.sequence, name_.number, table_);
  trailer.device_tag = device_tag(name_.device);
  trailer.checksum = trailer_checksum(name_.device, trailer);
  std::memcpy(&footer.bytes[footer.bytes.size() - kTrailerBytes], &trailer, sizeof trailer);
  return footer;
}

// ---- decoding

Result<BatchInfo> decode_batch(const Layout& layout, const Uuid& device, uint32_t number,
                               uint32_t offset_bytes, std::span<const std::byte> bytes,
                               std::vector<Record>& records) {
  records.clear();
  if (bytes.size() < sizeof(BatchHeader)) return Status(ENODATA, "no room for a batch header");
  const auto header = load<BatchHeader>(bytes.data());
  if (header.magic != kBatchMagic) return Status(ENODATA, "no batch header");
  CACHED_RETURN_IF_ERROR(check_version(header.version));
  if (header.device_tag != device_tag(device)) return Status(ENODATA, "a batch header of another device");
  CACHED_RETURN_IF_ERROR(check_batch_bounds(layout, header));
  bytes = bytes.subspan(sizeof header);
  if (header.records_bytes > bytes.size()) return damaged("batch header is cut off");
  bytes = bytes.first(header.records_bytes);
  if (batch_checksum(device, header, bytes) != header.checksum) {
    return damaged("batch header does not match its checksum");
  }
  if (header.segment_number != number || uint64_t{header.offset_units} * kUnitBytes != offset_bytes) {
    return Status(ESTALE, "batch header of another place: segment " + std::to_string(header.segment_number) +
                              ", unit " + std::to_string(header.offset_units));
  }
  const BatchInfo info{header.sequence,
                       header.batch_number,
                       offset_bytes,
                       header.length_units * kUnitBytes,
                       header.header_units * kUnitBytes,
                       header.record_count};
  CACHED_RETURN_IF_ERROR(decode_all_records(layout, bytes, header.record_count,
                                            offset_bytes + info.header_bytes,
                                            offset_bytes + info.length_bytes, records));
  return info;
}

uint32_t batch_header_bytes_wanted(std::span<const std::byte> bytes) {
  const auto size_bytes = static_cast<uint32_t>(std::min<size_t>(bytes.size(), kMaximumBatchHeaderBytes));
  if (bytes.size() < sizeof(BatchHeader)) return size_bytes;
  const auto header = load<BatchHeader>(bytes.data());
  if (header.magic != kBatchMagic || header.header_units > kMaximumBatchHeaderBytes / kUnitBytes) {
    return size_bytes;
  }
  return std::max(size_bytes, header.header_units * kUnitBytes);
}

Result<TrailerInfo> decode_trailer(const Layout& layout, const Uuid& device, uint32_t number,
                                   std::span<const std::byte, kTrailerBytes> bytes) {
  const auto trailer = load<Trailer>(bytes.data());
  if (trailer.magic != kTrailerMagic) return Status(ENODATA, "no trailer");
  CACHED_RETURN_IF_ERROR(check_version(trailer.version));
  if (trailer.device_tag != device_tag(device)) return Status(ENODATA, "a trailer of another device");
  if (trailer_checksum(device, trailer) != trailer.checksum) {
    return damaged("trailer does not match its checksum");
  }
  if (trailer.segment_number != number) {
    return Status(ESTALE, "trailer of segment " + std::to_string(trailer.segment_number));
  }
  const uint64_t offset_bytes = uint64_t{trailer.table_offset_units} * kUnitBytes;
  const uint64_t end = layout.segment_bytes - kTrailerBytes;
  if (trailer.sequence == 0 || offset_bytes % layout.block_bytes != 0 ||
      offset_bytes + align_up(trailer.table_bytes, layout.block_bytes) != end) {
    return damaged("trailer whose table does not lie before it");
  }
  if (trailer.record_count > trailer.table_bytes / record_bytes(1)) {
    return damaged("trailer that counts more records than its table holds");
  }
  return TrailerInfo{trailer.sequence,
                     number,
                     static_cast<uint32_t>(offset_bytes),
                     trailer.table_bytes,
                     trailer.record_count,
                     trailer.batch_count,
                     trailer.table_checksum};
}

Status decode_table(const Layout& layout, const Uuid& device, const TrailerInfo& trailer,
                    std::span<const std::byte> bytes, std::vector<Record>& records) {
  records.clear();
  if (bytes.size() != trailer.table_bytes) return damaged("footer table is cut off");
  if (table_checksum(device, trailer.sequence, trailer.number, bytes) != trailer.table_checksum) {
    return damaged("footer table does not match its checksum");
  }
  return decode_all_records(layout, bytes, trailer.record_count, 0, trailer.table_offset_bytes, records);
}

}  // namespace cached::ssd_tier
