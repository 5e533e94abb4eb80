// Taking apart what JuiceFS wrote: see juicefs_format.h.
#include "cached/volume/juicefs_format.h"

#include <dirent.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <lz4.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <xxhash.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "base/log.h"

namespace cached::volume::juicefs {
namespace {

constexpr size_t kShortAttributes = 72;
constexpr size_t kAttributesWithAcl = 80;
constexpr size_t kTierBytes = 1;
constexpr int kNewestMetaVersion = 1;
constexpr uint64_t kSliceTag = uint64_t{0x4A53} << 32;  // "JS": the upper half of a slice object's low word
constexpr uint64_t kVersionBit = uint64_t{1} << 63;
constexpr uint32_t kNanosecondsLimit = 1'000'000'000;
constexpr uint16_t kAclUndefined = 0xFFFF;
constexpr size_t kMaximumAclEntries = 1024;

// Reads big-endian numbers; zeros and !ok() beyond the end.
class BigEndianReader {
 public:
  explicit BigEndianReader(std::string_view bytes) : rest_(bytes) {}
  template <typename T>
  T number() {
    if (rest_.size() < sizeof(T)) {
      ok_ = false;
      rest_ = {};
      return 0;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) value = value << 8 | static_cast<uint8_t>(rest_[i]);
    rest_.remove_prefix(sizeof(T));
    return static_cast<T>(value);
  }
  bool ok() const { return ok_; }
  size_t left() const { return rest_.size(); }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

bool is_type(unsigned value) {
  return value >= static_cast<unsigned>(FileType::kFile) && value <= static_cast<unsigned>(FileType::kSocket);
}

Status unsupported(const std::string& what) {
  return Status(ENOTSUP, what + "; cached cannot read such a volume");
}

// The value of `key`; null if it is not there or says nothing.
const nlohmann::json* present(const nlohmann::json& json, const char* key) {
  const auto found = json.find(key);
  return found == json.end() || found->is_null() ? nullptr : &*found;
}

template <typename T>
T value_of(const nlohmann::json& json, const char* key, T fallback) {
  const nlohmann::json* const value = present(json, key);
  return value == nullptr ? fallback : value->get<T>();
}

// The whole number `key`, 0 if it is not there. A fraction or a number beyond 63 bits is none: nlohmann would
// convert it all the same, with undefined behaviour or a wrong sign.
Status read_number(const nlohmann::json& json, const char* key, int64_t* number) {
  *number = 0;
  const nlohmann::json* const value = present(json, key);
  if (value == nullptr) return Status();
  const bool fits =
      value->is_number_unsigned() ? value->get<uint64_t>() <= INT64_MAX : value->is_number_integer();
  if (!fits) return Status(EINVAL, std::string("its ") + key + " is no whole number");
  *number = value->get<int64_t>();
  return Status();
}

Status read_compression(const std::string& name, Compression* compression) {
  if (name.empty() || name == "none") {
    *compression = Compression::kNone;
  } else if (name == "lz4") {
    *compression = Compression::kLz4;
  } else if (name == "zstd") {
    *compression = Compression::kZstd;
  } else {
    return unsupported("its blocks are compressed with \"" + printable(name) + "\"");
  }
  return Status();
}

// Throws what nlohmann throws for a value of another type.
Status fill_setting(const nlohmann::json& json, Setting* setting) {
  setting->name = value_of<std::string>(json, "Name", "");
  setting->uuid = value_of<std::string>(json, "UUID", "");
  setting->storage = value_of<std::string>(json, "Storage", "");
  setting->bucket = value_of<std::string>(json, "Bucket", "");
  setting->hash_prefix = value_of<bool>(json, "HashPrefix", false);
  int64_t version = 0;
  int64_t shards = 0;
  int64_t block_kib = 0;
  CACHED_RETURN_IF_ERROR(read_number(json, "MetaVersion", &version));
  CACHED_RETURN_IF_ERROR(read_number(json, "Shards", &shards));
  CACHED_RETURN_IF_ERROR(read_number(json, "BlockSize", &block_kib));
  if (version > kNewestMetaVersion)
    return unsupported("its metadata has version " + std::to_string(version) + ", newer than " +
                       std::to_string(kNewestMetaVersion));
  if (!value_of<std::string>(json, "EncryptKey", "").empty()) return unsupported("its blocks are encrypted");
  if (shards > 1) return unsupported("it is spread over several buckets");
  if (setting->storage != "ceph" && setting->storage != "file")
    return unsupported("its blocks lie in a store of kind \"" + printable(setting->storage) +
                       "\", and only \"ceph\" and \"file\" are known");
  CACHED_RETURN_IF_ERROR(
      read_compression(value_of<std::string>(json, "Compression", ""), &setting->compression));
  if (block_kib <= 0 || static_cast<uint64_t>(block_kib) > kMaximumBlockBytes / 1024)
    return Status(EINVAL, "its block size of " + std::to_string(block_kib) + " KiB is impossible");
  setting->block_bytes = static_cast<uint64_t>(block_kib) * 1024;
  const bool sound_name = !setting->name.empty() && setting->name.size() <= 64 &&
                          setting->name.find_first_of(std::string_view("/\0", 2)) == std::string::npos &&
                          setting->name != "." && setting->name != "..";
  if (!sound_name) return Status(EINVAL, "its name \"" + printable(setting->name) + "\" is impossible");
  if (setting->uuid.empty()) return Status(EINVAL, "it has no UUID");
  if (setting->storage == "ceph" && pool_of_bucket(setting->bucket).empty())
    return Status(EINVAL, "its bucket \"" + printable(setting->bucket) + "\" names no pool");
  if (setting->storage == "file" && (setting->bucket.empty() || setting->bucket.front() != '/'))
    return Status(EINVAL, "its bucket \"" + printable(setting->bucket) + "\" is no absolute path");
  return Status();
}

// A part of a chunk that one slice shows.
struct Shown {
  uint64_t end = 0;
  uint64_t id = 0;
  uint32_t size = 0;
  uint64_t offset = 0;  // in the slice, of the part's first byte
};
using Overlay = std::map<uint64_t, Shown>;  // by where it begins

// Makes sure that a part begins at `at`, if one covers it.
void split(Overlay* overlay, uint64_t at) {
  auto after = overlay->upper_bound(at);
  if (after == overlay->begin()) return;
  auto& [begin, shown] = *std::prev(after);
  if (begin == at || shown.end <= at) return;
  Shown second = shown;
  second.offset += at - begin;
  shown.end = at;
  overlay->emplace_hint(after, at, second);
}

void lay_over(Overlay* overlay, const Slice& slice) {
  const uint64_t begin = slice.position;
  const uint64_t end = begin + slice.length;
  if (begin == end) return;
  split(overlay, begin);
  split(overlay, end);
  overlay->erase(overlay->lower_bound(begin), overlay->lower_bound(end));
  if (slice.id != 0) overlay->emplace(begin, Shown{end, slice.id, slice.size, slice.offset});
}

void append_piece(const shm::MapPiece& piece, std::vector<shm::MapPiece>* pieces) {
  if (piece.length == 0) return;
  if (!pieces->empty()) {
    shm::MapPiece& last = pieces->back();
    const bool continues = last.object == piece.object &&
                           (piece.object.empty() || last.object_offset + last.length == piece.object_offset);
    if (continues) {
      last.length += piece.length;
      return;
    }
  }
  pieces->push_back(piece);
}

}  // namespace

Result<Setting> parse_setting(std::string_view json) {
  Setting setting;
  try {
    const nlohmann::json parsed = nlohmann::json::parse(json);
    if (!parsed.is_object()) return Status(EINVAL, "its setting is not a JSON object");
    CACHED_RETURN_IF_ERROR(fill_setting(parsed, &setting));
  } catch (const nlohmann::json::exception&) {
    // The exception's text may quote the record, which holds keys.
    return Status(EINVAL, "its setting cannot be read");
  }
  return setting;
}

std::string pool_of_bucket(const std::string& bucket) {
  constexpr std::string_view kScheme = "ceph://";
  if (!std::string_view(bucket).starts_with(kScheme)) return "";
  const std::string pool = bucket.substr(kScheme.size());
  const size_t end = pool.find('/');
  return end == std::string::npos || end + 1 == pool.size() ? pool.substr(0, end) : "";
}

uint32_t mode_of_type(FileType type) {
  constexpr std::array<uint32_t, 8> kModes = {0,       S_IFREG, S_IFDIR, S_IFLNK,
                                              S_IFIFO, S_IFBLK, S_IFCHR, S_IFSOCK};
  return kModes[static_cast<unsigned>(type)];
}

uint8_t dirent_of_type(FileType type) {
  return static_cast<uint8_t>(IFTODT(mode_of_type(type)));
}

Result<Attributes> parse_attributes(std::string_view bytes) {
  const size_t length = bytes.size();
  const bool with_acl = length == kAttributesWithAcl || length == kAttributesWithAcl + kTierBytes;
  if (!with_acl && length != kShortAttributes && length != kShortAttributes + kTierBytes)
    return Status(EINVAL, "attributes of " + std::to_string(length) + " bytes");
  BigEndianReader reader(bytes);
  Attributes a;
  reader.number<uint8_t>();  // flags, which say something to writers
  const auto type_and_mode = reader.number<uint16_t>();
  a.uid = reader.number<uint32_t>();
  a.gid = reader.number<uint32_t>();
  a.atime_s = reader.number<int64_t>();
  a.atime_ns = reader.number<uint32_t>();
  a.mtime_s = reader.number<int64_t>();
  a.mtime_ns = reader.number<uint32_t>();
  a.ctime_s = reader.number<int64_t>();
  a.ctime_ns = reader.number<uint32_t>();
  a.nlink = reader.number<uint32_t>();
  a.length = reader.number<uint64_t>();
  a.rdev = reader.number<uint32_t>();
  a.parent = reader.number<uint64_t>();
  if (with_acl) {
    a.access_acl = reader.number<uint32_t>();
    a.default_acl = reader.number<uint32_t>();
  }
  if (!is_type(type_and_mode >> 12))
    return Status(EINVAL, "attributes of the unknown type " + std::to_string(type_and_mode >> 12));
  a.type = static_cast<FileType>(type_and_mode >> 12);
  a.permissions = type_and_mode & 07777;
  if (a.length > kMaximumFileBytes)
    return Status(EINVAL, "a length of " + std::to_string(a.length) + " bytes");
  if (a.atime_ns >= kNanosecondsLimit || a.mtime_ns >= kNanosecondsLimit || a.ctime_ns >= kNanosecondsLimit)
    return Status(EINVAL, "a time with more than a second of nanoseconds");
  return a;
}

Result<DirectoryEntry> parse_entry(std::string_view bytes) {
  BigEndianReader reader(bytes);
  const auto type = reader.number<uint8_t>();
  DirectoryEntry entry;
  entry.ino = reader.number<uint64_t>();
  if (!reader.ok() || reader.left() != 0)
    return Status(EINVAL, "a directory entry of " + std::to_string(bytes.size()) + " bytes");
  if (!is_type(type)) return Status(EINVAL, "a directory entry of the unknown type " + std::to_string(type));
  if (entry.ino == 0 || entry.ino >= kTrashIno)
    return Status(EINVAL, "a directory entry that leads to inode " + std::to_string(entry.ino));
  entry.type = static_cast<FileType>(type);
  return entry;
}

Result<std::vector<Slice>> parse_slices(std::string_view records) {
  if (records.size() % kSliceRecordBytes != 0)
    return Status(EINVAL, "a list of slices of " + std::to_string(records.size()) + " bytes");
  if (records.size() / kSliceRecordBytes > kMaximumSlices)
    return Status(EINVAL, "a chunk of more than " + std::to_string(kMaximumSlices) + " slices");
  std::vector<Slice> slices;
  slices.reserve(records.size() / kSliceRecordBytes);
  for (BigEndianReader reader(records); reader.left() > 0;) {
    Slice slice;
    slice.position = reader.number<uint32_t>();
    slice.id = reader.number<uint64_t>();
    slice.size = reader.number<uint32_t>();
    slice.offset = reader.number<uint32_t>();
    slice.length = reader.number<uint32_t>();
    if (uint64_t{slice.position} + slice.length > kChunkBytes)
      return Status(EINVAL, "slice " + std::to_string(slice.id) + " is longer than its chunk");
    const bool within = uint64_t{slice.offset} + slice.length <= slice.size && slice.size <= kChunkBytes;
    if (slice.id != 0 && !within)
      return Status(EINVAL, "slice " + std::to_string(slice.id) + " is shorter than what is shown of it");
    slices.push_back(slice);
  }
  return slices;
}

std::vector<shm::MapPiece> merge_slices(const std::vector<Slice>& slices, uint64_t base, uint64_t length) {
  Overlay overlay;
  for (const Slice& slice : slices) lay_over(&overlay, slice);
  std::vector<shm::MapPiece> pieces;
  uint64_t at = 0;
  for (const auto& [begin, shown] : overlay) {
    if (begin >= length) break;
    append_piece({base + at, begin - at, {}, 0}, &pieces);
    const uint64_t end = std::min(shown.end, length);
    append_piece({base + begin, end - begin, object_of_slice(shown.id, shown.size), shown.offset}, &pieces);
    at = end;
  }
  append_piece({base + at, length - at, {}, 0}, &pieces);
  return pieces;
}

shm::ObjectId object_of_slice(uint64_t id, uint32_t size) {
  return {id, kSliceTag | size};
}

Result<SliceName> slice_of_object(const shm::ObjectId& object) {
  const SliceName slice{object.high, static_cast<uint32_t>(object.low)};
  if ((object.low & ~uint64_t{UINT32_MAX}) != kSliceTag || slice.id == 0 || slice.size == 0 ||
      slice.size > kChunkBytes) {
    return Status(EINVAL, "the object is no slice");
  }
  return slice;
}

shm::ObjectId version_of(uint64_t ino, const Attributes& a) {
  const std::array<uint64_t, 6> words = {ino,
                                         a.length,
                                         static_cast<uint64_t>(a.mtime_s),
                                         static_cast<uint64_t>(a.ctime_s),
                                         uint64_t{a.mtime_ns} << 32 | a.ctime_ns,
                                         kChunkBytes};
  const XXH128_hash_t hash = XXH3_128bits(words.data(), sizeof words);
  return {hash.high64, hash.low64 | kVersionBit};
}

Result<shm::InodeInfo> inode_info(uint64_t tag, uint64_t ino, std::string_view attributes,
                                  std::string_view slices, bool has_xattrs) {
  const Result<Attributes> parsed = parse_attributes(attributes);
  if (!parsed.ok()) return parsed.status();
  const Attributes& a = *parsed;
  shm::InodeInfo info;
  info.handle = {tag, ino};
  info.ino = ino;
  info.size = a.length;
  info.blocks_512 = (a.length + 511) / 512;
  info.atime_s = a.atime_s;
  info.mtime_s = a.mtime_s;
  info.ctime_s = a.ctime_s;
  info.atime_ns = a.atime_ns;
  info.mtime_ns = a.mtime_ns;
  info.ctime_ns = a.ctime_ns;
  info.mode = mode_of_type(a.type) | a.permissions;
  info.nlink = a.nlink;
  info.uid = a.uid;
  info.gid = a.gid;
  info.rdev = a.rdev;
  if (!has_xattrs && a.access_acl == 0 && a.default_acl == 0) info.flags |= shm::kInodeNoXattrs;
  if (a.type != FileType::kFile || a.length == 0) return info;
  info.layout = shm::LayoutKind::kMap;
  info.object = version_of(ino, a);
  if (a.length > kChunkBytes || slices.size() > kFewSlices * kSliceRecordBytes) return info;
  // Damaged slices are met again when the file is read, and then they are an error.
  const Result<std::vector<Slice>> few = parse_slices(slices);
  if (!few.ok()) return info;
  const std::vector<shm::MapPiece> pieces = merge_slices(*few, 0, a.length);
  if (pieces.size() != 1 || pieces.front().object.empty()) return info;
  info.layout = shm::LayoutKind::kObject;
  info.object = pieces.front().object;
  info.layout_base = pieces.front().object_offset;
  return info;
}

uint64_t block_length(const Setting& setting, const SliceName& slice, uint64_t index) {
  const uint64_t begin = index * setting.block_bytes;
  return begin >= slice.size ? 0 : std::min<uint64_t>(setting.block_bytes, slice.size - begin);
}

std::string block_name(const Setting& setting, const SliceName& slice, uint64_t index) {
  const std::string id = std::to_string(slice.id);
  const std::string last =
      "/" + id + "_" + std::to_string(index) + "_" + std::to_string(block_length(setting, slice, index));
  const std::string millions = std::to_string(slice.id / 1'000'000);
  if (setting.hash_prefix) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    const char prefix[] = {kDigits[slice.id >> 4 & 15], kDigits[slice.id & 15], '\0'};
    return setting.name + "/chunks/" + prefix + "/" + millions + last;
  }
  return setting.name + "/chunks/" + millions + "/" + std::to_string(slice.id / 1000) + last;
}

Status decompress(Compression compression, std::string_view stored, char* plain, size_t length) {
  if (compression == Compression::kLz4) {
    const int got =
        LZ4_decompress_safe(stored.data(), plain, static_cast<int>(stored.size()), static_cast<int>(length));
    if (got >= 0 && static_cast<size_t>(got) == length) return Status();
    return Status(EIO, "its lz4 bytes are damaged");
  }
  if (compression == Compression::kZstd) {
    const size_t got = ZSTD_decompress(plain, length, stored.data(), stored.size());
    if (ZSTD_isError(got) == 0 && got == length) return Status();
    return Status(EIO, "its zstd bytes are damaged");
  }
  if (stored.size() != length) return Status(EIO, "it is shorter than its slice says");
  std::memcpy(plain, stored.data(), length);
  return Status();
}

Result<std::string> acl_as_xattr(std::string_view rule) {
  BigEndianReader reader(rule);
  const auto owner = reader.number<uint16_t>();
  const auto group = reader.number<uint16_t>();
  const auto mask = reader.number<uint16_t>();
  const auto other = reader.number<uint16_t>();
  std::string value;
  const auto append = [&value](uint16_t tag, uint16_t permissions, uint32_t id) {
    const posix_acl_xattr_entry entry = {htole16(tag), htole16(permissions), htole32(id)};
    value.append(reinterpret_cast<const char*>(&entry), sizeof entry);
  };
  const posix_acl_xattr_header header = {htole32(POSIX_ACL_XATTR_VERSION)};
  value.append(reinterpret_cast<const char*>(&header), sizeof header);
  append(ACL_USER_OBJ, owner, static_cast<uint32_t>(ACL_UNDEFINED_ID));
  for (const uint16_t tag : {ACL_USER, ACL_GROUP}) {
    if (tag == ACL_GROUP) append(ACL_GROUP_OBJ, group, static_cast<uint32_t>(ACL_UNDEFINED_ID));
    const auto count = reader.number<uint32_t>();
    if (!reader.ok() || count > kMaximumAclEntries || reader.left() < size_t{count} * 6)
      return Status(EINVAL, "an ACL of " + std::to_string(rule.size()) + " bytes");
    std::vector<std::pair<uint32_t, uint16_t>> entries(count);
    for (auto& [id, permissions] : entries) {
      id = reader.number<uint32_t>();
      permissions = reader.number<uint16_t>();
    }
    std::sort(entries.begin(), entries.end());
    for (const auto& [id, permissions] : entries) append(tag, permissions, id);
  }
  if (!reader.ok() || reader.left() != 0)
    return Status(EINVAL, "an ACL of " + std::to_string(rule.size()) + " bytes");
  if (mask != kAclUndefined) append(ACL_MASK, mask, static_cast<uint32_t>(ACL_UNDEFINED_ID));
  append(ACL_OTHER, other, static_cast<uint32_t>(ACL_UNDEFINED_ID));
  return value;
}

uint64_t ino_of_key(std::string_view key) {
  constexpr std::string_view kKinds = "idcsx";
  if (key.size() < 2 || kKinds.find(key.front()) == std::string_view::npos) return 0;
  uint64_t ino = 0;
  const char* const last = key.data() + key.size();
  const auto [end, error] = std::from_chars(key.data() + 1, last, ino);
  if (error != std::errc()) return 0;
  const bool whole = end == last || (key.front() == 'c' && *end == '_');
  return whole ? ino : 0;
}

}  // namespace cached::volume::juicefs
