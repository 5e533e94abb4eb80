// Snapshots opened by tools: see snapshot_access.h.
#include "cached/import/snapshot_access.h"

#include <algorithm>

#include "cached/import/volume_head.h"

namespace cached::import {
namespace {

constexpr uint64_t kReadBytes = uint64_t{1} << 20;
constexpr size_t kReadsKept = 64;
constexpr uint64_t kChecksumsAtOnce = 2000;

}  // namespace

Result<std::unique_ptr<SnapshotAccess>> SnapshotAccess::open(
    const std::shared_ptr<origin::ObjectStore>& store, const std::string& volume,
    const volume::SnapshotMark& mark) {
  Result<volume::SnapshotRecord> record = load_snapshot(*store, volume, mark);
  if (!record.ok()) return record.status();
  std::unique_ptr<SnapshotAccess> access(new SnapshotAccess);
  access->source_ = std::make_unique<volume::StoreMetadataSource>(
      store, volume, nullptr, volume::StoreMetadataSource::Options{kReadBytes, kReadsKept});
  Result<std::unique_ptr<volume::SnapshotReader>> reader =
      volume::run_blocking(volume::SnapshotReader::open(std::move(record).value(), *access->source_));
  if (!reader.ok()) return reader.status();
  access->reader_ = std::move(reader).value();
  return access;
}

Result<volume::ObjectLayout> SnapshotAccess::layout(const volume::ObjectRecord& record) {
  Result<std::vector<volume::Extent>> extents = volume::run_blocking(reader_->extents(record));
  if (!extents.ok()) return extents.status();
  return volume::ObjectLayout::make(record, std::move(extents).value());
}

Result<std::vector<uint64_t>> SnapshotAccess::checksums(const volume::ObjectRecord& record) {
  std::vector<uint64_t> checksums;
  for (uint64_t at = 0; at < record.checksum_count; at += kChecksumsAtOnce) {
    const Result<std::vector<uint64_t>> some = volume::run_blocking(reader_->checksums(
        record.first_checksum + at, std::min(kChecksumsAtOnce, record.checksum_count - at)));
    if (!some.ok()) return some.status();
    checksums.insert(checksums.end(), some->begin(), some->end());
  }
  return checksums;
}

Result<StoredObject> SnapshotAccess::stored_object(uint64_t number) {
  StoredObject object;
  const Result<volume::ObjectRecord> record = volume::run_blocking(reader_->object(number));
  if (!record.ok()) return record.status();
  object.record = *record;
  Result<std::vector<volume::Extent>> extents = volume::run_blocking(reader_->extents(*record));
  if (!extents.ok()) return extents.status();
  object.extents = std::move(extents).value();
  Result<std::vector<uint64_t>> all = checksums(*record);
  if (!all.ok()) return all.status();
  object.checksums = std::move(all).value();
  return object;
}

Status SnapshotAccess::for_each_object(const std::function<Status(const volume::ObjectRecord&)>& visit) {
  for (uint64_t number = 0; number < record().objects; ++number) {
    const Result<volume::ObjectRecord> object = volume::run_blocking(reader_->object(number));
    if (!object.ok()) return object.status();
    CACHED_RETURN_IF_ERROR(visit(*object));
  }
  return Status();
}

}  // namespace cached::import
