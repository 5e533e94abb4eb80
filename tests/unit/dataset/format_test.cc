// The encoding: what goes in comes out, and nothing that was not written comes out as if it had been.
#include <gtest/gtest.h>

#include <random>

#include "cached/volume/dataset_entry.h"
#include "cached/volume/dataset_format.h"
#include "cached/volume/dataset_layout.h"

namespace cached::volume {
namespace {

Head some_head() {
  Head head;
  head.volume_id[0] = 1;
  head.generation = 7;
  head.current = 3;
  head.next_number = 5;
  head.snapshots = {{1, 11, 100, 0, {1, 2}, 10, 20}, {3, 12, 200, 0, {3, 4}, 30, 40}};
  head.imports = {{13, 3, 300, 0}};
  return head;
}

TEST(DatasetFormat, HeadComesBack) {
  const Result<Head> head = decode_head(encode_head(some_head()), "v");
  ASSERT_TRUE(head.ok()) << head.status().message();
  EXPECT_EQ(head->current, 3U);
  EXPECT_EQ(head->snapshots.size(), 2U);
  EXPECT_EQ(head->find_snapshot(3)->bytes, 40U);
  EXPECT_NE(head->find_import(13), nullptr);
}

TEST(DatasetFormat, HeadOfAnotherVersionIsRefusedByName) {
  std::string bytes = encode_head(some_head());
  bytes[8] = 2;
  const Result<Head> head = decode_head(bytes, "v");
  EXPECT_EQ(head.error_number(), EPROTO);
  EXPECT_NE(head.status().message().find("version 2"), std::string::npos);
}

TEST(DatasetFormat, NoFlippedBitAndNoCutPassesInRecords) {
  const std::string head = encode_head(some_head());
  SnapshotRecord record;
  record.import_id = 9;
  record.entries = 1;
  record.tables[0] = {{9, kMetadataObjectBit | 1}, 1, 100};
  record.source = "/data";
  const std::string snapshot = encode_snapshot(record);
  ASSERT_TRUE(decode_snapshot(snapshot, "s").ok());
  for (size_t i = 0; i < head.size() * 8; ++i) {
    std::string bytes = head;
    bytes[i / 8] = static_cast<char>(bytes[i / 8] ^ (1 << (i % 8)));
    ASSERT_FALSE(decode_head(bytes, "v").ok()) << i;
  }
  for (size_t i = 0; i < snapshot.size(); ++i) {
    std::string bytes = snapshot;
    bytes[i] = static_cast<char>(bytes[i] ^ 0x10);
    ASSERT_FALSE(decode_snapshot(bytes, "s").ok()) << i;
    ASSERT_FALSE(decode_snapshot(snapshot.substr(0, i), "s").ok()) << i;
  }
}

TEST(DatasetFormat, PageInAnotherPlaceIsRefused) {
  const std::string page = encode_page(Table::kEntries, 9, 4, 0, "payload");
  const auto bytes = std::as_bytes(std::span(page));
  ASSERT_TRUE(check_page(bytes, Table::kEntries, 9, 4).ok());
  EXPECT_EQ(check_page(bytes, Table::kEntries, 9, 4)->payload, "payload");
  EXPECT_FALSE(check_page(bytes, Table::kEntries, 9, 5).ok());
  EXPECT_FALSE(check_page(bytes, Table::kEntries, 8, 4).ok());
  EXPECT_FALSE(check_page(bytes, Table::kIndex, 9, 4).ok());
  EXPECT_FALSE(check_page(bytes.first(100), Table::kEntries, 9, 4).ok());
}

TEST(DatasetFormat, NamesOfObjectsComeBack) {
  const shm::ObjectId data{0xABCDEF0123456789, 0x42};
  const shm::ObjectId metadata{1, kMetadataObjectBit | 3};
  EXPECT_EQ(parse_name("v", piece_name("v", data, 7).name).object, data);
  EXPECT_EQ(parse_name("v", piece_name("v", data, 7).name).number, 7U);
  EXPECT_EQ(parse_name("v", piece_name("v", metadata, 0).name).object, metadata);
  EXPECT_EQ(parse_name("v", journal_name("v", 5, 6).name).kind, ParsedName::Kind::kJournal);
  EXPECT_EQ(parse_name("v", head_name("v").name).kind, ParsedName::Kind::kHead);
  for (const char* name :
       {"", "v", "v/", "w/head", "v/head2", "v/d.12", "v/d.0000000000000001.000000000001.0000000g",
        "v/import.0000000000000001.", "v/snapshot.000000000000000A"}) {
    EXPECT_EQ(parse_name("v", name).kind, ParsedName::Kind::kForeign) << name;
  }
}

Entry random_entry(std::mt19937_64* random, uint64_t number, uint32_t directory) {
  Entry entry;
  entry.number = number;
  entry.directory = directory;
  entry.kind = static_cast<EntryKind>((*random)() % 5);
  entry.name = std::to_string(100'000'000 + number) + std::string((*random)() % 200, '\xff');
  if (entry.kind == EntryKind::kLink) {
    entry.link_to = (*random)() % (number + 1);
    if (entry.link_to == number) entry.kind = EntryKind::kFile;
    if (entry.link_to == number) entry.link_to = 0;
  }
  if (entry.kind == EntryKind::kLink) return entry;
  const auto time = [&] {
    return Timestamp{static_cast<int64_t>((*random)()) >> ((*random)() % 60),
                     static_cast<uint32_t>((*random)() % 2 * ((*random)() % 1'000'000'000))};
  };
  entry.attributes = (*random)() % 1000;
  entry.ino = (*random)();
  entry.nlink = static_cast<uint32_t>((*random)() % 3);
  entry.mtime = time();
  entry.atime = (*random)() % 2 == 0 ? entry.mtime : time();
  entry.ctime = (*random)() % 2 == 0 ? entry.mtime : time();
  entry.unsettled = (*random)() % 2 == 0;
  if (entry.kind == EntryKind::kFile) {
    entry.size = (*random)() % 2 * ((*random)() >> 20);
    if (entry.size > 0) {
      entry.object = (*random)() >> 30;
      entry.object_offset = ((*random)() >> 30) * 16;
    }
  }
  if (entry.kind == EntryKind::kDirectory)
    entry.own_directory = directory + 1 + static_cast<uint32_t>(number);
  if (entry.kind == EntryKind::kSymlink) {
    entry.target = std::string((*random)() % 4000, 't');
    entry.size = entry.target.size();
  }
  if (entry.kind == EntryKind::kSpecial) entry.device = (*random)();
  entry.blocks_512 = (*random)() % 2 == 0 ? usual_blocks(entry.kind, entry.size) : (*random)() >> 12;
  return entry;
}

void expect_same(const Entry& a, const Entry& b) {
  EXPECT_EQ(a.number, b.number);
  EXPECT_EQ(a.directory, b.directory);
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.link_to, b.link_to);
  EXPECT_EQ(a.attributes, b.attributes);
  EXPECT_EQ(a.ino, b.ino);
  EXPECT_EQ(a.nlink, b.nlink);
  EXPECT_EQ(a.size, b.size);
  EXPECT_EQ(a.blocks_512, b.blocks_512);
  EXPECT_EQ(a.mtime, b.mtime);
  EXPECT_EQ(a.atime, b.atime);
  EXPECT_EQ(a.ctime, b.ctime);
  EXPECT_EQ(a.unsettled, b.unsettled);
  EXPECT_EQ(a.object, b.object);
  EXPECT_EQ(a.object_offset, b.object_offset);
  EXPECT_EQ(a.own_directory, b.own_directory);
  EXPECT_EQ(a.device, b.device);
  EXPECT_EQ(a.target, b.target);
}

TEST(DatasetEntry, PagesOfRandomEntriesComeBack) {
  std::mt19937_64 random(1);
  uint64_t number = 0;
  uint32_t directory = 1;
  for (int page = 0; page < 200; ++page) {
    EntryPageWriter writer;
    std::vector<Entry> entries;
    for (;;) {
      directory += random() % 10 == 0 ? 1 : 0;
      Entry entry = random_entry(&random, number, directory);
      if (!writer.add(entry)) break;
      entries.push_back(std::move(entry));
      ++number;
    }
    ASSERT_FALSE(entries.empty());
    const std::string payload = writer.take();
    EntryPageReader reader({payload, entries.front().number});
    for (const Entry& entry : entries) {
      ASSERT_TRUE(reader.next());
      const Result<Entry> read = reader.entry();
      ASSERT_TRUE(read.ok());
      expect_same(*read, entry);
    }
    EXPECT_FALSE(reader.next());
    EXPECT_TRUE(reader.status().ok());
  }
}

TEST(DatasetEntry, HostileBytesEndInErrorsOnly) {
  std::mt19937_64 random(2);
  EntryPageWriter writer;
  for (uint64_t number = 0; writer.add(random_entry(&random, number, 1)); ++number) {
  }
  const std::string good = writer.take();
  for (int round = 0; round < 5000; ++round) {
    std::string payload = good.substr(0, 1 + random() % good.size());
    for (unsigned i = 0; i < 1 + random() % 20; ++i)
      payload[random() % payload.size()] = static_cast<char>(random());
    EntryPageReader reader({payload, 0});
    unsigned seen = 0;
    while (reader.next()) {
      ++seen;
      if (const Result<Entry> entry = reader.entry(); entry.ok()) {
        EXPECT_LE(entry->name.size(), kMaximumNameBytes);
      }
    }
    EXPECT_LE(seen, payload.size());
    EXPECT_FALSE(decode_index(payload, 1 + random() % 1000).ok());
    EXPECT_TRUE(!decode_xattrs(payload).ok() || payload[0] == 0);
  }
}

TEST(DatasetLayout, PiecesAndChecksumsOfAFileWithHoles) {
  ObjectRecord record;
  record.id = {1, 1};
  record.size = 100 * kPieceBytes + 5;
  const std::vector<Extent> extents{{10, 20}, {3 * kPieceBytes - 1, 2}, {100 * kPieceBytes, 5}};
  const ObjectLayout layout = ObjectLayout::plan(record, extents);
  EXPECT_EQ(layout.stored_pieces(), 4U);
  EXPECT_EQ(layout.stored_bytes(0), 30U);
  EXPECT_EQ(layout.stored_bytes(1), 0U);
  EXPECT_EQ(layout.stored_bytes(2), kPieceBytes);
  EXPECT_EQ(layout.stored_bytes(3), 1U);
  EXPECT_EQ(layout.stored_bytes(100), 5U);
  EXPECT_EQ(layout.checksums(), 3 * kBlocksPerPiece + 1);
  EXPECT_FALSE(layout.checksum_of_block(kBlocksPerPiece).has_value());
  EXPECT_EQ(layout.checksum_of_block(2 * kBlocksPerPiece + 3), kBlocksPerPiece + 3);
  EXPECT_EQ(layout.checksum_of_block(100 * kBlocksPerPiece), 3 * kBlocksPerPiece);
  EXPECT_TRUE(ObjectLayout::make(layout.record(), extents).ok());
  EXPECT_FALSE(ObjectLayout::make(layout.record(), {{10, 20}, {5, 1}}).ok());
  EXPECT_FALSE(ObjectLayout::make(layout.record(), {{10, UINT64_MAX}}).ok());
  EXPECT_FALSE(ObjectLayout::make(record, extents).ok()) << "its checksums are not there";
}

TEST(DatasetLayout, SmallFilesWasteLittleInPacks) {
  for (uint64_t size = 1; size < kPackedFileLimit; size = size * 9 / 8 + 1) {
    const uint64_t alignment = pack_alignment(size);
    EXPECT_GE(alignment, 16U);
    EXPECT_LE(alignment, 4096U);
    EXPECT_LE(alignment, std::max<uint64_t>(16, size / 16));
  }
  EXPECT_EQ(pack_alignment(65'536), 4096U);
}

}  // namespace
}  // namespace cached::volume
