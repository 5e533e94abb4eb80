// Pages of entries: see dataset_entry.h; the encoding is described in FORMAT.md.
#include "cached/volume/dataset_entry.h"

#include <algorithm>
#include <tuple>

#include "base/units.h"

namespace cached::volume {
namespace {

constexpr uint8_t kKindMask = 7;
constexpr uint8_t kNewDirectory = 1U << 3;
constexpr uint8_t kHasNlink = 1U << 4;
constexpr uint8_t kHasBlocks = 1U << 5;
constexpr uint8_t kUnsettled = 1U << 6;

constexpr uint8_t kAtimeIsMtime = 1U << 0;
constexpr uint8_t kCtimeIsMtime = 1U << 1;
constexpr uint8_t kMtimeWhole = 1U << 2;
constexpr uint8_t kAtimeWhole = 1U << 3;
constexpr uint8_t kCtimeWhole = 1U << 4;

constexpr uint32_t kNanosecondsLimit = 1'000'000'000;

uint32_t usual_nlink(EntryKind kind) {
  return kind == EntryKind::kDirectory ? 2 : 1;
}

size_t shared_prefix(std::string_view a, std::string_view b) {
  const size_t limit = std::min(a.size(), b.size());
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(limit), b.begin()).first - a.begin());
}

}  // namespace

uint64_t usual_blocks(EntryKind kind, uint64_t size) {
  return kind == EntryKind::kFile ? align_up(size, 4096) / 512 : 0;
}

void EntryPageWriter::write_times(const Entry& entry, ByteWriter* body) const {
  uint8_t shape = 0;
  if (entry.atime == entry.mtime) shape |= kAtimeIsMtime;
  if (entry.ctime == entry.mtime) shape |= kCtimeIsMtime;
  if (entry.mtime.nanoseconds == 0) shape |= kMtimeWhole;
  if (entry.atime.nanoseconds == 0) shape |= kAtimeWhole;
  if (entry.ctime.nanoseconds == 0) shape |= kCtimeWhole;
  const auto write = [&](const Timestamp& time, int64_t base, uint8_t whole) {
    body->difference(static_cast<uint64_t>(time.seconds), static_cast<uint64_t>(base));
    if ((shape & whole) == 0) body->raw(time.nanoseconds);
  };
  body->raw(shape);
  write(entry.mtime, first_.mtime.seconds, kMtimeWhole);
  if ((shape & kAtimeIsMtime) == 0) write(entry.atime, entry.mtime.seconds, kAtimeWhole);
  if ((shape & kCtimeIsMtime) == 0) write(entry.ctime, entry.mtime.seconds, kCtimeWhole);
}

void EntryPageWriter::write_body(const Entry& entry, ByteWriter* body) const {
  if (entry.kind == EntryKind::kLink) return body->varint(entry.link_to);
  body->varint(entry.attributes);
  body->difference(entry.ino, first_.ino);
  write_times(entry, body);
  if (entry.nlink != usual_nlink(entry.kind)) body->varint(entry.nlink);
  if (entry.blocks_512 != usual_blocks(entry.kind, entry.size)) body->varint(entry.blocks_512);
  switch (entry.kind) {
    case EntryKind::kFile:
      body->varint(entry.size);
      if (entry.size == 0) break;
      body->difference(entry.object, first_.object);
      body->varint(entry.object_offset / 16);
      break;
    case EntryKind::kDirectory:
      body->difference(entry.own_directory, first_.own_directory);
      body->varint(entry.size);
      break;
    case EntryKind::kSymlink:
      body->counted(entry.target);
      break;
    case EntryKind::kSpecial:
      body->varint(entry.device);
      break;
    case EntryKind::kLink:
      break;
  }
}

bool EntryPageWriter::add(const Entry& entry) {
  ByteWriter prelude;
  if (empty()) {
    first_ = entry;
    directory_ = entry.directory;
    name_.clear();
    prelude.varint(entry.directory);
    prelude.zigzag(entry.mtime.seconds);
    for (const uint64_t base : {entry.ino, entry.object, uint64_t{entry.own_directory}}) prelude.varint(base);
  }
  const bool new_directory = entry.directory != directory_;
  auto shape = static_cast<uint8_t>(entry.kind);
  if (new_directory) shape |= kNewDirectory;
  if (entry.kind != EntryKind::kLink) {
    if (entry.nlink != usual_nlink(entry.kind)) shape |= kHasNlink;
    if (entry.blocks_512 != usual_blocks(entry.kind, entry.size)) shape |= kHasBlocks;
    if (entry.unsettled) shape |= kUnsettled;
  }
  ByteWriter body;
  body.raw(shape);
  if (new_directory) body.varint(entry.directory - directory_);
  const size_t shared = new_directory ? 0 : shared_prefix(entry.name, name_);
  body.varint(shared);
  body.counted(std::string_view(entry.name).substr(shared));
  write_body(entry, &body);
  ByteWriter length;
  length.varint(body.size());
  if (payload_.size() + prelude.size() + length.size() + body.size() > kPagePayloadBytes) return false;
  for (const ByteWriter* part : {&prelude, &length, &body}) payload_.bytes(part->view());
  directory_ = entry.directory;
  name_ = entry.name;
  ++count_;
  return true;
}

std::string EntryPageWriter::take() {
  count_ = 0;
  return payload_.take();
}

EntryPageReader::EntryPageReader(const PageView& page)
    : payload_(page.payload), next_number_(page.first_entry) {
  const uint64_t directory = payload_.varint();
  base_mtime_ = payload_.zigzag();
  for (uint64_t* base : {&base_ino_, &base_object_, &base_child_}) *base = payload_.varint();
  damaged_ = !payload_.ok() || directory > UINT32_MAX || next_number_ > kMaximumEntries;
  directory_ = static_cast<uint32_t>(directory);
}

bool EntryPageReader::next() {
  if (damaged_ || payload_.left() == 0) return false;
  ByteReader body(payload_.counted(kPagePayloadBytes));
  shape_ = body.raw<uint8_t>();
  uint64_t directory = directory_;
  if ((shape_ & kNewDirectory) != 0) {
    const uint64_t step = body.varint();
    directory += std::min<uint64_t>(step, UINT32_MAX);  // too large a step is too large a number below
    name_.clear();
  }
  const uint64_t shared = body.varint();
  const std::string_view rest = body.counted(kMaximumNameBytes);
  damaged_ = !payload_.ok() || !body.ok() || shared > name_.size() ||
             shared + rest.size() > kMaximumNameBytes || directory > UINT32_MAX ||
             next_number_ > kMaximumEntries;
  if (damaged_) return false;
  name_.resize(shared);
  name_ += rest;
  directory_ = static_cast<uint32_t>(directory);
  body_ = body.bytes(body.left());
  number_ = next_number_++;
  return true;
}

Status EntryPageReader::status() const {
  return damaged_ ? Status(EIO, "a page of the entries table has a good checksum and bad content") : Status();
}

void EntryPageReader::read_times(ByteReader* body, Entry* entry) const {
  const auto shape = body->raw<uint8_t>();
  const auto read = [&](int64_t base, uint8_t whole) {
    Timestamp time;
    time.seconds = static_cast<int64_t>(body->difference(static_cast<uint64_t>(base)));
    if ((shape & whole) == 0) time.nanoseconds = body->raw<uint32_t>();
    if (time.nanoseconds >= kNanosecondsLimit) body->fail();
    return time;
  };
  entry->mtime = read(base_mtime_, kMtimeWhole);
  entry->atime = (shape & kAtimeIsMtime) != 0 ? entry->mtime : read(entry->mtime.seconds, kAtimeWhole);
  entry->ctime = (shape & kCtimeIsMtime) != 0 ? entry->mtime : read(entry->mtime.seconds, kCtimeWhole);
}

Result<Entry> EntryPageReader::entry() const {
  const Status damage(EIO, "an entry of the entries table has a good checksum and bad content");
  Entry entry;
  entry.number = number_;
  entry.directory = directory_;
  entry.name = name_;
  if ((shape_ & kKindMask) > static_cast<uint8_t>(EntryKind::kLink)) return damage;
  entry.kind = static_cast<EntryKind>(shape_ & kKindMask);
  ByteReader body(body_);
  if (entry.kind == EntryKind::kLink) {
    entry.link_to = body.varint();
    return body.finished() && entry.link_to < number_ ? Result<Entry>(std::move(entry)) : damage;
  }
  entry.attributes = body.varint();
  entry.ino = body.difference(base_ino_);
  read_times(&body, &entry);
  entry.nlink = (shape_ & kHasNlink) != 0 ? static_cast<uint32_t>(body.varint()) : usual_nlink(entry.kind);
  const bool has_blocks = (shape_ & kHasBlocks) != 0;
  if (has_blocks) entry.blocks_512 = body.varint();
  entry.unsettled = (shape_ & kUnsettled) != 0;
  if (entry.kind == EntryKind::kFile) {
    entry.size = body.varint();
    if (entry.size > kMaximumObjectBytes) return damage;
    if (entry.size > 0) {
      entry.object = body.difference(base_object_);
      const uint64_t offset_16 = body.varint();
      if (offset_16 > kMaximumObjectBytes / 16) return damage;
      entry.object_offset = offset_16 * 16;
    }
  } else if (entry.kind == EntryKind::kDirectory) {
    const uint64_t own = body.difference(base_child_);
    if (own == 0 || own > UINT32_MAX || (own <= directory_)) return damage;
    entry.own_directory = static_cast<uint32_t>(own);
    entry.size = body.varint();
  } else if (entry.kind == EntryKind::kSymlink) {
    entry.target = body.counted(kMaximumTargetBytes);
    entry.size = entry.target.size();
  } else {
    entry.device = body.varint();
  }
  if (!has_blocks) entry.blocks_512 = usual_blocks(entry.kind, entry.size);
  return body.finished() ? Result<Entry>(std::move(entry)) : damage;
}

std::string IndexWriter::add(const IndexKey& key) {
  ByteWriter writer;
  const size_t shared = shared_prefix(key.name, before_.name);
  writer.varint(key.first_entry - before_.first_entry);
  writer.varint(key.directory - before_.directory);
  writer.varint(shared);
  writer.counted(std::string_view(key.name).substr(shared));
  before_ = key;
  return writer.take();
}

Result<std::vector<IndexKey>> decode_index(std::string_view bytes, uint64_t pages) {
  const Status damage(EIO, "the index of a snapshot is damaged");
  ByteReader reader(bytes);
  std::vector<IndexKey> keys;
  IndexKey key;
  for (uint64_t page = 0; page < pages; ++page) {
    const IndexKey before = key;
    const uint64_t entries = reader.varint();
    const uint64_t directories = reader.varint();
    const uint64_t shared = reader.varint();
    const std::string_view rest = reader.counted(kMaximumNameBytes);
    if (!reader.ok() || entries > kMaximumEntries - key.first_entry ||
        directories > UINT32_MAX - key.directory || shared > key.name.size()) {
      return damage;
    }
    key.first_entry += entries;
    key.directory += static_cast<uint32_t>(directories);
    key.name.resize(shared);
    key.name += rest;
    const bool ordered =
        std::tie(before.directory, before.name) < std::tie(key.directory, key.name) && entries > 0;
    if (key.name.size() > kMaximumNameBytes || (page == 0 ? key.first_entry != 0 : !ordered)) return damage;
    keys.push_back(key);
  }
  return reader.finished() ? Result<std::vector<IndexKey>>(std::move(keys)) : damage;
}

}  // namespace cached::volume
