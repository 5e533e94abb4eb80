// Answers from a snapshot's tables: see dataset_reader.h.
#include "cached/volume/dataset_reader.h"

#include <algorithm>
#include <cstring>
#include <tuple>

namespace cached::volume {
namespace {

Status damaged(const std::string& what) {
  return Status(EIO, "a snapshot's metadata is damaged: " + what);
}

}  // namespace

io::Task<Result<SnapshotReader::Page>> SnapshotReader::page(Table table, uint64_t number) {
  const TablePlace& place = record_.table(table);
  if (number >= place.pages) co_return damaged(std::string(table_name(table)) + " has too few pages");
  Result<PinnedBytes> bytes =
      co_await source_.read_metadata(place.object, number * volume::kPageBytes, volume::kPageBytes);
  if (!bytes.ok()) co_return bytes.status();
  const Result<PageView> view = check_page(bytes->bytes, table, record_.import_id, number);
  if (!view.ok()) co_return view.status();
  co_return Page{*view, std::move(bytes->keep)};
}

io::Task<Result<std::string>> SnapshotReader::stream(Table table, uint64_t offset, uint64_t length) {
  const uint64_t size = record_.table(table).payload_bytes;
  if (offset > size || length > size - offset) {
    co_return damaged(std::string(table_name(table)) + " is shorter than what refers to it");
  }
  std::string bytes;
  while (bytes.size() < length) {
    const uint64_t at = offset + bytes.size();
    const Result<Page> here = co_await page(table, at / kPagePayloadBytes);
    if (!here.ok()) co_return here.status();
    const uint64_t in_page = at % kPagePayloadBytes;
    if (in_page >= here->view.payload.size()) co_return damaged("a page is shorter than it should be");
    bytes += here->view.payload.substr(in_page, length - bytes.size());
  }
  co_return bytes;
}

template <typename Record>
io::Task<Result<Record>> SnapshotReader::fixed_record(Table table, uint64_t number) {
  if (number > record_.table(table).payload_bytes / sizeof(Record)) {
    co_return damaged(std::string("no such record in ") + table_name(table));
  }
  const Result<std::string> bytes = co_await stream(table, number * sizeof(Record), sizeof(Record));
  if (!bytes.ok()) co_return bytes.status();
  Record record;
  std::memcpy(static_cast<void*>(&record), bytes->data(), sizeof record);
  co_return record;
}

io::Task<Result<std::unique_ptr<SnapshotReader>>> SnapshotReader::open(SnapshotRecord record,
                                                                       MetadataSource& source) {
  std::unique_ptr<SnapshotReader> reader(new SnapshotReader(std::move(record), source));
  const Result<std::string> bytes =
      co_await reader->stream(Table::kIndex, 0, reader->record_.table(Table::kIndex).payload_bytes);
  if (!bytes.ok()) co_return bytes.status();
  Result<std::vector<IndexKey>> index = decode_index(*bytes, reader->record_.table(Table::kEntries).pages);
  if (!index.ok()) co_return index.status();
  reader->index_ = std::move(index).value();
  co_return reader;
}

uint64_t SnapshotReader::page_of(uint32_t directory, std::string_view name) const {
  const auto after = std::upper_bound(index_.begin(), index_.end(), std::pair(directory, name),
                                      [](const auto& wanted, const IndexKey& key) {
                                        return wanted < std::pair(key.directory, std::string_view(key.name));
                                      });
  return after == index_.begin() ? 0 : static_cast<uint64_t>(after - index_.begin()) - 1;
}

uint64_t SnapshotReader::page_of(uint64_t entry) const {
  const auto after =
      std::upper_bound(index_.begin(), index_.end(), entry,
                       [](uint64_t wanted, const IndexKey& key) { return wanted < key.first_entry; });
  return after == index_.begin() ? 0 : static_cast<uint64_t>(after - index_.begin()) - 1;
}

io::Task<Result<Entry>> SnapshotReader::entry(uint64_t number) {
  const Result<Page> here = co_await page(Table::kEntries, page_of(number));
  if (!here.ok()) co_return here.status();
  EntryPageReader entries(here->view);
  while (entries.next()) {
    if (entries.number() == number) co_return entries.entry();
  }
  co_return entries.status().ok() ? damaged("entry " + std::to_string(number) + " is not there")
                                  : entries.status();
}

io::Task<Result<std::optional<Entry>>> SnapshotReader::find(uint32_t directory, std::string name) {
  const Result<Page> here = co_await page(Table::kEntries, page_of(directory, name));
  if (!here.ok()) co_return here.status();
  EntryPageReader entries(here->view);
  while (entries.next()) {
    if (entries.directory() < directory) continue;
    if (entries.directory() > directory || entries.name() > name) co_return std::optional<Entry>();
    if (entries.name() != name) continue;
    Result<Entry> found = entries.entry();
    if (!found.ok()) co_return found.status();
    co_return std::optional<Entry>(std::move(found).value());
  }
  if (!entries.status().ok()) co_return entries.status();
  co_return std::optional<Entry>();
}

io::Task<Result<std::vector<Entry>>> SnapshotReader::list(uint32_t directory, uint64_t from, size_t limit) {
  std::vector<Entry> found;
  const uint64_t first = from == 0 ? page_of(directory, "") : page_of(from);
  for (uint64_t number = first; number < index_.size() && found.size() < limit; ++number) {
    if (index_[number].directory > directory) break;
    const Result<Page> here = co_await page(Table::kEntries, number);
    if (!here.ok()) co_return here.status();
    EntryPageReader entries(here->view);
    while (found.size() < limit && entries.next()) {
      if (entries.directory() > directory) co_return found;
      if (entries.directory() < directory || entries.number() < from) continue;
      Result<Entry> entry = entries.entry();
      if (!entry.ok()) co_return entry.status();
      found.push_back(std::move(entry).value());
    }
    if (!entries.status().ok()) co_return entries.status();
  }
  co_return found;
}

io::Task<Result<Entry>> SnapshotReader::inode_of(Entry entry) {
  if (entry.kind != EntryKind::kLink) co_return entry;
  Result<Entry> inode = co_await this->entry(entry.link_to);
  if (inode.ok() && (inode->kind == EntryKind::kLink || inode->kind == EntryKind::kDirectory))
    co_return damaged("a hard link leads to what cannot have one");
  co_return inode;
}

io::Task<Result<AttributeRecord>> SnapshotReader::attributes(uint64_t number) {
  return fixed_record<AttributeRecord>(Table::kAttributes, number);
}

io::Task<Result<std::vector<Xattr>>> SnapshotReader::xattrs(AttributeRecord attributes) {
  if (attributes.xattr_bytes == 0) co_return std::vector<Xattr>();
  if (attributes.xattr_bytes > kMaximumXattrBytes + kMaximumRecordBytes)
    co_return damaged("a set of xattrs is too long");
  const Result<std::string> bytes =
      co_await stream(Table::kExtras, attributes.xattr_offset, attributes.xattr_bytes);
  if (!bytes.ok()) co_return bytes.status();
  co_return decode_xattrs(*bytes);
}

io::Task<Result<ObjectRecord>> SnapshotReader::object(uint64_t number) {
  return fixed_record<ObjectRecord>(Table::kObjects, number);
}

io::Task<Result<std::vector<Extent>>> SnapshotReader::extents(ObjectRecord object) {
  if (object.extent_count == 0) co_return std::vector<Extent>();
  if (object.extent_count > kMaximumExtents) co_return damaged("a file has too many extents");
  std::vector<Extent> extents(object.extent_count);
  if (object.first_extent > record_.table(Table::kExtents).payload_bytes)
    co_return damaged("a file's extents are not there");
  const Result<std::string> bytes =
      co_await stream(Table::kExtents, object.first_extent * sizeof(Extent), extents.size() * sizeof(Extent));
  if (!bytes.ok()) co_return bytes.status();
  std::memcpy(static_cast<void*>(extents.data()), bytes->data(), bytes->size());
  co_return extents;
}

io::Task<Result<std::vector<uint64_t>>> SnapshotReader::checksums(uint64_t first, uint64_t count) {
  if (count == 0) co_return std::vector<uint64_t>();
  std::vector<uint64_t> checksums;
  if (first > record_.table(Table::kChecksums).payload_bytes || count > kPagePayloadBytes / sizeof(uint64_t))
    co_return damaged("an object's checksums are not there");
  const Result<std::string> bytes =
      co_await stream(Table::kChecksums, first * sizeof(uint64_t), count * sizeof(uint64_t));
  if (!bytes.ok()) co_return bytes.status();
  checksums.resize(count);
  std::memcpy(checksums.data(), bytes->data(), bytes->size());
  co_return checksums;
}

io::Task<Status> SnapshotReader::check(Table table, uint64_t number) {
  const Result<Page> here = co_await page(table, number);
  if (!here.ok()) co_return here.status();
  if (table != Table::kEntries) co_return Status();
  EntryPageReader entries(here->view);
  while (entries.next()) {
    if (const Result<Entry> entry = entries.entry(); !entry.ok()) co_return entry.status();
  }
  co_return entries.status();
}

}  // namespace cached::volume
