// Encoding and decoding of data sets' records: see dataset_format.h and FORMAT.md.
#include "cached/volume/dataset_format.h"

#include <spdlog/fmt/fmt.h>
#include <xxhash.h>

#include <algorithm>
#include <charconv>

#include "cached/volume/dataset_bytes.h"

namespace cached::volume {
namespace {

constexpr uint64_t kHeadMagic = 0x4441454844484343ULL;      // "CCHDHEAD"
constexpr uint64_t kSnapshotMagic = 0x50414E5344484343ULL;  // "CCHDSNAP"
constexpr uint32_t kPageMagic = 0x31475043;                 // "CPG1"
constexpr uint32_t kHeadDestroyed = 1;
constexpr size_t kMaximumTextBytes = 4096;
constexpr uint64_t kMaximumXattrs = 4096;

Status damaged(const std::string& what, const char* why) {
  return Status(EIO, what + " is damaged: " + why);
}

Status check_start(ByteReader* reader, uint64_t magic, const std::string& what) {
  if (reader->raw<uint64_t>() != magic) return damaged(what, "it does not begin as one");
  const auto version = reader->raw<uint32_t>();
  if (version == kFormatVersion) return Status();
  return Status(EPROTO,
                fmt::format("{} has version {} of the format and this program knows version {}; use a "
                            "newer version of cached",
                            what, version, kFormatVersion));
}

// Takes `digits` hexadecimal digits (lower case) from the front of `text`.
bool take_hex(std::string_view* text, size_t digits, uint64_t* value) {
  if (text->size() < digits) return false;
  const std::string_view part = text->substr(0, digits);
  if (part.find_first_not_of("0123456789abcdef") != std::string_view::npos) return false;
  const auto end = std::from_chars(part.data(), part.data() + digits, *value, 16);
  text->remove_prefix(digits);
  return end.ec == std::errc();
}

bool take_text(std::string_view* text, std::string_view expected) {
  if (!text->starts_with(expected)) return false;
  text->remove_prefix(expected.size());
  return true;
}

}  // namespace

bool valid_volume_name(std::string_view name) {
  constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  return !name.empty() && name.size() <= 64 && name.front() != '.' && name.front() != '-' &&
         name.find_first_not_of(kAllowed) == std::string_view::npos;
}

origin::ObjectName head_name(const std::string& volume) {
  return {origin::Pool::kMetadata, volume + "/head"};
}
origin::ObjectName snapshot_name(const std::string& volume, uint64_t import_id) {
  return {origin::Pool::kMetadata, fmt::format("{}/snapshot.{:016x}", volume, import_id)};
}
origin::ObjectName import_name(const std::string& volume, uint64_t import_id) {
  return {origin::Pool::kMetadata, fmt::format("{}/import.{:016x}", volume, import_id)};
}
origin::ObjectName journal_name(const std::string& volume, uint64_t import_id, uint32_t sequence) {
  return {origin::Pool::kMetadata, fmt::format("{}/journal.{:016x}.{:08x}", volume, import_id, sequence)};
}
origin::ObjectName piece_name(const std::string& volume, const shm::ObjectId& id, uint64_t piece) {
  const bool metadata = is_metadata_object(id);
  return {metadata ? origin::Pool::kMetadata : origin::Pool::kData,
          fmt::format("{}/{}.{:016x}.{:012x}.{:08x}", volume, metadata ? 'm' : 'd', id.high,
                      id.low & ~kMetadataObjectBit, piece)};
}

ParsedName parse_name(const std::string& volume, std::string_view name) {
  using Kind = ParsedName::Kind;
  ParsedName parsed;
  if (!take_text(&name, volume) || !take_text(&name, "/")) return {};
  if (name == "head") return {.kind = Kind::kHead};
  if (take_text(&name, "snapshot.")) {
    parsed.kind = Kind::kSnapshot;
  } else if (take_text(&name, "import.")) {
    parsed.kind = Kind::kImport;
  } else if (take_text(&name, "journal.")) {
    parsed.kind = Kind::kJournal;
  } else if (take_text(&name, "m.")) {
    parsed.kind = Kind::kPiece;
    parsed.object.low = kMetadataObjectBit;
  } else if (take_text(&name, "d.")) {
    parsed.kind = Kind::kPiece;
  }
  if (parsed.kind == Kind::kForeign || !take_hex(&name, 16, &parsed.import_id)) return {};
  if (parsed.kind == Kind::kPiece) {
    uint64_t counter = 0;
    if (!take_text(&name, ".") || !take_hex(&name, 12, &counter)) return {};
    parsed.object = {parsed.import_id, parsed.object.low | counter};
  }
  const bool numbered = parsed.kind == Kind::kPiece || parsed.kind == Kind::kJournal;
  if (numbered && (!take_text(&name, ".") || !take_hex(&name, 8, &parsed.number))) return {};
  return name.empty() ? parsed : ParsedName{};
}

Checksum checksum_of(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

std::string seal(std::string bytes) {
  ByteWriter tail;
  tail.raw(checksum_of(bytes));
  return std::move(bytes) + tail.view();
}

Result<std::string_view> unseal(std::string_view sealed, const std::string& what) {
  if (sealed.size() < sizeof(Checksum)) return damaged(what, "it is too short");
  const std::string_view bytes = sealed.substr(0, sealed.size() - sizeof(Checksum));
  ByteReader tail(sealed.substr(bytes.size()));
  if (!(tail.raw<Checksum>() == checksum_of(bytes))) return damaged(what, "its checksum does not fit");
  return bytes;
}

uint64_t block_checksum(std::span<const std::byte> block) {
  return XXH3_64bits(block.data(), block.size());
}

const SnapshotMark* Head::find_snapshot(uint64_t number) const {
  const auto found = std::find_if(snapshots.begin(), snapshots.end(),
                                  [number](const SnapshotMark& mark) { return mark.number == number; });
  return found == snapshots.end() ? nullptr : &*found;
}
SnapshotMark* Head::find_snapshot(uint64_t number) {
  return const_cast<SnapshotMark*>(std::as_const(*this).find_snapshot(number));
}
const ImportMark* Head::find_import(uint64_t id) const {
  const auto found =
      std::find_if(imports.begin(), imports.end(), [id](const ImportMark& mark) { return mark.id == id; });
  return found == imports.end() ? nullptr : &*found;
}

std::string encode_head(const Head& head) {
  ByteWriter writer;
  writer.raw(kHeadMagic);
  writer.raw(kFormatVersion);
  writer.raw(head.destroyed ? kHeadDestroyed : 0U);
  writer.raw(head.volume_id);
  for (const uint64_t value : {head.generation, head.nonce, head.current, head.next_number})
    writer.raw(value);
  writer.raw(static_cast<uint32_t>(head.snapshots.size()));
  writer.raw(static_cast<uint32_t>(head.imports.size()));
  for (const SnapshotMark& mark : head.snapshots) writer.raw(mark);
  for (const ImportMark& mark : head.imports) writer.raw(mark);
  return seal(writer.take());
}

Result<Head> decode_head(std::string_view bytes, const std::string& volume) {
  const std::string what = "the head of volume " + volume;
  // The version first: another one may be sealed differently.
  ByteReader reader(bytes);
  CACHED_RETURN_IF_ERROR(check_start(&reader, kHeadMagic, what));
  if (const auto sealed = unseal(bytes, what); !sealed.ok()) return sealed.status();
  Head head;
  head.destroyed = (reader.raw<uint32_t>() & kHeadDestroyed) != 0;
  for (uint64_t& half : head.volume_id) half = reader.raw<uint64_t>();
  for (uint64_t* value : {&head.generation, &head.nonce, &head.current, &head.next_number}) {
    *value = reader.raw<uint64_t>();
  }
  const auto snapshots = reader.raw<uint32_t>();
  const auto imports = reader.raw<uint32_t>();
  if (snapshots > kMaximumSnapshots || imports > kMaximumImports)
    return damaged(what, "it has too many parts");
  for (uint32_t i = 0; i < snapshots; ++i) head.snapshots.push_back(reader.raw<SnapshotMark>());
  for (uint32_t i = 0; i < imports; ++i) head.imports.push_back(reader.raw<ImportMark>());
  if (!reader.ok() || reader.left() != sizeof(Checksum)) return damaged(what, "its length does not fit");
  for (size_t i = 0; i < head.snapshots.size(); ++i) {
    const SnapshotMark& mark = head.snapshots[i];
    const uint64_t before = i == 0 ? 0 : head.snapshots[i - 1].number;
    if (mark.number <= before || mark.number >= head.next_number || mark.import_id == 0)
      return damaged(what, "its snapshots have no good order");
  }
  if (head.current != 0 && head.find_snapshot(head.current) == nullptr)
    return damaged(what, "the current snapshot is not in it");
  return head;
}

const char* table_name(Table table) {
  constexpr const char* kNames[kTables] = {"entries", "index",   "attributes", "extras",
                                           "objects", "extents", "checksums"};
  return kNames[static_cast<size_t>(table)];
}

uint64_t SnapshotRecord::metadata_bytes() const {
  uint64_t pages = 0;
  for (const TablePlace& place : tables) pages += place.pages;
  return pages * kPageBytes;
}

std::string encode_snapshot(const SnapshotRecord& record) {
  ByteWriter writer;
  writer.raw(kSnapshotMagic);
  writer.raw(kFormatVersion);
  writer.raw(uint32_t{0});
  writer.raw(record.volume_id);
  writer.raw(record.import_id);
  writer.raw(record.base);
  writer.raw(record.started_at_ns);
  for (const uint64_t value : {record.entries, record.files, record.directories, record.bytes,
                               record.stored_bytes, record.objects, record.attributes}) {
    writer.raw(value);
  }
  for (const TablePlace& place : record.tables) writer.raw(place);
  writer.counted(record.source.substr(0, kMaximumTextBytes));
  writer.counted(record.host.substr(0, kMaximumTextBytes));
  return seal(writer.take());
}

Result<SnapshotRecord> decode_snapshot(std::string_view bytes, const std::string& what) {
  ByteReader reader(bytes);
  CACHED_RETURN_IF_ERROR(check_start(&reader, kSnapshotMagic, what));
  if (const auto sealed = unseal(bytes, what); !sealed.ok()) return sealed.status();
  SnapshotRecord record;
  reader.raw<uint32_t>();
  for (uint64_t& half : record.volume_id) half = reader.raw<uint64_t>();
  record.import_id = reader.raw<uint64_t>();
  record.base = reader.raw<uint64_t>();
  record.started_at_ns = reader.raw<int64_t>();
  for (uint64_t* value : {&record.entries, &record.files, &record.directories, &record.bytes,
                          &record.stored_bytes, &record.objects, &record.attributes}) {
    *value = reader.raw<uint64_t>();
  }
  for (TablePlace& place : record.tables) place = reader.raw<TablePlace>();
  record.source = reader.counted(kMaximumTextBytes);
  record.host = reader.counted(kMaximumTextBytes);
  if (!reader.ok() || reader.left() != sizeof(Checksum)) return damaged(what, "its length does not fit");
  if (record.entries == 0 || record.entries > kMaximumEntries) return damaged(what, "its count of entries");
  for (const TablePlace& place : record.tables) {
    if (place.pages > kMaximumTablePages || place.payload_bytes > place.pages * kPagePayloadBytes ||
        (place.pages > 0 && !is_metadata_object(place.object))) {
      return damaged(what, "the place of a table");
    }
  }
  const bool fits =
      record.table(Table::kAttributes).payload_bytes == record.attributes * sizeof(AttributeRecord) &&
      record.table(Table::kObjects).payload_bytes == record.objects * sizeof(ObjectRecord) &&
      record.table(Table::kEntries).pages > 0;
  return fits ? Result<SnapshotRecord>(std::move(record))
              : damaged(what, "its tables do not fit its figures");
}

std::string encode_page(Table table, uint64_t import_id, uint64_t page, uint64_t first_entry,
                        std::string_view payload) {
  std::string bytes(kPageBytes, '\0');
  PageHeader header{};
  header.magic = kPageMagic;
  header.table = static_cast<uint8_t>(table);
  header.version = kFormatVersion;
  header.import_id = import_id;
  header.page = page;
  header.payload_bytes = static_cast<uint32_t>(payload.size());
  header.first_entry = first_entry;
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, payload.data(), payload.size());
  const Checksum checksum = checksum_of(std::string_view(bytes).substr(sizeof(Checksum)));
  std::memcpy(bytes.data(), &checksum, sizeof checksum);
  return bytes;
}

Result<PageView> check_page(std::span<const std::byte> bytes, Table table, uint64_t import_id,
                            uint64_t page) {
  const auto what = [&] { return fmt::format("page {} of the {} table", page, table_name(table)); };
  if (bytes.size() != kPageBytes) return damaged(what(), "it is short");
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  PageHeader header;
  std::memcpy(&header, text.data(), sizeof header);
  if (!(Checksum{header.checksum_low, header.checksum_high} == checksum_of(text.substr(sizeof(Checksum)))))
    return damaged(what(), "its checksum does not fit");
  if (header.magic != kPageMagic || header.version != kFormatVersion ||
      header.table != static_cast<uint8_t>(table) || header.import_id != import_id || header.page != page) {
    return damaged(what(), "another page is in its place");
  }
  if (header.payload_bytes > kPagePayloadBytes) return damaged(what(), "its length");
  return PageView{text.substr(sizeof header, header.payload_bytes), header.first_entry};
}

std::string encode_xattrs(const std::vector<Xattr>& xattrs) {
  ByteWriter writer;
  writer.varint(xattrs.size());
  for (const Xattr& xattr : xattrs) {
    writer.counted(xattr.name);
    writer.counted(xattr.value);
  }
  return writer.take();
}

Result<std::vector<Xattr>> decode_xattrs(std::string_view bytes) {
  ByteReader reader(bytes);
  std::vector<Xattr> xattrs;
  const uint64_t count = reader.varint();
  for (uint64_t i = 0; i < count && i < kMaximumXattrs && reader.ok(); ++i) {
    Xattr xattr;
    xattr.name = reader.counted(kMaximumNameBytes);
    xattr.value = reader.counted(kMaximumXattrBytes);
    xattrs.push_back(std::move(xattr));
  }
  if (!reader.finished() || xattrs.size() != count) return damaged("a set of xattrs", "its length");
  return xattrs;
}

}  // namespace cached::volume
