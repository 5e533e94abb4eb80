// RadosVolume over a store in memory: names, attributes, listings, data, and following the head.
#include "cached/volume/rados_volume.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <future>
#include <set>

#include "cached/memory_tier/shared_memory.h"
#include "dataset_fixture.h"

namespace cached::testing_dataset {
namespace {

namespace fs = std::filesystem;
using volume::BytesAnswer;
using volume::DirectoryAnswer;
using volume::InodeAnswer;
using volume::RadosVolume;

class RadosVolumeTest : public DatasetTest {
 protected:
  void SetUp() override {
    DatasetTest::SetUp();
    memory_tier::SharedMemory::Options options;
    options.arena_bytes = 64 * 1024 * 1024;
    options.name_entries = 4096;
    memory_ = std::move(memory_tier::SharedMemory::create(options)).value();
    names_ = std::make_unique<memory_tier::NameTable>(memory_->superblock()->name_hash_key,
                                                      memory_->name_writer(), memory_->inode_writer());
  }
  void TearDown() override {
    if (reactor_ != nullptr) reactor_->stop();
    rados_.reset();
    reactor_.reset();
    DatasetTest::TearDown();
  }

  void start(uint64_t head_age_ns = 0) {
    reactor_ = std::move(io::Reactor::create({.name = "test"})).value();
    reactor_->start();
    RadosVolume::Options options;
    options.name = "tree";
    options.source = "rados:pool/data";
    options.dataset = volume_;
    options.id = 7;
    options.head_age_ns = head_age_ns;
    options.head_patience_ns = 100'000'000;
    auto metadata = std::make_unique<volume::StoreMetadataSource>(store_, volume_, reactor_.get(),
                                                                  volume::StoreMetadataSource::Options{});
    rados_ = std::move(RadosVolume::create(options, store_, std::move(metadata), *reactor_, *names_)).value();
  }

  template <typename T>
  T run(std::function<io::Task<T>()> make) {
    std::promise<T> promise;
    reactor_->post([&] { io::spawn(forward(make, promise)); });
    return promise.get_future().get();
  }
  template <typename T>
  static io::Task<void> forward(std::function<io::Task<T>()>& make, std::promise<T>& promise) {
    promise.set_value(co_await make());
  }

  InodeAnswer lookup(const shm::Handle& parent, const std::string& name) {
    return run<InodeAnswer>([&] { return rados_->lookup(*reactor_, parent, name); });
  }
  InodeAnswer resolve(const std::string& path) {
    return run<InodeAnswer>([&] { return rados_->resolve(*reactor_, path); });
  }
  DirectoryAnswer list(const shm::Handle& handle, uint64_t cookie, bool attributes, unsigned maximum) {
    return run<DirectoryAnswer>(
        [&] { return rados_->read_directory(*reactor_, handle, cookie, attributes, maximum); });
  }

  struct Data {
    origin::Outcome outcome;
    std::string bytes;
  };
  // Reads [offset, offset + length) of a file the way the read path does.
  Data read(const shm::InodeInfo& info, uint64_t offset, uint64_t length) {
    return run<Data>([&] { return read_task(info, info.layout_base + offset, length); });
  }
  io::Task<Data> read_task(shm::InodeInfo info, uint64_t offset, uint64_t length) {
    origin::OpenedObject opened =
        co_await rados_->open(*reactor_, info.handle, info.object, origin::Opener::kReader);
    if (!opened.outcome.ok()) co_return Data{opened.outcome, ""};
    std::string bytes(length, '?');
    std::vector<iovec> iovecs{{bytes.data(), bytes.size() / 2},
                              {bytes.data() + bytes.size() / 2, bytes.size() - bytes.size() / 2}};
    const origin::Outcome outcome =
        co_await opened.reader->read(*reactor_, offset, length, std::move(iovecs));
    co_return Data{outcome, bytes};
  }

  // What is told of a directory once it is counted; waits for that.
  volume::TreeTotals counted(const std::string& path) {
    volume::TreeTotals totals = rados_->tree_totals(path);
    for (int i = 0; i < 1000 && !totals.counted; ++i) {
      ::usleep(10'000);
      totals = rados_->tree_totals(path);
    }
    return totals;
  }

  std::unique_ptr<memory_tier::SharedMemory> memory_;
  std::unique_ptr<memory_tier::NameTable> names_;
  std::unique_ptr<io::Reactor> reactor_;
  std::unique_ptr<RadosVolume> rados_;
};

TEST_F(RadosVolumeTest, AnswersForTheWholeTree) {
  write("a/b/file", noise(200'000, 1));
  fs::create_symlink("b/file", source_ / "a/link");
  ASSERT_TRUE(import_tree().ok());
  start();
  const InodeAnswer root = rados_->root(0);
  ASSERT_TRUE(root.outcome.ok());
  EXPECT_EQ(root.info.handle, RadosVolume::kCurrentRoot);
  EXPECT_TRUE(S_ISDIR(root.info.mode));
  const InodeAnswer file = resolve("a/b/file");
  ASSERT_TRUE(file.outcome.ok());
  EXPECT_EQ(file.info.size, 200'000U);
  EXPECT_NE(file.info.flags & shm::kInodeImmutable, 0U);
  const InodeAnswer directory = lookup(root.info.handle, "a");
  ASSERT_TRUE(directory.outcome.ok());
  // A name in the root must be looked up again when the head may have moved.
  EXPECT_EQ(directory.info.flags & shm::kInodeImmutable, 0U);
  EXPECT_TRUE(names_->find_name(7, root.info.handle, "a").has_value());
  EXPECT_TRUE(names_->find_inode(7, file.info.handle).has_value());
  const InodeAnswer link = lookup(directory.info.handle, "link");
  const auto target = run<BytesAnswer>([&] { return rados_->read_link(*reactor_, link.info.handle); });
  EXPECT_EQ(target.bytes, "b/file");
  EXPECT_EQ(lookup(directory.info.handle, "none").outcome.error, ENOENT);
  EXPECT_EQ(lookup(file.info.handle, "none").outcome.error, ENOTDIR);
  EXPECT_EQ(lookup({1, 2}, "none").outcome.error, ESTALE);
  EXPECT_EQ(rados_->known_statistics().files, 2U);
}

TEST_F(RadosVolumeTest, CountsWhatLiesBelowADirectoryOnceForEachSnapshot) {
  for (int i = 0; i < 1300; ++i) write("d/inner/" + std::to_string(i), "ten bytes.");
  write("d/one", noise(5000, 1));
  write("outside", noise(7000, 2));
  fs::create_symlink("one", source_ / "d/link");
  ASSERT_TRUE(import_tree().ok());
  start();
  ASSERT_TRUE(rados_->root(0).outcome.ok());
  volume::TreeTotals totals = counted("d");
  EXPECT_EQ(totals.files, 1301U);
  EXPECT_EQ(totals.bytes, 18'000U);
  EXPECT_EQ(counted("d/inner").bytes, 13'000U);
  EXPECT_FALSE(rados_->tree_totals("none").counted);
  EXPECT_FALSE(rados_->tree_totals("outside").counted);

  write("d/two", noise(100, 3));
  ASSERT_TRUE(import_tree().ok());
  ASSERT_TRUE(rados_->root(0).outcome.ok());
  for (int i = 0; i < 1000 && totals.files != 1302; ++i) {
    ::usleep(10'000);
    totals = rados_->tree_totals("d");
  }
  EXPECT_EQ(totals.bytes, 18'100U);
}

TEST_F(RadosVolumeTest, ListsInPartsWithAttributes) {
  for (int i = 0; i < 1000; ++i) write("d/" + std::to_string(i), "x");
  fs::create_hard_link(source_ / "d/0", source_ / "d/again");
  ASSERT_TRUE(import_tree().ok());
  start();
  const InodeAnswer directory = resolve("d");
  std::set<std::string> names;
  uint64_t cookie = 0;
  for (bool end = false; !end;) {
    const DirectoryAnswer part = list(directory.info.handle, cookie, true, 64);
    ASSERT_TRUE(part.outcome.ok());
    for (const volume::DirectoryItem& item : part.items) {
      EXPECT_TRUE(item.has_info);
      EXPECT_EQ(item.type, DT_REG);
      EXPECT_TRUE(names.insert(item.name).second) << item.name;
      cookie = item.next_cookie;
    }
    end = part.end;
  }
  EXPECT_EQ(names.size(), 1001U);
  EXPECT_EQ(resolve("d/0").info.handle, resolve("d/again").info.handle);
  EXPECT_EQ(resolve("d/0").info.nlink, 2U);
}

TEST_F(RadosVolumeTest, LearnsNamesAheadOfLookupsInOrderAndOfNoOthers) {
  const auto name_of = [](int number) { return "f" + std::to_string(1000 + number); };
  for (int i = 0; i < 400; ++i) write("d/" + name_of(i), "x");
  ASSERT_TRUE(import_tree().ok());
  start();
  const shm::Handle directory = resolve("d").info.handle;
  const auto known = [&](int number) {
    return run<bool>(
        [&]() -> io::Task<bool> { co_return names_->find_name(7, directory, name_of(number)).has_value(); });
  };
  for (const int number : {300, 100, 200, 50}) lookup(directory, name_of(number));
  for (const int number : {301, 101, 201, 51}) EXPECT_FALSE(known(number)) << number;
  for (const int number : {10, 11, 12}) lookup(directory, name_of(number));
  for (const int number : {13, 14, 20}) EXPECT_TRUE(known(number)) << number;
  EXPECT_FALSE(known(21));
  const auto record = names_->find_name(7, directory, name_of(15));
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->child, lookup(directory, name_of(15)).info.handle);
}

TEST_F(RadosVolumeTest, ReadsPackedAndLargeFilesAndHoles) {
  write("first", noise(70'001, 2));
  write("second", noise(300'000, 3));
  write("large", noise(9'000'000, 4));
  std::ofstream(source_ / "sparse").close();
  fs::resize_file(source_ / "sparse", 20'000'000);
  std::fstream(source_ / "sparse").seekp(10'000'000).write("data", 4);
  ASSERT_TRUE(import_tree().ok());
  start();
  EXPECT_EQ(read(resolve("first").info, 0, 70'001).bytes, noise(70'001, 2));
  EXPECT_EQ(read(resolve("second").info, 131'000, 5'000).bytes, noise(300'000, 3).substr(131'000, 5'000));
  EXPECT_EQ(read(resolve("large").info, 4'000'000, 1'000'000).bytes,
            noise(9'000'000, 4).substr(4'000'000, 1'000'000));
  EXPECT_EQ(read(resolve("large").info, 8'388'608, 611'392).bytes, noise(9'000'000, 4).substr(8'388'608));
  const Data sparse = read(resolve("sparse").info, 9'999'990, 30);
  EXPECT_TRUE(sparse.outcome.ok());
  EXPECT_EQ(sparse.bytes, std::string(10, '\0') + "data" + std::string(16, '\0'));
  EXPECT_EQ(read(resolve("sparse").info, 19'000'000, 1'000'000).bytes, std::string(1'000'000, '\0'));
}

TEST_F(RadosVolumeTest, GivesNoDamagedBytes) {
  write("file", noise(400'000, 5));
  ASSERT_TRUE(import_tree().ok());
  start();
  const InodeAnswer file = resolve("file");
  const std::string piece = volume::piece_name(volume_, file.info.object, 0).name;
  ASSERT_TRUE(store_->damage(piece, [](std::string* bytes) { (*bytes)[300'000] ^= 1; }));
  EXPECT_EQ(read(file.info, 262'144, 131'072).outcome.error, EIO);
  EXPECT_EQ(read(file.info, 299'000, 10).outcome.error, EIO);
  EXPECT_EQ(read(file.info, 0, 131'072).bytes, noise(400'000, 5).substr(0, 131'072));
  ASSERT_TRUE(store_->damage(piece, [](std::string* bytes) { bytes->resize(1000); }));
  EXPECT_EQ(read(file.info, 0, 131'072).outcome.error, EIO);
  ASSERT_TRUE(store_->remove(volume::piece_name(volume_, file.info.object, 0)).wait().ok());
  EXPECT_EQ(read(file.info, 0, 131'072).outcome.error, EIO);
}

TEST_F(RadosVolumeTest, FollowsTheHeadWhileOpenFilesKeepTheirBytes) {
  write("d/file", "old");
  ASSERT_TRUE(import_tree().ok());
  start();
  const InodeAnswer old_file = resolve("d/file");
  const InodeAnswer old_directory = resolve("d");
  write("d/file", "brand new");
  write("d/more", "more");
  ASSERT_TRUE(import_tree().ok());
  const InodeAnswer new_file = resolve("d/file");
  EXPECT_EQ(read(new_file.info, 0, 9).bytes, "brand new");
  EXPECT_EQ(new_file.info.ino, old_file.info.ino);
  EXPECT_EQ(read(old_file.info, 0, 3).bytes, "old");
  EXPECT_EQ(lookup(old_directory.info.handle, "more").outcome.error, ENOENT);
  // A listing of the root that began in the old snapshot, and a mount of the old snapshot by its number.
  const InodeAnswer old_root = rados_->root(1);
  ASSERT_TRUE(old_root.outcome.ok());
  EXPECT_EQ(lookup(old_root.info.handle, "d").info.handle, old_directory.info.handle);
  EXPECT_EQ(rados_->root(9).outcome.error, ENOENT);
}

TEST_F(RadosVolumeTest, SnapshotThatWasPublishedAMomentAgoIsFound) {
  write("file", "one");
  ASSERT_TRUE(import_tree().ok());
  start(60 * kNanosecondsPerSecond);
  ASSERT_TRUE(rados_->root(0).outcome.ok());
  write("file", "two!");
  ASSERT_TRUE(import_tree().ok());
  const InodeAnswer root = rados_->root(2);
  ASSERT_TRUE(root.outcome.ok());
  EXPECT_EQ(lookup(root.info.handle, "file").info.size, 4U);
}

TEST_F(RadosVolumeTest, ComesUpWhenTheDataSetDoes) {
  start();
  EXPECT_EQ(rados_->root(0).outcome.error, ENOENT);
  EXPECT_NE(rados_->trouble().find("there is no data set"), std::string::npos);
  write("file", "content");
  ASSERT_TRUE(import_tree().ok());
  EXPECT_TRUE(rados_->root(0).outcome.ok());
  EXPECT_EQ(rados_->trouble(), "");
}

TEST_F(RadosVolumeTest, ShowsTheSnapshotThatItKnowsWhileTheHeadCannotBeRead) {
  write("file", "content");
  ASSERT_TRUE(import_tree().ok());
  start();
  ASSERT_TRUE(rados_->root(0).outcome.ok());
  store_->hold_small_reads();
  // The first one waits for a moment, those after it not even that.
  for (int i = 0; i < 3; ++i) {
    const InodeAnswer file = lookup(RadosVolume::kCurrentRoot, "file");
    ASSERT_TRUE(file.outcome.ok());
    EXPECT_EQ(read(file.info, 0, 7).bytes, "content");
  }
  EXPECT_NE(rados_->trouble().find("does not answer"), std::string::npos) << rados_->trouble();
  // What the head that is known does not name may exist.
  EXPECT_EQ(rados_->root(2).outcome.error, EIO);
  store_->release_small_reads();
  write("file", "changed");
  ASSERT_TRUE(import_tree().ok());
  const InodeAnswer changed = lookup(RadosVolume::kCurrentRoot, "file");
  EXPECT_EQ(read(changed.info, 0, 7).bytes, "changed");
  EXPECT_EQ(rados_->trouble(), "");
}

TEST_F(RadosVolumeTest, RootThatWasWaitedForInVainIsHardlyWaitedForAgain) {
  write("file", "content");
  ASSERT_TRUE(import_tree().ok());
  store_->hold_small_reads();
  start();
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(rados_->root(0).outcome.error, ETIMEDOUT);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(6));  // and not five times two
  store_->release_small_reads();
  InodeAnswer root;
  for (int i = 0; i < 100 && !(root = rados_->root(0)).outcome.ok(); ++i) {
  }
  EXPECT_TRUE(root.outcome.ok());
}

TEST_F(RadosVolumeTest, FindsAllOfATreeInFewOperations) {
  for (int i = 0; i < 5000; ++i) {
    write("speaker" + std::to_string(i % 50) + "/utterance" + std::to_string(i), "x");
  }
  ASSERT_TRUE(import_tree().ok());
  start();
  const uint64_t before = store_->reads();
  std::vector<shm::Handle> directories{rados_->root(0).info.handle};
  size_t found = 0;
  for (size_t i = 0; i < directories.size(); ++i) {
    for (const volume::DirectoryItem& item : list(directories[i], 0, true, 10'000).items) {
      ++found;
      if (item.type == DT_DIR) directories.push_back(item.info.handle);
    }
  }
  EXPECT_EQ(found, 5050U);
  // The head, the record, four tables; the head again for each question about the root (its age is 0 here).
  EXPECT_LE(store_->reads() - before, 12U);
}

}  // namespace
}  // namespace cached::testing_dataset
