// A `dir:` volume on a real directory: handles, object ids, and paths that must not leave the root.
#include "cached/volume/dir_volume.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sodium.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <set>

#include "cached/memory_tier/shared_memory.h"

namespace cached::volume {
namespace {

namespace fs = std::filesystem;

class DirVolumeTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_GE(::sodium_init(), 0);
    char name[] = "/tmp/dir_volume_test.XXXXXX";
    base_ = ::mkdtemp(name);
    fs::create_directories(base_ / "root/sub");
    write("root/a", "content of a");
    write("root/sub/b", "content of b");
    write("outside", "secret");
    memory_tier::SharedMemory::Options options;
    options.arena_bytes = 64 * 1024 * 1024;
    options.name_entries = 4096;
    memory_ = std::move(memory_tier::SharedMemory::create(options)).value();
    names_ = std::make_unique<memory_tier::NameTable>(memory_->superblock()->name_hash_key,
                                                      memory_->name_writer(), memory_->inode_writer());
    start();
  }

  void start() {
    reactor_ = std::move(io::Reactor::create({.name = "test"})).value();
    reactor_->start();
    VolumeConfig config;
    config.name = "data";
    config.source = "dir:" + (base_ / "root").string();
    config.directory = base_ / "root";
    config.settle_ms = settle_ms_;
    const Result<IdentityKey> key = load_identity_key(base_);
    ASSERT_TRUE(key.ok());
    volume_ = std::move(DirVolume::create(config, 1, *key, *reactor_, *names_)).value();
    root_ = volume_->root(0).info.handle;
  }

  void stop() {
    reactor_->stop();
    volume_.reset();
    reactor_.reset();
  }

  void TearDown() override {
    stop();
    fs::remove_all(base_);
  }

  void write(const std::string& path, const std::string& text) { std::ofstream(base_ / path) << text; }

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
    return run<InodeAnswer>([&] { return volume_->lookup(*reactor_, parent, name); });
  }
  InodeAnswer attributes(const shm::Handle& handle) {
    return run<InodeAnswer>([&] { return volume_->attributes(*reactor_, handle); });
  }
  InodeAnswer resolve(const std::string& path) {
    return run<InodeAnswer>([&] { return volume_->resolve(*reactor_, path); });
  }
  // Reads the first bytes of a file as the object that `info` names.
  std::pair<Outcome, std::string> read(const shm::InodeInfo& info) {
    alignas(4096) static std::byte buffer[4096];
    const origin::OpenedObject opened = run<origin::OpenedObject>(
        [&] { return volume_->open(*reactor_, info.handle, info.object, origin::Opener::kReader); });
    if (!opened.outcome.ok()) return {opened.outcome, ""};
    const Outcome outcome = run<Outcome>([&] {
      return opened.reader->read(*reactor_, 0, info.size, {{buffer, sizeof buffer}});
    });
    return {outcome, std::string(reinterpret_cast<const char*>(buffer), outcome.ok() ? info.size : 0)};
  }

  uint32_t settle_ms_ = 0;
  fs::path base_;
  std::unique_ptr<memory_tier::SharedMemory> memory_;
  std::unique_ptr<memory_tier::NameTable> names_;
  std::unique_ptr<io::Reactor> reactor_;
  std::unique_ptr<DirVolume> volume_;
  shm::Handle root_;
};

TEST_F(DirVolumeTest, LookupFindsAndReadDeliversTheBytes) {
  const InodeAnswer found = lookup(root_, "a");
  ASSERT_TRUE(found.outcome.ok());
  EXPECT_EQ(read(found.info).second, "content of a");
}

TEST_F(DirVolumeTest, AbsentNameEntersTheNameTable) {
  EXPECT_EQ(lookup(root_, "nothing").outcome.error, ENOENT);
  bool absent = false;
  run<int>([&]() -> io::Task<int> {
    const auto record = names_->find_name(1, root_, "nothing");
    absent = record && (record->flags & shm::kNameAbsent);
    co_return 0;
  });
  EXPECT_TRUE(absent);
}

TEST_F(DirVolumeTest, HandlesAndObjectIdsAreTheSameAfterARestart) {
  const InodeAnswer before = lookup(lookup(root_, "sub").info.handle, "b");
  stop();
  start();
  const InodeAnswer after = resolve("sub/b");
  ASSERT_TRUE(after.outcome.ok());
  EXPECT_EQ(after.info.handle, before.info.handle);
  EXPECT_EQ(after.info.object, before.info.object);
}

TEST_F(DirVolumeTest, HandleThatIsNotKnownAsksForItsPath) {
  const InodeAnswer before = lookup(lookup(root_, "sub").info.handle, "b");
  stop();
  start();
  EXPECT_TRUE(attributes(before.info.handle).outcome.handle_unknown);
  ASSERT_TRUE(resolve("sub/b").outcome.ok());
  EXPECT_TRUE(attributes(before.info.handle).outcome.ok());
}

TEST_F(DirVolumeTest, ChangeInPlaceKeepsTheHandleAndChangesTheObject) {
  const InodeAnswer before = lookup(root_, "a");
  write("root/a", "changed text");
  const InodeAnswer after = attributes(before.info.handle);
  ASSERT_TRUE(after.outcome.ok());
  EXPECT_FALSE(after.info.object == before.info.object);
  EXPECT_EQ(read(after.info).second, "changed text");
}

TEST_F(DirVolumeTest, OldObjectIsRefusedAfterAChange) {
  const InodeAnswer before = lookup(root_, "a");
  ASSERT_EQ(read(before.info).second, "content of a");
  write("root/a", "changed text");
  const Outcome outcome = read(before.info).first;
  EXPECT_EQ(outcome.error, ESTALE);
  EXPECT_TRUE(outcome.changed);
  // And the volume looks at the file again by itself, for everybody.
  bool told = false;
  for (int i = 0; i < 500 && !told; ++i) {
    ::usleep(10'000);
    run<int>([&]() -> io::Task<int> {
      const auto known = names_->find_inode(1, before.info.handle);
      told = known && !(known->object == before.info.object);
      co_return 0;
    });
  }
  EXPECT_TRUE(told);
}

TEST_F(DirVolumeTest, ReplacedFileHasAnotherHandleAndTheOpenOneIsStillRead) {
  const InodeAnswer before = lookup(root_, "a");
  ASSERT_EQ(read(before.info).second, "content of a");
  write("root/new", "another file");
  fs::rename(base_ / "root/new", base_ / "root/a");
  const InodeAnswer after = lookup(root_, "a");
  EXPECT_FALSE(after.info.handle == before.info.handle);
  EXPECT_EQ(read(after.info).second, "another file");
  const InodeAnswer old = attributes(before.info.handle);
  ASSERT_TRUE(old.outcome.ok());
  EXPECT_EQ(read(old.info).second, "content of a");
}

TEST_F(DirVolumeTest, InodeNumberThatIsReusedGetsAnotherHandle) {
  const InodeAnswer before = lookup(root_, "a");
  for (int i = 0; i < 200; ++i) {
    fs::remove(base_ / "root/a");
    write("root/a", "content of a");
    const InodeAnswer after = lookup(root_, "a");
    ASSERT_FALSE(after.info.handle == before.info.handle);
    if (after.info.ino == before.info.ino) return;
  }
  GTEST_SKIP() << "this file system did not reuse the inode number in 200 attempts";
}

TEST_F(DirVolumeTest, SymlinkIsShownAndNotFollowed) {
  fs::create_symlink("../outside", base_ / "root/link");
  const InodeAnswer link = lookup(root_, "link");
  ASSERT_TRUE(link.outcome.ok());
  EXPECT_TRUE(S_ISLNK(link.info.mode));
  const BytesAnswer target =
      run<BytesAnswer>([&] { return volume_->read_link(*reactor_, link.info.handle); });
  EXPECT_EQ(target.bytes, "../outside");
  EXPECT_FALSE(read(link.info).first.ok());
}

TEST_F(DirVolumeTest, DirectorySwappedForASymlinkLeadsNowhere) {
  fs::create_directories(base_ / "elsewhere");
  write("elsewhere/b", "not beneath");
  const shm::Handle sub = lookup(root_, "sub").info.handle;
  fs::rename(base_ / "root/sub", base_ / "moved");
  fs::create_symlink("../elsewhere", base_ / "root/sub");
  EXPECT_FALSE(lookup(sub, "b").outcome.ok());
  EXPECT_FALSE(resolve("sub/b").outcome.ok());
}

TEST_F(DirVolumeTest, NamesThatAreNoNamesAreRefused) {
  for (const std::string& name : {std::string(""), std::string("."), std::string(".."), std::string("a/b"),
                                  std::string("a\0b", 3), std::string(256, 'x')}) {
    EXPECT_FALSE(lookup(root_, name).outcome.ok());
  }
  for (const char* const path : {"../outside", "sub/../a", "/a", "sub//b", "sub/"}) {
    EXPECT_FALSE(resolve(path).outcome.ok()) << path;
  }
}

TEST_F(DirVolumeTest, ListingHasEveryEntryOnceOverSeveralBatches) {
  for (int i = 0; i < 1000; ++i) write("root/sub/f" + std::to_string(i), "x");
  const shm::Handle sub = lookup(root_, "sub").info.handle;
  std::set<std::string> seen;
  uint64_t cookie = 0;
  for (bool end = false; !end;) {
    const DirectoryAnswer answer =
        run<DirectoryAnswer>([&] { return volume_->read_directory(*reactor_, sub, cookie, true, 100); });
    ASSERT_TRUE(answer.outcome.ok());
    ASSERT_LE(answer.items.size(), 100U);
    for (const DirectoryItem& item : answer.items) {
      EXPECT_TRUE(seen.insert(item.name).second) << item.name;
      EXPECT_TRUE(item.has_info);
      cookie = item.next_cookie;
    }
    end = answer.end;
  }
  EXPECT_EQ(seen.size(), 1001U);
}

TEST_F(DirVolumeTest, StatisticsCountTheTree) {
  const StatisticsAnswer answer = run<StatisticsAnswer>([&] { return volume_->statistics(*reactor_); });
  EXPECT_EQ(answer.statistics.complete, 1U);
  EXPECT_EQ(answer.statistics.files, 3U);  // a, sub, sub/b
  EXPECT_EQ(answer.statistics.bytes, 24U);
}

TEST_F(DirVolumeTest, ReadingLeavesNothingInTheKernelsPageCache) {
  const std::string text(1024 * 1024, 'x');
  write("root/large", text);
  ::sync();
  const int fd = ::open((base_ / "root/large").c_str(), O_RDONLY);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  const InodeAnswer found = lookup(root_, "large");
  const origin::OpenedObject opened = run<origin::OpenedObject>([&] {
    return volume_->open(*reactor_, found.info.handle, found.info.object, origin::Opener::kReader);
  });
  void* const buffer = ::aligned_alloc(4096, text.size());
  const Outcome outcome = run<Outcome>([&] {
    return opened.reader->read(*reactor_, 0, text.size(), {{buffer, text.size()}});
  });
  EXPECT_TRUE(outcome.ok());
  EXPECT_EQ(std::memcmp(buffer, text.data(), text.size()), 0);
  void* const map = ::mmap(nullptr, text.size(), PROT_READ, MAP_SHARED, fd, 0);
  std::vector<unsigned char> resident(text.size() / 4096);
  ASSERT_EQ(::mincore(map, text.size(), resident.data()), 0);
  for (const unsigned char page : resident) EXPECT_EQ(page & 1, 0);
  ::munmap(map, text.size());
  ::close(fd);
  ::free(buffer);
}

class FilesInOrderTest : public DirVolumeTest {
 protected:
  static constexpr unsigned kFiles = 40;
  static std::string name_of(unsigned number) { return "f" + std::to_string(100 + number); }

  void SetUp() override {
    DirVolumeTest::SetUp();
    for (unsigned number = 0; number < kFiles; ++number)
      write("root/" + name_of(number), "content of " + name_of(number));
  }
  std::vector<origin::FollowingFile> files_ahead(const shm::Handle& handle) {
    return run<std::vector<origin::FollowingFile>>([&] { return volume_->files_ahead(*reactor_, handle); });
  }
  origin::OpenedObject open(const shm::InodeInfo& info, origin::Opener opener) {
    return run<origin::OpenedObject>(
        [&] { return volume_->open(*reactor_, info.handle, info.object, opener); });
  }
  // Reads from the first file on until the volume says that files follow. The last one read.
  shm::InodeInfo read_until_files_follow() {
    for (unsigned number = 0; number < kFiles; ++number) {
      const shm::InodeInfo info = lookup(root_, name_of(number)).info;
      if (open(info, origin::Opener::kReader).files_follow) return info;
    }
    ADD_FAILURE() << "no file follows";
    return {};
  }
  bool is_named(const std::string& name) {
    bool named = false;
    run<int>([&]() -> io::Task<int> {
      named = names_->find_name(1, root_, name).has_value();
      co_return 0;
    });
    return named;
  }
};

TEST_F(FilesInOrderTest, ThoseThatFollowAreNamedAndOpen) {
  const shm::InodeInfo last = read_until_files_follow();
  const std::vector<origin::FollowingFile> files = files_ahead(last.handle);
  ASSERT_FALSE(files.empty());
  EXPECT_TRUE(is_named(name_of(5)));
  const shm::InodeInfo info = lookup(root_, name_of(5)).info;
  const auto found = std::ranges::find(files, info.object, &origin::FollowingFile::object);
  ASSERT_NE(found, files.end());
  EXPECT_EQ(found->size, info.size);
  EXPECT_EQ(read(info).second, "content of " + name_of(5));
}

TEST_F(FilesInOrderTest, ThoseThatWereTakenOnceAreNotTakenAgain) {
  const shm::InodeInfo last = read_until_files_follow();
  std::set<std::string> objects;
  size_t files = 0;
  for (;;) {
    const std::vector<origin::FollowingFile> some = files_ahead(last.handle);
    if (some.empty()) break;
    files += some.size();
    for (const origin::FollowingFile& file : some) objects.insert(std::to_string(file.object.low));
  }
  EXPECT_EQ(files, FileStreams::Window().shortest);
  EXPECT_EQ(objects.size(), files);
}

TEST_F(FilesInOrderTest, WhatIsOpenedAheadIsNoSignOfAReader) {
  for (unsigned number = 0; number < kFiles; ++number) {
    const shm::InodeInfo info = lookup(root_, name_of(number)).info;
    EXPECT_FALSE(open(info, origin::Opener::kAhead).files_follow);
  }
}

TEST_F(FilesInOrderTest, OneThatIsNoRegularFileAnyMoreIsPassedOver) {
  const shm::InodeInfo last = read_until_files_follow();
  fs::remove(base_ / "root" / name_of(4));
  ASSERT_EQ(::mkfifo((base_ / "root" / name_of(4)).c_str(), 0600), 0);
  fs::remove(base_ / "root" / name_of(5));
  fs::remove(base_ / "root" / name_of(6));
  fs::create_symlink("/etc/passwd", base_ / "root" / name_of(6));
  const std::vector<origin::FollowingFile> files = files_ahead(last.handle);
  ASSERT_FALSE(files.empty());
  for (const unsigned number : {4, 5, 6}) EXPECT_FALSE(is_named(name_of(number)));
  EXPECT_TRUE(is_named(name_of(7)));
}

// Reads directories one after another, and asks only for files that were not fetched ahead.
class DirectoriesInOrderTest : public FilesInOrderTest {
 protected:
  static constexpr unsigned kDirectories = 6;

  void SetUp() override {
    DirVolumeTest::SetUp();
    for (unsigned directory = 0; directory < kDirectories; ++directory) {
      fs::create_directories(base_ / "root" / directory_name(directory));
      for (unsigned number = 0; number < kFiles; ++number)
        write("root/" + directory_name(directory) + "/" + name_of(number), "content");
    }
  }
  static std::string directory_name(unsigned number) { return "d" + std::to_string(number); }

  // How many files of the directory were asked for.
  unsigned read_directory_in_order(unsigned directory) {
    const shm::Handle handle = lookup(root_, directory_name(directory)).info.handle;
    unsigned asked = 0;
    for (unsigned number = 0; number < kFiles; ++number) {
      const shm::InodeInfo info = lookup(handle, name_of(number)).info;
      if (ahead_.contains(info.object.low)) continue;
      ++asked;
      if (!open(info, origin::Opener::kReader).files_follow) continue;
      for (;;) {
        const std::vector<origin::FollowingFile> files = files_ahead(info.handle);
        if (files.empty()) break;
        for (const origin::FollowingFile& file : files) ahead_.insert(file.object.low);
      }
    }
    return asked;
  }

  std::set<uint64_t> ahead_;
};

TEST_F(DirectoriesInOrderTest, TheNextOneIsEnteredBeforeItsReader) {
  EXPECT_LE(read_directory_in_order(0), 5U);
  EXPECT_EQ(read_directory_in_order(1), 1U) << "a stream goes on";
  EXPECT_EQ(read_directory_in_order(2), 1U);
  const shm::Handle next = lookup(root_, directory_name(3)).info.handle;
  EXPECT_TRUE(ahead_.contains(lookup(next, name_of(0)).info.object.low)) << "three directories are an order";
  for (unsigned directory = 3; directory < kDirectories; ++directory)
    EXPECT_EQ(read_directory_in_order(directory), 1U) << "behind its first window";
}

TEST_F(DirectoriesInOrderTest, OneThatIsGoneSinceItWasListedIsNotEntered) {
  for (unsigned directory = 0; directory < 4; ++directory) read_directory_in_order(directory);
  fs::remove_all(base_ / "root" / directory_name(5));
  const size_t before = ahead_.size();
  EXPECT_EQ(read_directory_in_order(4), 1U);
  EXPECT_EQ(ahead_.size() - before, kFiles - 1 - FileStreams::Window().shortest) << "the rest of this one";
  EXPECT_EQ(lookup(root_, directory_name(5)).outcome.error, ENOENT);
}

TEST_F(FilesInOrderTest, OneOfAHandleThatIsNotKnownIsNone) {
  EXPECT_TRUE(files_ahead(shm::Handle{77, 77}).empty());
}

class UnsettledDirVolumeTest : public DirVolumeTest {
 protected:
  UnsettledDirVolumeTest() { settle_ms_ = 60'000; }
};

TEST_F(UnsettledDirVolumeTest, IdOfAFreshFileIsGivenForHalfASecond) {
  const InodeAnswer first = lookup(root_, "a");
  EXPECT_EQ(attributes(first.info.handle).info.object, first.info.object);
  ::usleep(600'000);
  const InodeAnswer second = attributes(first.info.handle);
  EXPECT_FALSE(first.info.object == second.info.object);
  // The id before is still the same version, so whoever holds it can go on reading.
  EXPECT_EQ(read(first.info).second, "content of a");
  EXPECT_EQ(read(second.info).second, "content of a");
}

}  // namespace
}  // namespace cached::volume
