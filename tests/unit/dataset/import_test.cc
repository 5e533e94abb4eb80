// Importing: what a snapshot says about the tree that was imported, and what is not stored twice.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <thread>

#include "dataset_fixture.h"

namespace cached::testing_dataset {
namespace {

namespace fs = std::filesystem;
using volume::Entry;
using volume::EntryKind;

class Import : public DatasetTest {};

TEST_F(Import, KeepsContentOfSmallAndLargeFiles) {
  write("empty", "");
  write("tiny", "x");
  write("sub/small", noise(70'000, 1));
  write("sub/deeper/edge", noise(volume::kPackedFileLimit, 2));
  write("large", noise(volume::kPieceBytes * 2 + 12'345, 3));
  const Status status = import_tree();
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(report_.snapshot, 1U);
  const auto snapshot = open_snapshot();
  const auto entries = tree(*snapshot);
  ASSERT_EQ(entries.size(), 8U);
  EXPECT_EQ(content(*snapshot, entries.at("empty")), "");
  EXPECT_EQ(content(*snapshot, entries.at("tiny")), "x");
  EXPECT_EQ(content(*snapshot, entries.at("sub/small")), noise(70'000, 1));
  EXPECT_EQ(content(*snapshot, entries.at("sub/deeper/edge")), noise(volume::kPackedFileLimit, 2));
  EXPECT_EQ(content(*snapshot, entries.at("large")), noise(volume::kPieceBytes * 2 + 12'345, 3));
}

TEST_F(Import, KeepsEveryAttribute) {
  write("file", "content");
  fs::create_symlink("where/ever", source_ / "link");
  fs::create_hard_link(source_ / "file", source_ / "second");
  ASSERT_EQ(::mkfifo((source_ / "pipe").c_str(), 0600), 0);
  ASSERT_EQ(::chmod((source_ / "file").c_str(), 04751), 0);
  const std::string value("\0\xff value", 8);
  const bool xattrs = ::setxattr((source_ / "file").c_str(), "user.test", value.data(), value.size(), 0) == 0;
  const timespec times[2] = {{-5, 999'999'999}, {4'000'000'000, 1}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (source_ / "file").c_str(), times, 0), 0);
  struct stat before {};
  ASSERT_EQ(::stat((source_ / "file").c_str(), &before), 0);
  ASSERT_TRUE(import_tree().ok());
  const auto snapshot = open_snapshot();
  const auto entries = tree(*snapshot);
  const Entry& file = entries.at("file");
  EXPECT_EQ(file.mtime, (volume::Timestamp{4'000'000'000, 1}));
  EXPECT_EQ(file.atime, (volume::Timestamp{-5, 999'999'999}));
  EXPECT_EQ(file.ctime,
            (volume::Timestamp{before.st_ctim.tv_sec, static_cast<uint32_t>(before.st_ctim.tv_nsec)}));
  EXPECT_EQ(file.ino, before.st_ino);
  EXPECT_EQ(file.nlink, 2U);
  EXPECT_EQ(entries.at("second").number, file.number);
  EXPECT_EQ(file.blocks_512, static_cast<uint64_t>(before.st_blocks));
  EXPECT_EQ(entries.at("link").target, "where/ever");
  EXPECT_EQ(entries.at("pipe").kind, EntryKind::kSpecial);
  const auto attributes = volume::run_blocking(snapshot->attributes(file.attributes));
  ASSERT_TRUE(attributes.ok());
  EXPECT_EQ(attributes->mode, static_cast<uint32_t>(S_IFREG | 04751));
  EXPECT_EQ(attributes->uid, before.st_uid);
  if (!xattrs) GTEST_SKIP() << "no xattrs on this file system";
  const auto stored = volume::run_blocking(snapshot->xattrs(*attributes));
  ASSERT_EQ(stored->size(), 1U);
  EXPECT_EQ(stored->at(0), (volume::Xattr{"user.test", value}));
}

TEST_F(Import, KeepsNamesOfAnyBytes) {
  const std::string longest(255, 'n');
  const std::string odd("\xff\xfe new\nline \x01");
  write(longest, "1");
  write(odd, "2");
  write("\xc3\xa4", "3");
  ASSERT_TRUE(import_tree().ok());
  const auto snapshot = open_snapshot();
  const auto entries = tree(*snapshot);
  for (const std::string& name : {longest, odd, std::string("\xc3\xa4")}) {
    ASSERT_TRUE(entries.contains(name));
    const auto found = volume::run_blocking(snapshot->find(volume::kRootDirectory, name));
    EXPECT_TRUE(found.ok() && found->has_value());
  }
}

TEST_F(Import, KeepsHolesAndStoresNothingForThem) {
  const std::string data = noise(10'000, 4);
  const UniqueFd fd(::open((source_ / "sparse").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  const off_t far = off_t{1} << 40;
  ASSERT_EQ(::pwrite(fd.get(), data.data(), data.size(), 65'536), 10'000);
  ASSERT_EQ(::pwrite(fd.get(), data.data(), data.size(), far), 10'000);
  ASSERT_EQ(::ftruncate(fd.get(), far + (off_t{1} << 30)), 0);
  ASSERT_TRUE(import_tree().ok());
  EXPECT_LT(store_->bytes_in(origin::Pool::kData), 2'000'000U);
  const auto snapshot = open_snapshot();
  const Entry file = tree(*snapshot).at("sparse");
  EXPECT_EQ(file.size, static_cast<uint64_t>(far + (off_t{1} << 30)));
  const auto record = volume::run_blocking(snapshot->object(file.object));
  const auto extents = volume::run_blocking(snapshot->extents(*record));
  ASSERT_EQ(extents->size(), 2U);
  EXPECT_LE(extents->at(0).offset, 65'536U);
  EXPECT_GE(extents->at(1).end(), static_cast<uint64_t>(far) + 10'000);
}

TEST_F(Import, FindsEachNameAndNoOthers) {
  for (int i = 0; i < 3000; ++i) {
    write("d" + std::to_string(i % 7) + "/name" + std::to_string(i), std::to_string(i));
  }
  ASSERT_TRUE(import_tree().ok());
  const auto snapshot = open_snapshot();
  ASSERT_GT(snapshot->record().table(volume::Table::kEntries).pages, 3U);
  const auto entries = tree(*snapshot);
  for (const auto& [path, entry] : entries) {
    if (path.empty()) continue;
    const auto found = volume::run_blocking(snapshot->find(entry.directory, entry.name));
    ASSERT_TRUE(found.ok() && found->has_value()) << path;
    EXPECT_EQ((*found)->number, entry.number);
    EXPECT_EQ(volume::run_blocking(snapshot->entry(entry.number))->name, entry.name);
    const auto absent = volume::run_blocking(snapshot->find(entry.directory, entry.name + "~"));
    EXPECT_TRUE(absent.ok() && !absent->has_value());
  }
  // Listings in parts give the same as in one.
  const uint32_t directory = entries.at("d3").own_directory;
  std::vector<std::string> names;
  for (uint64_t from = 0;;) {
    const auto some = volume::run_blocking(snapshot->list(directory, from, 10));
    for (const Entry& entry : *some) names.push_back(entry.name);
    if (some->size() < 10) break;
    from = some->back().number + 1;
  }
  EXPECT_EQ(names.size(), 3000U / 7 + 1);
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
}

TEST_F(Import, OfAChangedTreeStoresOnlyWhatChanged) {
  for (int i = 0; i < 50; ++i)
    write("dir/f" + std::to_string(i), noise(50'000, 100 + static_cast<unsigned>(i)));
  write("large", noise(5'000'000, 5));
  ASSERT_TRUE(import_tree().ok());
  write("dir/f7", noise(60'000, 999));
  write("new", "new");
  fs::remove(source_ / "dir/f8");
  ASSERT_TRUE(import_tree().ok());
  EXPECT_EQ(report_.snapshot, 2U);
  EXPECT_LT(report_.stored_bytes, 65'000U);
  EXPECT_EQ(report_.reused_files, 49U);
  const auto snapshot = open_snapshot();
  const auto entries = tree(*snapshot);
  EXPECT_FALSE(entries.contains("dir/f8"));
  EXPECT_EQ(content(*snapshot, entries.at("dir/f7")), noise(60'000, 999));
  EXPECT_EQ(content(*snapshot, entries.at("dir/f9")), noise(50'000, 109));
  EXPECT_EQ(content(*snapshot, entries.at("large")), noise(5'000'000, 5));
  const auto old = open_snapshot(1);
  EXPECT_EQ(content(*old, tree(*old).at("dir/f7")), noise(50'000, 107));
}

TEST_F(Import, StoresAgainWhatADamagedSnapshotDoesNotTell) {
  write("file", noise(100'000, 8));
  ASSERT_TRUE(import_tree().ok());
  for (const volume::Table table : {volume::Table::kObjects, volume::Table::kIndex}) {
    const shm::ObjectId damaged = open_snapshot()->record().table(table).object;
    ASSERT_TRUE(store_->damage(volume::piece_name(volume_, damaged, 0).name,
                               [](std::string* bytes) { (*bytes)[70] ^= 1; }));
    const Status status = import_tree();
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(report_.stored_bytes, 100'000U);
    const auto snapshot = open_snapshot();
    EXPECT_EQ(content(*snapshot, tree(*snapshot).at("file")), noise(100'000, 8));
  }
}

TEST_F(Import, GoesOnWhereAnInterruptedOneStopped) {
  write("large", noise(volume::kPieceBytes * 6, 6));
  for (int i = 0; i < 40; ++i)
    write("s/f" + std::to_string(i), noise(900'000, 200 + static_cast<unsigned>(i)));
  std::atomic<int> writes{0};
  store_->before_write = [&](const std::string& name) {
    const bool data = name.find("/d.") != std::string::npos;
    return data && ++writes > 8 ? Status(ENOSPC, "the pool is full") : Status();
  };
  const Status full = import_tree();
  EXPECT_EQ(full.error_number(), ENOSPC) << full.message();
  EXPECT_EQ(import::load_head(*store_, volume_)->current, 0U);
  const uint64_t before = store_->bytes_in(origin::Pool::kData);
  EXPECT_GT(before, 0U);
  store_->before_write = nullptr;
  // The process is this one, so the first import looks alive; say that it ended.
  const volume::Head head = *import::load_head(*store_, volume_);
  ASSERT_EQ(head.imports.size(), 1U);
  ASSERT_TRUE(store_->remove(volume::import_name(volume_, head.imports[0].id)).wait().ok());
  const Status status = import_tree();
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(report_.resumed_imports, 1U);
  EXPECT_EQ(report_.stored_bytes, store_->bytes_in(origin::Pool::kData) - before);
  const auto snapshot = open_snapshot();
  const auto entries = tree(*snapshot);
  EXPECT_EQ(content(*snapshot, entries.at("large")), noise(volume::kPieceBytes * 6, 6));
  EXPECT_EQ(content(*snapshot, entries.at("s/f11")), noise(900'000, 211));
  EXPECT_TRUE(import::load_head(*store_, volume_)->imports.empty());
}

TEST_F(Import, TellsTheSlowerOfTwo) {
  write("file", "content");
  std::atomic<bool> inside{false};
  store_->before_write = [&](const std::string& name) {
    if (name.find("/d.") == std::string::npos || inside.exchange(true)) return Status();
    // In the middle of the first import, a second one runs from end to end.
    import::Importer second(store_, import_options());
    const Status status = second.run();
    EXPECT_TRUE(status.ok()) << status.message();
    return Status();
  };
  const Status status = import_tree();
  EXPECT_EQ(status.error_number(), ECANCELED) << status.message();
  EXPECT_EQ(import::load_head(*store_, volume_)->current, 1U);
}

TEST_F(Import, NamesAFileThatKeepsChanging) {
  write("quiet", "quiet");
  write("restless", noise(300'000, 7));
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (unsigned i = 0; !stop; ++i) {
      const UniqueFd fd(::open((source_ / "restless").c_str(), O_WRONLY | O_CLOEXEC));
      EXPECT_EQ(::pwrite(fd.get(), &i, sizeof i, 0), static_cast<ssize_t>(sizeof i));
    }
  });
  Status status;
  // The writer changes the file all the time, when the machine lets it run: an import may see the file at
  // rest.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (status.ok() && std::chrono::steady_clock::now() < end) status = import_tree();
  stop = true;
  writer.join();
  EXPECT_EQ(status.error_number(), EAGAIN) << status.message();
  ASSERT_FALSE(report_.problems.empty());
  EXPECT_NE(report_.problems[0].find("restless"), std::string::npos);
}

TEST_F(Import, NeedsLittleMetadataAFile) {
  for (int i = 0; i < 20'000; ++i) {
    char name[64];
    std::snprintf(name, sizeof name, "speaker%03d/utterance_%06d.flac", i % 100, i);
    write(name, std::string(static_cast<size_t>(i % 50), 'x'));
  }
  ASSERT_TRUE(import_tree().ok());
  const double bytes_a_file = static_cast<double>(report_.record.metadata_bytes()) / 20'000;
  RecordProperty("metadata_bytes_a_file", std::to_string(bytes_a_file));
  EXPECT_LT(bytes_a_file, 80);
}

}  // namespace
}  // namespace cached::testing_dataset
