// What tests of data sets share: see dataset_fixture.h.
#include "dataset_fixture.h"

#include <sodium.h>

#include <fstream>
#include <random>

#include "cached/volume/dataset_layout.h"

namespace cached::testing_dataset {

namespace fs = std::filesystem;
using volume::Entry;

void DatasetTest::SetUp() {
  ASSERT_GE(::sodium_init(), 0);
  char name[] = "/tmp/dataset_test.XXXXXX";
  base_ = ::mkdtemp(name);
  source_ = base_ / "source";
  fs::create_directories(source_);
}

void DatasetTest::TearDown() {
  fs::remove_all(base_);
}

void DatasetTest::write(const std::string& path, const std::string& content) {
  fs::create_directories((source_ / path).parent_path());
  std::ofstream(source_ / path, std::ios::binary) << content;
}

std::string DatasetTest::noise(size_t size, unsigned seed) {
  std::mt19937_64 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

import::ImportOptions DatasetTest::import_options() const {import::ImportOptions options;
options.directory = source_;
options.volume = volume_;
options.scan_threads = 2;
options.data_threads = 4;
options.settle_ns = 0;
return options;
}  // namespace cached::testing_dataset

Status DatasetTest::import_tree() {
  import::Importer importer(store_, import_options());
  const Status status = importer.run();
  report_ = importer.report();
  return status;
}

std::unique_ptr<volume::SnapshotReader> DatasetTest::open_snapshot(uint64_t number) {
  const Result<volume::Head> head = import::load_head(*store_, volume_);
  EXPECT_TRUE(head.ok()) << head.status().message();
  if (!head.ok()) return nullptr;
  const volume::SnapshotMark* const mark = head->find_snapshot(number == 0 ? head->current : number);
  if (mark == nullptr) return nullptr;
  const Result<volume::SnapshotRecord> record = import::load_snapshot(*store_, volume_, *mark);
  EXPECT_TRUE(record.ok()) << record.status().message();
  metadata_ = std::make_unique<volume::StoreMetadataSource>(store_, volume_, nullptr,
                                                            volume::StoreMetadataSource::Options{});
  auto reader = volume::run_blocking(volume::SnapshotReader::open(*record, *metadata_));
  EXPECT_TRUE(reader.ok()) << reader.status().message();
  return reader.ok() ? std::move(reader).value() : nullptr;
}

std::map<std::string, Entry> DatasetTest::tree(volume::SnapshotReader& snapshot) {
  std::map<std::string, Entry> found;
  const Result<Entry> root = volume::run_blocking(snapshot.entry(0));
  EXPECT_TRUE(root.ok()) << root.status().message();
  found[""] = *root;
  std::vector<std::pair<std::string, uint32_t>> directories{{"", volume::kRootDirectory}};
  for (size_t i = 0; i < directories.size(); ++i) {
    const auto [path, number] = directories[i];
    const auto entries = volume::run_blocking(snapshot.list(number, 0, SIZE_MAX));
    EXPECT_TRUE(entries.ok()) << entries.status().message();
    for (const Entry& entry : *entries) {
      const std::string child = path.empty() ? entry.name : path + "/" + entry.name;
      found[child] = *volume::run_blocking(snapshot.inode_of(entry));
      if (entry.kind == volume::EntryKind::kDirectory) directories.emplace_back(child, entry.own_directory);
    }
  }
  return found;
}

std::string DatasetTest::content(volume::SnapshotReader& snapshot, const Entry& file) {
  if (file.size == 0) return "";
  const Result<volume::ObjectRecord> record = volume::run_blocking(snapshot.object(file.object));
  EXPECT_TRUE(record.ok()) << record.status().message();
  const auto extents = volume::run_blocking(snapshot.extents(*record));
  const Result<volume::ObjectLayout> layout = volume::ObjectLayout::make(*record, *extents);
  EXPECT_TRUE(layout.ok()) << layout.status().message();
  std::string object(layout->size(), '\0');
  layout->for_each_piece([&](uint64_t piece) {
    std::vector<iovec> iovecs{{object.data() + piece * volume::kPieceBytes, layout->stored_bytes(piece)}};
    const Result<uint64_t> got =
        store_->read(volume::piece_name(volume_, record->id, piece), 0, iovecs).wait();
    EXPECT_TRUE(got.ok() && *got == layout->stored_bytes(piece));
    for (uint64_t i = 0; i < layout->blocks_of(piece); ++i) {
      const uint64_t block = piece * volume::kBlocksPerPiece + i;
      const auto stored = volume::run_blocking(
          snapshot.checksums(record->first_checksum + *layout->checksum_of_block(block), 1));
      const std::string bytes =
          object.substr(block * volume::kChecksumBlockBytes, volume::kChecksumBlockBytes);
      EXPECT_EQ(stored->at(0), volume::block_checksum(std::as_bytes(std::span(bytes)))) << "block " << block;
    }
    return true;
  });
  return object.substr(file.object_offset, file.size);
}

}  // namespace cached::testing_dataset
