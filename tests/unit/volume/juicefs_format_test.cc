// The parsers of JuiceFS's records: what they make of real ones, and what they refuse.
#include "cached/volume/juicefs_format.h"

#include <gtest/gtest.h>
#include <lz4.h>
#include <sys/stat.h>
#include <zstd.h>

#include <random>

namespace cached::volume::juicefs {
namespace {

template <typename T>
void put(std::string* bytes, T value) {
  for (size_t i = sizeof(T); i-- > 0;) bytes->push_back(static_cast<char>(value >> (8 * i)));
}

std::string record(const Slice& slice) {
  std::string bytes;
  put(&bytes, slice.position);
  put(&bytes, slice.id);
  put(&bytes, slice.size);
  put(&bytes, slice.offset);
  put(&bytes, slice.length);
  return bytes;
}

std::string attributes(FileType type, uint64_t length, size_t bytes_wanted = 73) {
  std::string bytes;
  put<uint8_t>(&bytes, 0);
  put<uint16_t>(&bytes, static_cast<uint16_t>(static_cast<unsigned>(type) << 12 | 0640U));
  put<uint32_t>(&bytes, 1000);
  put<uint32_t>(&bytes, 2000);
  for (uint32_t i = 1; i <= 3; ++i) {
    put<uint64_t>(&bytes, i * 100);
    put<uint32_t>(&bytes, i);
  }
  put<uint32_t>(&bytes, 2);
  put<uint64_t>(&bytes, length);
  put<uint32_t>(&bytes, 0x123);
  put<uint64_t>(&bytes, 7);
  bytes.resize(bytes_wanted, '\0');
  return bytes;
}

Setting setting(uint64_t block_bytes, bool hash_prefix) {
  Setting made;
  made.name = "vol";
  made.block_bytes = block_bytes;
  made.hash_prefix = hash_prefix;
  return made;
}

constexpr const char* kSetting =
    R"({"Name":"plain","UUID":"u","Storage":"ceph","Bucket":"ceph://pool","BlockSize":4096,"Compression":"none",)"
    R"("SecretKey":"very secret","EncryptAlgo":"aes256gcm-rsa","TrashDays":1,"MetaVersion":1})";

std::string changed_setting(const std::string& from, const std::string& to) {
  std::string text = kSetting;
  text.replace(text.find(from), from.size(), to);
  return text;
}

TEST(JuicefsSetting, TellsWhatAVolumeIs) {
  const Result<Setting> parsed = parse_setting(kSetting);
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  EXPECT_EQ(parsed->name, "plain");
  EXPECT_EQ(parsed->block_bytes, 4U << 20);
  EXPECT_EQ(parsed->compression, Compression::kNone);
  EXPECT_FALSE(parsed->hash_prefix);
  EXPECT_EQ(pool_of_bucket(parsed->bucket), "pool");
}

TEST(JuicefsSetting, RefusesWhatIsNotSupportedInOneLineWithoutSecrets) {
  const std::pair<const char*, const char*> changes[] = {
      {R"("Storage":"ceph")", R"("Storage":"s3")"},
      {R"("MetaVersion":1)", R"("MetaVersion":2)"},
      {R"("TrashDays":1)", R"("EncryptKey":"-----BEGIN")"},
      {R"("Compression":"none")", R"("Compression":"brotli")"},
      {R"("TrashDays":1)", R"("Shards":4)"}};
  for (const auto& [from, to] : changes) {
    const Result<Setting> parsed = parse_setting(changed_setting(from, to));
    EXPECT_EQ(parsed.error_number(), ENOTSUP) << to;
    EXPECT_EQ(parsed.status().message().find('\n'), std::string::npos);
    EXPECT_EQ(parsed.status().message().find("secret"), std::string::npos);
  }
}

TEST(JuicefsSetting, RefusesDamageWithoutRepeatingIt) {
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("{"), changed_setting("4096", "\"very secret\""),
        changed_setting("4096", "0"), changed_setting("4096", "4e50"), changed_setting("4096", "40.5"),
        changed_setting("\"MetaVersion\":1", "\"MetaVersion\":18446744073709551615"),
        changed_setting("\"plain\"", "\"../x\""), changed_setting("ceph://pool", "pool")}) {
    const Result<Setting> parsed = parse_setting(text);
    EXPECT_EQ(parsed.error_number(), EINVAL) << text;
    EXPECT_EQ(parsed.status().message().find("secret"), std::string::npos);
  }
}

TEST(JuicefsAttributes, AreReadInAllFourLengths) {
  for (const size_t bytes : {72, 73, 80, 81}) {
    const Result<Attributes> parsed = parse_attributes(attributes(FileType::kFile, 12345, bytes));
    ASSERT_TRUE(parsed.ok()) << bytes;
    EXPECT_EQ(parsed->permissions, 0640);
    EXPECT_EQ(parsed->uid, 1000U);
    EXPECT_EQ(parsed->gid, 2000U);
    EXPECT_EQ(parsed->mtime_s, 200);
    EXPECT_EQ(parsed->ctime_ns, 3U);
    EXPECT_EQ(parsed->length, 12345U);
    EXPECT_EQ(parsed->parent, 7U);
  }
}

TEST(JuicefsAttributes, OfAnotherLengthOrTypeAreRefused) {
  for (const size_t bytes : {0, 71, 74, 79, 82, 200})
    EXPECT_FALSE(parse_attributes(attributes(FileType::kFile, 1, bytes)).ok()) << bytes;
  std::string of_no_type = attributes(FileType::kFile, 1);
  of_no_type[1] = '\x01';
  EXPECT_FALSE(parse_attributes(of_no_type).ok());
  EXPECT_FALSE(parse_attributes(attributes(FileType::kFile, UINT64_MAX)).ok());
}

TEST(JuicefsEntry, LeadsToAnInodeOutsideTheTrash) {
  std::string bytes("\x02", 1);
  put<uint64_t>(&bytes, 77);
  const Result<DirectoryEntry> parsed = parse_entry(bytes);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->type, FileType::kDirectory);
  EXPECT_EQ(parsed->ino, 77U);
  EXPECT_FALSE(parse_entry(bytes.substr(1)).ok());
  EXPECT_FALSE(parse_entry(bytes + "x").ok());
  std::string trash("\x02", 1);
  put<uint64_t>(&trash, kTrashIno);
  EXPECT_FALSE(parse_entry(trash).ok());
}

TEST(JuicefsSlices, LongerThanTheirChunkOrThemselvesAreRefused) {
  EXPECT_TRUE(parse_slices(record({0, 1, 100, 0, 100})).ok());
  EXPECT_FALSE(parse_slices(record({0, 1, 100, 0, 100}).substr(1)).ok());
  EXPECT_FALSE(parse_slices(record({0, 1, 100, 1, 100})).ok());
  EXPECT_FALSE(parse_slices(record({kChunkBytes - 1, 0, 0, 0, 2})).ok());
  EXPECT_FALSE(parse_slices(record({0, 1, UINT32_MAX, UINT32_MAX, UINT32_MAX})).ok());
}

// What JuiceFS does, byte by byte: later slices over earlier ones.
TEST(JuicefsMerge, EqualsLayingEverySliceOverTheEarlierOnes) {
  std::mt19937_64 random(6);
  constexpr uint64_t kSpace = 600;
  for (int round = 0; round < 2000; ++round) {
    std::vector<Slice> slices;
    struct Byte {
      uint64_t id = 0;
      uint64_t offset = 0;
    };
    std::vector<Byte> model(kSpace);
    for (uint64_t i = 0, count = random() % 12; i < count; ++i) {
      Slice slice;
      slice.position = static_cast<uint32_t>(random() % kSpace);
      slice.length = static_cast<uint32_t>(random() % (kSpace - slice.position + 1));
      slice.id = random() % 4 == 0 ? 0 : i + 1;
      slice.offset = slice.id == 0 ? 0 : static_cast<uint32_t>(random() % 50);
      slice.size = slice.id == 0 ? 0 : slice.offset + slice.length + static_cast<uint32_t>(random() % 50);
      if (slice.id != 0 && slice.size == 0) slice.size = 1;
      slices.push_back(slice);
      for (uint32_t at = 0; at < slice.length; ++at)
        model[slice.position + at] = slice.id == 0 ? Byte{} : Byte{slice.id, slice.offset + at};
    }
    const uint64_t length = random() % (kSpace + 1);
    const uint64_t base = 5 * kChunkBytes;
    const std::vector<shm::MapPiece> pieces = merge_slices(slices, base, length);
    uint64_t at = 0;
    for (const shm::MapPiece& piece : pieces) {
      ASSERT_EQ(piece.file_offset, base + at);
      ASSERT_GT(piece.length, 0U);
      for (uint64_t i = 0; i < piece.length; ++i, ++at) {
        ASSERT_EQ(piece.object.high, model[at].id) << at;
        if (piece.object.empty()) continue;
        ASSERT_EQ(piece.object_offset + i, model[at].offset) << at;
        const Result<SliceName> slice = slice_of_object(piece.object);
        ASSERT_TRUE(slice.ok());
        ASSERT_LT(piece.object_offset + i, slice->size);
      }
    }
    ASSERT_EQ(at, length);
  }
}

TEST(JuicefsInode, OfOneSliceIsThatSlicesObject) {
  const std::string slices = record({0, 99, 5000, 100, 4000});
  const Result<shm::InodeInfo> info = inode_info(1, 42, attributes(FileType::kFile, 3000), slices, false);
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->layout, shm::LayoutKind::kObject);
  EXPECT_EQ(info->object, object_of_slice(99, 5000));
  EXPECT_EQ(info->layout_base, 100U);
  EXPECT_EQ(info->mode, S_IFREG | 0640U);
  EXPECT_TRUE(info->flags & shm::kInodeNoXattrs);
}

TEST(JuicefsInode, OfSeveralSlicesOrHolesHasAMap) {
  const std::string two = record({0, 99, 5000, 0, 5000}) + record({1000, 100, 10, 0, 10});
  for (const std::string& slices : {two, std::string(), record({0, 99, 50, 0, 50}), std::string("damaged")}) {
    const Result<shm::InodeInfo> info = inode_info(1, 42, attributes(FileType::kFile, 3000), slices, true);
    ASSERT_TRUE(info.ok());
    EXPECT_EQ(info->layout, shm::LayoutKind::kMap);
    EXPECT_FALSE(info->object.empty());
    EXPECT_FALSE(slice_of_object(info->object).ok()) << "a version is no slice";
    EXPECT_FALSE(info->flags & shm::kInodeNoXattrs);
  }
}

TEST(JuicefsVersion, ChangesWithLengthAndTimes) {
  Attributes a = parse_attributes(attributes(FileType::kFile, 3000)).value();
  const shm::ObjectId before = version_of(42, a);
  EXPECT_EQ(version_of(42, a), before);
  EXPECT_FALSE(version_of(43, a) == before);
  a.ctime_ns += 1;
  EXPECT_FALSE(version_of(42, a) == before);
}

TEST(JuicefsBlock, NamesAreThoseOfTheFormat) {
  const SliceName slice{1'234'567, 9'000'000};
  const Setting plain = setting(4 << 20, false);
  EXPECT_EQ(block_name(plain, slice, 0), "vol/chunks/1/1234/1234567_0_4194304");
  EXPECT_EQ(block_name(plain, slice, 2), "vol/chunks/1/1234/1234567_2_611392");
  EXPECT_EQ(block_name(setting(4 << 20, true), slice, 1), "vol/chunks/87/1/1234567_1_4194304");
  EXPECT_EQ(block_length(plain, slice, 3), 0U);
}

TEST(JuicefsBlock, IsDecompressedOrRefused) {
  std::string plain(100'000, 'a');
  for (size_t i = 0; i < plain.size(); i += 7) plain[i] = static_cast<char>(i);
  std::string lz4(static_cast<size_t>(LZ4_compressBound(static_cast<int>(plain.size()))), '\0');
  lz4.resize(static_cast<size_t>(LZ4_compress_default(
      plain.data(), lz4.data(), static_cast<int>(plain.size()), static_cast<int>(lz4.size()))));
  std::string zstd(ZSTD_compressBound(plain.size()), '\0');
  zstd.resize(ZSTD_compress(zstd.data(), zstd.size(), plain.data(), plain.size(), 1));
  for (const auto& [compression, stored] :
       {std::pair{Compression::kLz4, lz4}, std::pair{Compression::kZstd, zstd},
        std::pair{Compression::kNone, plain}}) {
    std::string got(plain.size(), '\0');
    EXPECT_TRUE(decompress(compression, stored, got.data(), got.size()).ok());
    EXPECT_EQ(got, plain);
    EXPECT_FALSE(decompress(compression, stored, got.data(), got.size() - 1).ok());
    EXPECT_FALSE(decompress(compression, stored.substr(0, stored.size() / 2), got.data(), got.size()).ok());
  }
}

TEST(JuicefsAcl, BecomesTheXattrThatLinuxKnows) {
  // user::rw-, user:1234:r--, group::r--, group:77:rw-, mask::r--, other::r--
  const std::string rule(
      "\x00\x06\x00\x04\x00\x04\x00\x04\x00\x00\x00\x01\x00\x00\x04\xd2\x00\x04"
      "\x00\x00\x00\x01\x00\x00\x00\x4d\x00\x06",
      28);
  const Result<std::string> value = acl_as_xattr(rule);
  ASSERT_TRUE(value.ok());
  const std::string expected(
      "\x02\0\0\0"
      "\x01\0\x06\0\xff\xff\xff\xff"
      "\x02\0\x04\0\xd2\x04\0\0"
      "\x04\0\x04\0\xff\xff\xff\xff"
      "\x08\0\x06\0\x4d\0\0\0"
      "\x10\0\x04\0\xff\xff\xff\xff"
      "\x20\0\x04\0\xff\xff\xff\xff",
      52);
  EXPECT_EQ(*value, expected);
  for (size_t length = 0; length < rule.size(); ++length)
    EXPECT_FALSE(acl_as_xattr(rule.substr(0, length)).ok());
}

TEST(JuicefsKey, GivesTheInodeThatItIsAbout) {
  EXPECT_EQ(ino_of_key("i17"), 17U);
  EXPECT_EQ(ino_of_key("d1"), 1U);
  EXPECT_EQ(ino_of_key("c99_12"), 99U);
  for (const char* key : {"", "i", "setting", "i1x", "session5", "x-1", "c1x", "i99999999999999999999"})
    EXPECT_EQ(ino_of_key(key), 0U) << key;
}

}  // namespace
}  // namespace cached::volume::juicefs
