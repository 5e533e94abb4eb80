// Writing a snapshot's tables: see snapshot_builder.h.
#include "cached/import/snapshot_builder.h"

#include <mutex>

#include "cached/volume/dataset_bytes.h"
#include "cached/volume/dataset_layout.h"

namespace cached::import {
namespace {

using volume::Table;

constexpr unsigned kUploadsInFlight = 4;
constexpr size_t kRememberedAttributes = 1'000'000;  // beyond it they are not shared any more

}  // namespace

// Pieces on their way to the store; the first error stays.
class SnapshotBuilder::Uploads {
 public:
  explicit Uploads(origin::ObjectStore& store) : store_(store), window_(kUploadsInFlight) {}

  void create(origin::ObjectName name, std::string bytes) {
    const auto kept = std::make_shared<const std::string>(std::move(bytes));
    window_.start(store_.create(std::move(name), std::as_bytes(std::span(kept->data(), kept->size()))),
                  origin::Done<void>([this, kept](const Status& status) {
                    const std::lock_guard lock(mutex_);
                    if (!status.ok() && status_.ok()) status_ = status;
                  }));
  }
  Status status() {
    const std::lock_guard lock(mutex_);
    return status_;
  }
  Status finish() {
    window_.drain();
    return status();
  }

 private:
  origin::ObjectStore& store_;
  std::mutex mutex_;
  Status status_;
  origin::CallWindow window_;  // last: its end waits for calls that use what stands above
};

SnapshotBuilder::SnapshotBuilder(origin::ObjectStore& store, std::string volume, uint64_t import_id)
    : volume_(std::move(volume)), uploads_(std::make_unique<Uploads>(store)) {
  record_.import_id = import_id;
  for (size_t table = 0; table < volume::kTables; ++table) {
    record_.tables[table].object = {import_id, volume::kMetadataObjectBit | (table + 1)};
  }
}

SnapshotBuilder::~SnapshotBuilder() = default;

void SnapshotBuilder::append(Table table, std::string_view bytes) {
  std::string& payload = writer(table).payload;
  while (!bytes.empty()) {
    const size_t room = volume::kPagePayloadBytes - payload.size();
    payload += bytes.substr(0, room);
    bytes.remove_prefix(std::min(room, bytes.size()));
    if (payload.size() == volume::kPagePayloadBytes) end_page(table, std::exchange(payload, {}), 0);
  }
}

void SnapshotBuilder::end_page(Table table, std::string_view payload, uint64_t first_entry) {
  volume::TablePlace& where = place(table);
  writer(table).piece += volume::encode_page(table, record_.import_id, where.pages, first_entry, payload);
  ++where.pages;
  where.payload_bytes += payload.size();
  if (writer(table).piece.size() == volume::kPieceBytes) end_piece(table);
}

void SnapshotBuilder::end_piece(Table table) {
  TableWriter& from = writer(table);
  uploads_->create(volume::piece_name(volume_, place(table).object, from.pieces++),
                   std::exchange(from.piece, {}));
}

uint64_t SnapshotBuilder::add_attributes(uint32_t mode, uint32_t uid, uint32_t gid,
                                         const std::vector<volume::Xattr>& xattrs) {
  volume::ByteWriter identity;
  for (const uint32_t value : {mode, uid, gid}) identity.raw(value);
  const std::string set = xattrs.empty() ? std::string() : encode_xattrs(xattrs);
  identity.raw(volume::checksum_of(set));
  identity.raw(uint64_t{set.size()});
  if (const auto found = attributes_.find(identity.view()); found != attributes_.end()) return found->second;
  volume::AttributeRecord record;
  record.mode = mode;
  record.uid = uid;
  record.gid = gid;
  record.xattr_bytes = static_cast<uint32_t>(set.size());
  record.xattr_offset = place(Table::kExtras).payload_bytes + writer(Table::kExtras).payload.size();
  append(Table::kExtras, set);
  volume::ByteWriter bytes;
  bytes.raw(record);
  append(Table::kAttributes, bytes.view());
  const uint64_t number = record_.attributes++;
  if (attributes_.size() < kRememberedAttributes) attributes_.emplace(identity.take(), number);
  return number;
}

const uint64_t* SnapshotBuilder::find_object(const shm::ObjectId& id) const {
  const auto found = objects_.find(id);
  return found == objects_.end() ? nullptr : &found->second;
}

uint64_t SnapshotBuilder::add_object(const StoredObject& object) {
  volume::ObjectRecord record = object.record;
  const auto records_before = [this](Table table, size_t record_bytes) {
    return (place(table).payload_bytes + writer(table).payload.size()) / record_bytes;
  };
  record.first_checksum = records_before(Table::kChecksums, sizeof(uint64_t));
  record.checksum_count = object.checksums.size();
  record.first_extent = records_before(Table::kExtents, sizeof(volume::Extent));
  record.extent_count = static_cast<uint32_t>(object.extents.size());
  const auto append_all = [this](Table table, const auto& values) {
    const auto bytes = std::as_bytes(std::span(values));
    append(table, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  };
  append_all(Table::kChecksums, object.checksums);
  append_all(Table::kExtents, object.extents);
  volume::ByteWriter bytes;
  bytes.raw(record);
  append(Table::kObjects, bytes.view());
  if (const auto layout = volume::ObjectLayout::make(record, object.extents); layout.ok()) {
    layout->for_each_piece([&](uint64_t piece) {
      record_.stored_bytes += layout->stored_bytes(piece);
      return true;
    });
  }
  const uint64_t number = record_.objects++;
  objects_.emplace(record.id, number);
  return number;
}

void SnapshotBuilder::end_entry_page() {
  const volume::IndexKey key{entry_page_.first_entry(), entry_page_.first_directory(),
                             entry_page_.first_name()};
  append(Table::kIndex, index_.add(key));
  end_page(Table::kEntries, entry_page_.take(), key.first_entry);
}

Result<uint64_t> SnapshotBuilder::add_entry(volume::Entry entry) {
  CACHED_RETURN_IF_ERROR(uploads_->status());
  if (record_.entries == volume::kMaximumEntries ||
      place(Table::kEntries).pages == volume::kMaximumTablePages)
    return Status(EFBIG, "the tree has more names than a snapshot can hold");
  entry.number = record_.entries++;
  if (entry.kind == volume::EntryKind::kDirectory) {
    ++record_.directories;
  } else if (entry.kind != volume::EntryKind::kLink) {
    ++record_.files;
    if (entry.kind == volume::EntryKind::kFile) record_.bytes += entry.size;
  }
  if (!entry_page_.add(entry)) {
    end_entry_page();
    if (!entry_page_.add(entry)) return Status(EFBIG, "an entry is longer than a page of metadata");
  }
  return entry.number;
}

Result<volume::SnapshotRecord> SnapshotBuilder::finish() {
  if (!entry_page_.empty()) end_entry_page();
  for (size_t i = 0; i < volume::kTables; ++i) {
    const auto table = static_cast<Table>(i);
    TableWriter& from = writer(table);
    if (!from.payload.empty()) end_page(table, std::exchange(from.payload, {}), 0);
    if (!from.piece.empty()) end_piece(table);
  }
  CACHED_RETURN_IF_ERROR(uploads_->finish());
  return record_;
}

}  // namespace cached::import
