// Writing and reading journals of imports: see journal.h.
#include "cached/import/journal.h"

#include <signal.h>
#include <unistd.h>
#include <xxhash.h>

#include <fstream>
#include <sstream>

#include "base/clock.h"
#include "cached/volume/dataset_layout.h"

namespace cached::import {
namespace {

constexpr uint64_t kJournalMagic = 0x4C4E524A48434343ULL;
constexpr uint64_t kOwnerMagic = 0x524E574F48434343ULL;
constexpr uint64_t kIntervalNs = 15 * kNanosecondsPerSecond;
constexpr int64_t kSilenceNs = 120'000'000'000;
constexpr size_t kFullBytes = size_t{2} << 20;
constexpr uint64_t kMaximumJournalBytes = uint64_t{16} << 20;
constexpr size_t kMaximumText = 1024;
// An object with more extents than this is not worth noting: it would fill the journal.
constexpr size_t kMaximumJournalExtents = 10'000;

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Field 22 of /proc/PID/stat, 0 if there is no such process. The name before it may contain anything.
uint64_t start_of_process(uint64_t pid) {
  const std::string line = first_line("/proc/" + std::to_string(pid) + "/stat");
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(line.substr(name_end + 1));
  std::string field;
  for (unsigned i = 3; i < 22; ++i) fields >> field;
  uint64_t started = 0;
  fields >> started;
  return started;
}

}  // namespace

ContentKey content_key(const SourceInode& inode) {
  volume::ByteWriter writer;
  for (const uint64_t value : {inode.device, inode.inode, inode.size}) writer.raw(value);
  for (const volume::Timestamp& time : {inode.mtime, inode.ctime}) {
    writer.raw(time.seconds);
    writer.raw(time.nanoseconds);
  }
  const volume::Checksum hash = volume::checksum_of(writer.view());
  return {hash.high, hash.low};
}

ImportOwner ImportOwner::self() {
  ImportOwner owner;
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  owner.host = host;
  owner.boot_id = first_line("/proc/sys/kernel/random/boot_id");
  owner.pid = static_cast<uint64_t>(::getpid());
  owner.process_started = start_of_process(owner.pid);
  owner.last_seen_ns = system_clock().realtime_ns();
  return owner;
}

bool ImportOwner::alive(int64_t now_ns) const {
  if (!boot_id.empty() && boot_id == first_line("/proc/sys/kernel/random/boot_id"))
    return start_of_process(pid) == process_started && process_started != 0;
  return now_ns - last_seen_ns < kSilenceNs;
}

Result<ImportOwner> load_owner(origin::ObjectStore& store, const std::string& volume, uint64_t import_id) {
  const Result<origin::VersionedBytes> bytes =
      store.read_small(volume::import_name(volume, import_id), volume::kMaximumRecordBytes).wait();
  if (!bytes.ok()) return bytes.status();
  const Result<std::string_view> content = volume::unseal(bytes->bytes, "the record of an import");
  if (!content.ok()) return content.status();
  volume::ByteReader reader(*content);
  ImportOwner owner;
  const bool ours = reader.raw<uint64_t>() == kOwnerMagic;
  owner.host = reader.counted(kMaximumText);
  owner.boot_id = reader.counted(kMaximumText);
  owner.pid = reader.raw<uint64_t>();
  owner.process_started = reader.raw<uint64_t>();
  owner.last_seen_ns = reader.raw<int64_t>();
  if (!ours || !reader.finished()) return Status(EIO, "the record of an import is damaged");
  return owner;
}

JournalWriter::JournalWriter(origin::ObjectStore& store, std::string volume, uint64_t import_id)
    : store_(store), volume_(std::move(volume)), import_id_(import_id) {}

void JournalWriter::add_piece(const StoredObject& object, const StoredPiece& piece) {
  if (object.extents.size() > kMaximumJournalExtents) return;
  const std::lock_guard lock(mutex_);
  pieces_.raw(object.record.id);
  pieces_.varint(object.record.size);
  pieces_.varint(object.record.flags);
  pieces_.varint(object.extents.size());
  for (const volume::Extent& extent : object.extents) pieces_.raw(extent);
  pieces_.varint(piece.piece);
  pieces_.varint(piece.checksums.size());
  for (const uint64_t checksum : piece.checksums) pieces_.raw(checksum);
  ++piece_count_;
}

void JournalWriter::add_file(const ContentKey& key, const shm::ObjectId& object, uint64_t offset) {
  const std::lock_guard lock(mutex_);
  files_.raw(key);
  files_.raw(object);
  files_.varint(offset);
  ++file_count_;
}

Status JournalWriter::write_owner() {
  const ImportOwner owner = ImportOwner::self();
  volume::ByteWriter writer;
  writer.raw(kOwnerMagic);
  writer.counted(owner.host);
  writer.counted(owner.boot_id);
  writer.raw(owner.pid);
  writer.raw(owner.process_started);
  writer.raw(owner.last_seen_ns);
  const std::string bytes = volume::seal(writer.take());
  return store_.write_full(volume::import_name(volume_, import_id_), as_bytes(bytes)).wait();
}

std::string JournalWriter::take_content() {
  if (piece_count_ == 0 && file_count_ == 0) return {};
  volume::ByteWriter writer;
  writer.raw(kJournalMagic);
  writer.raw(volume::kFormatVersion);
  writer.varint(std::exchange(piece_count_, 0));
  writer.bytes(pieces_.take());
  writer.varint(std::exchange(file_count_, 0));
  writer.bytes(files_.take());
  return volume::seal(writer.take());
}

Status JournalWriter::write(bool now) {
  const uint64_t now_ns = system_clock().monotonic_ns();
  std::string bytes;
  {
    const std::lock_guard lock(mutex_);
    const bool due = last_written_ns_ == 0 || now_ns - last_written_ns_ >= kIntervalNs ||
                     pieces_.size() + files_.size() >= kFullBytes;
    if (!now && !due) return Status();
    bytes = take_content();
  }
  last_written_ns_ = now_ns;
  CACHED_RETURN_IF_ERROR(write_owner());
  if (bytes.empty()) return Status();
  return store_.create(volume::journal_name(volume_, import_id_, sequence_++), as_bytes(bytes)).wait();
}

Status JournalContent::load(origin::ObjectStore& store, const std::string& volume, uint64_t import_id) {
  for (uint32_t sequence = 0;; ++sequence) {
    const origin::ObjectName name = volume::journal_name(volume, import_id, sequence);
    const Result<origin::VersionedBytes> bytes = store.read_small(name, kMaximumJournalBytes).wait();
    if (bytes.error_number() == ENOENT) return Status();
    if (!bytes.ok()) return bytes.status();
    CACHED_RETURN_IF_ERROR(decode(bytes->bytes, name.name));
  }
}

Status JournalContent::decode(std::string_view bytes, const std::string& what) {
  const Result<std::string_view> content = volume::unseal(bytes, what);
  if (!content.ok()) return content.status();
  volume::ByteReader reader(*content);
  if (reader.raw<uint64_t>() != kJournalMagic || reader.raw<uint32_t>() != volume::kFormatVersion)
    return Status(EPROTO, what + " is not a journal of this version");
  const uint64_t pieces = reader.varint();
  for (uint64_t i = 0; i < pieces && reader.ok(); ++i) {
    StoredObject object;
    object.record.id = reader.raw<shm::ObjectId>();
    object.record.size = reader.varint();
    object.record.flags = static_cast<uint32_t>(reader.varint());
    const uint64_t extents = reader.varint();
    for (uint64_t k = 0; k < extents && reader.ok(); ++k)
      object.extents.push_back(reader.raw<volume::Extent>());
    const uint64_t piece = reader.varint();
    std::vector<uint64_t> checksums;
    const uint64_t count = reader.varint();
    for (uint64_t k = 0; k < count && reader.ok(); ++k) checksums.push_back(reader.raw<uint64_t>());
    std::shared_ptr<Object>& known = objects_[object.record.id];
    if (known == nullptr) known = std::make_shared<Object>(Object{std::move(object), {}, false, nullptr});
    known->pieces[piece] = std::move(checksums);
  }
  const uint64_t files = reader.varint();
  for (uint64_t i = 0; i < files && reader.ok(); ++i) {
    const auto key = reader.raw<ContentKey>();
    const auto found = objects_.find(reader.raw<shm::ObjectId>());
    const uint64_t offset = reader.varint();
    if (found != objects_.end()) files_[key] = {found->second, offset};
  }
  return reader.finished() ? Status() : Status(EIO, what + " is damaged");
}

std::shared_ptr<const StoredObject> JournalContent::Object::whole() {
  if (std::exchange(examined, true)) return put_together;
  StoredObject object = stored;
  for (const auto& [piece, checksums] : pieces) {
    object.checksums.insert(object.checksums.end(), checksums.begin(), checksums.end());
  }
  object.record.checksum_count = object.checksums.size();
  const Result<volume::ObjectLayout> layout = volume::ObjectLayout::make(object.record, object.extents);
  if (!layout.ok()) return nullptr;
  bool fits = true;
  layout->for_each_piece([&](uint64_t piece) {
    const std::vector<uint64_t>* const done = checksums_of(piece);
    fits = done != nullptr && done->size() == layout->blocks_of(piece);
    return fits;
  });
  if (fits) put_together = std::make_shared<const StoredObject>(std::move(object));
  return put_together;
}

const std::vector<uint64_t>* JournalContent::Object::checksums_of(uint64_t piece) const {
  const auto found = pieces.find(piece);
  return found == pieces.end() ? nullptr : &found->second;
}

const JournalContent::Content* JournalContent::find(const ContentKey& key) const {
  const auto found = files_.find(key);
  return found == files_.end() ? nullptr : &found->second;
}

Status remove_journal(origin::ObjectStore& store, const std::string& volume, uint64_t import_id) {
  for (uint32_t sequence = 0;; ++sequence) {
    const Status removed = store.remove(volume::journal_name(volume, import_id, sequence)).wait();
    if (removed.error_number() == ENOENT) break;
    CACHED_RETURN_IF_ERROR(removed);
  }
  const Status removed = store.remove(volume::import_name(volume, import_id)).wait();
  return removed.error_number() == ENOENT ? Status() : removed;
}

}  // namespace cached::import
