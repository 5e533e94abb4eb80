// Keeping a volume: removing snapshots, finding orphans, proving, giving back.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "cached/import/collector.h"
#include "cached/import/exporter.h"
#include "cached/import/verifier.h"
#include "dataset_fixture.h"

namespace cached::testing_dataset {
namespace {

namespace fs = std::filesystem;

class Keeping : public DatasetTest {
 protected:
  import::VerifyReport verify() {
    const Result<import::VerifyReport> report = import::verify_volume(store_, {.volume = volume_}, nullptr);
  EXPECT_TRUE(report.ok()) << report.status().message();
  return report.ok() ? *report : import::VerifyReport{};
} import::CollectReport collect(const import::CollectOptions& options = {}) {
  const Result<import::CollectReport> report = import::collect(store_, volume_, options);
  EXPECT_TRUE(report.ok()) << report.status().message();
  return report.ok() ? *report : import::CollectReport{};
}
std::string some_data_object() {
  const std::set<std::string> names = store_->names();
  return std::find_if(names.begin(), names.end(), [](const auto& name) { return name.starts_with("d:"); })
      ->substr(2);
}
};  // namespace

TEST_F(Keeping, RemovesASnapshotAndWhatOnlyItUsed) {
  for (unsigned i = 0; i < 10; ++i) write("f" + std::to_string(i), noise(1'000'000, i));
  write("gone", noise(3'000'000, 50));
  ASSERT_TRUE(import_tree().ok());
  fs::remove(source_ / "gone");
  ASSERT_TRUE(import_tree().ok());
  const uint64_t both = store_->bytes_in(origin::Pool::kData);
  EXPECT_EQ(import::mark_snapshot(*store_, volume_, 2, 1).error_number(), EBUSY);
  EXPECT_EQ(import::mark_snapshot(*store_, volume_, 3, 1).error_number(), ENOENT);
  ASSERT_TRUE(import::mark_snapshot(*store_, volume_, 1, INT64_MAX).ok());
  EXPECT_EQ(collect().snapshots, 0U) << "before its time";
  EXPECT_NE(open_snapshot(1), nullptr);
  ASSERT_TRUE(import::mark_snapshot(*store_, volume_, 1, 1).ok());
  EXPECT_EQ(collect().snapshots, 1U);
  EXPECT_EQ(store_->bytes_in(origin::Pool::kData), both - 3'000'000);
  EXPECT_EQ(open_snapshot(1), nullptr);
  const import::VerifyReport report = verify();
  EXPECT_EQ(report.problem_count, 0U);
  EXPECT_EQ(report.orphans, 0U);
}

TEST_F(Keeping, SurvivesACrashAtEachStepOfARemoval) {
  for (unsigned i = 0; i < 4; ++i) write("f" + std::to_string(i), noise(2'000'000, i));
  ASSERT_TRUE(import_tree().ok());
  write("f0", noise(2'000'000, 77));
  ASSERT_TRUE(import_tree().ok());
  ASSERT_TRUE(import::mark_snapshot(*store_, volume_, 1, 1).ok());
  // The store refuses after one write, in the next attempt after two, and so on.
  for (int budget = 1; budget < 40; ++budget) {
    int left = budget;
    store_->before_write = [&](const std::string&) {
      return left-- > 0 ? Status() : Status(ETIMEDOUT, "the store is gone");
    };
    const bool done = import::collect(store_, volume_, {}).ok();
    store_->before_write = nullptr;
    const auto snapshot = open_snapshot();
    ASSERT_EQ(content(*snapshot, tree(*snapshot).at("f0")), noise(2'000'000, 77));
    if (done) break;
  }
  EXPECT_EQ(import::load_head(*store_, volume_)->snapshots.size(), 1U);
  collect({.orphans = true});
  const import::VerifyReport report = verify();
  EXPECT_EQ(report.problem_count, 0U);
  EXPECT_EQ(report.orphans, 0U);
}

TEST_F(Keeping, FindsOrphansAndSparesWhatAnImportIsStoring) {
  write("file", noise(100'000, 1));
  ASSERT_TRUE(import_tree().ok());
  const shm::ObjectId stray{0x1234, 5};
  const std::string bytes = "stray";
  ASSERT_TRUE(
      store_->create(volume::piece_name(volume_, stray, 0), std::as_bytes(std::span(bytes))).wait().ok());
  ASSERT_TRUE(
      store_->create({origin::Pool::kData, "another/d.x"}, std::as_bytes(std::span(bytes))).wait().ok());
  EXPECT_EQ(verify().orphans, 1U);
  // An interrupted import has stored something: it is registered, so its objects are spared.
  write("big", noise(9'000'000, 2));
  store_->before_write = [&](const std::string& name) {
    return name.find("/snapshot.") != std::string::npos ? Status(ENOSPC, "full") : Status();
  };
  EXPECT_FALSE(import_tree().ok());
  store_->before_write = nullptr;
  const uint64_t with_import = store_->bytes_in(origin::Pool::kData);
  EXPECT_EQ(collect({.orphans = true}).objects, 1U);
  EXPECT_EQ(store_->bytes_in(origin::Pool::kData), with_import - bytes.size());
  EXPECT_EQ(verify().orphans, 0U);
  // Forgotten, it has orphans only. (This process runs it, so it must lose its sign of life.)
  const uint64_t import_id = import::load_head(*store_, volume_)->imports.at(0).id;
  ASSERT_TRUE(store_->remove(volume::import_name(volume_, import_id)).wait().ok());
  EXPECT_GT(collect({.orphans = true, .unfinished = true}).objects, 3U);
  EXPECT_EQ(verify().orphans, 0U);
  EXPECT_TRUE(store_->names().contains("d:another/d.x"));
}

TEST_F(Keeping, ProvesEachByteAndNamesTheFiles) {
  write("dir/first", noise(100'000, 1));
  write("dir/second", noise(100'000, 2));
  write("large", noise(9'000'000, 3));
  ASSERT_TRUE(import_tree().ok());
  const import::VerifyReport good = verify();
  EXPECT_EQ(good.problem_count, 0U);
  EXPECT_EQ(good.bytes, store_->bytes_in(origin::Pool::kData));
  const auto snapshot = open_snapshot();
  const auto file = tree(*snapshot).at("large");
  const auto record = volume::run_blocking(snapshot->object(file.object));
  store_->damage(volume::piece_name(volume_, record->id, 2).name,
                 [](std::string* bytes) { bytes->back() ^= 1; });
  const import::VerifyReport bad = verify();
  EXPECT_EQ(bad.problem_count, 2U);
  EXPECT_TRUE(std::any_of(bad.problems.begin(), bad.problems.end(), [](const std::string& problem) {
    return problem.find("the file large is damaged") != std::string::npos;
  }));
  // A table that is damaged is found too.
  const shm::ObjectId entries = snapshot->record().table(volume::Table::kEntries).object;
  store_->damage(volume::piece_name(volume_, entries, 0).name,
                 [](std::string* bytes) { (*bytes)[100] ^= 1; });
  EXPECT_GT(verify().problem_count, 0U);
}

TEST_F(Keeping, DestroysAVolumeWhole) {
  write("file", noise(100'000, 1));
  ASSERT_TRUE(import_tree().ok());
  const Result<uint64_t> removed = import::destroy_volume(*store_, volume_);
  ASSERT_TRUE(removed.ok());
  EXPECT_EQ(store_->names(), std::set<std::string>{"m:cached.volumes"});
  EXPECT_EQ(import::load_head(*store_, volume_).error_number(), ENOENT);
  EXPECT_TRUE(import::list_volumes(*store_)->empty());
  ASSERT_TRUE(import_tree().ok()) << "the name is free again";
}

struct FileState {
  uint32_t mode, uid, gid, nlink;
  uint64_t size, blocks, rdev;
  int64_t mtime_s, atime_s;
  long mtime_ns, atime_ns;
  std::string target, content;
  friend bool operator==(const FileState&, const FileState&) = default;
};

std::map<std::string, FileState> states_below(const fs::path& root) {
  std::map<std::string, FileState> states;
  std::vector<fs::path> paths{root};
  for (const auto& entry : fs::recursive_directory_iterator(root)) paths.push_back(entry.path());
  for (const fs::path& path : paths) {
    struct stat s {};
    EXPECT_EQ(::lstat(path.c_str(), &s), 0);
    const bool directory = S_ISDIR(s.st_mode);
    // Looking at directories and links changes their atime.
    const bool atime_holds = S_ISREG(s.st_mode);
    FileState state{s.st_mode,
                    s.st_uid,
                    s.st_gid,
                    static_cast<uint32_t>(s.st_nlink),
                    directory ? 0 : static_cast<uint64_t>(s.st_size),
                    0,
                    s.st_rdev,
                    s.st_mtim.tv_sec,
                    atime_holds ? s.st_atim.tv_sec : 0,
                    s.st_mtim.tv_nsec,
                    atime_holds ? s.st_atim.tv_nsec : 0,
                    "",
                    ""};
    if (S_ISLNK(s.st_mode)) state.target = fs::read_symlink(path);
    if (S_ISREG(s.st_mode)) {
      state.blocks = static_cast<uint64_t>(s.st_blocks);
      const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NOATIME | O_CLOEXEC));
      state.content.resize(static_cast<size_t>(s.st_size));
      EXPECT_EQ(::pread(fd.get(), state.content.data(), state.content.size(), 0), s.st_size);
    }
    states[path == root ? "" : path.lexically_relative(root).string()] = state;
  }
  return states;
}

TEST_F(Keeping, GivesTheTreeBackIdentical) {
  write("a/file", noise(123'456, 1));
  write("a/b/empty", "");
  write("large", noise(9'000'001, 2));
  fs::create_hard_link(source_ / "a/file", source_ / "other name");
  fs::create_symlink("a/file", source_ / "link");
  ASSERT_EQ(::mkfifo((source_ / "a/pipe").c_str(), 0620), 0);
  ASSERT_EQ(::chmod((source_ / "a/b/empty").c_str(), 06755), 0);
  std::ofstream(source_ / "sparse").close();
  fs::resize_file(source_ / "sparse", 30'000'000);
  std::fstream(source_ / "sparse").seekp(20'000'000).write("data", 4);
  const timespec times[2] = {{1'000'000'000, 5}, {1'100'000'000, 999'999'999}};
  for (const char* path : {"link", "a/file", "a/b", "a", ""}) {
    ASSERT_EQ(::utimensat(AT_FDCWD, (source_ / path).c_str(), times, AT_SYMLINK_NOFOLLOW), 0);
  }
  ASSERT_TRUE(import_tree().ok());
  import::ExportProgress progress;
  const auto report =
      import::export_snapshot(store_, {.volume = volume_, .directory = base_ / "back"}, &progress);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->problem_count, 0U) << report->problems.front();
  const auto before = states_below(source_);
  const auto after = states_below(base_ / "back");
  ASSERT_EQ(before.size(), after.size());
  for (const auto& [path, state] : before) EXPECT_EQ(after.at(path), state) << path;
  EXPECT_EQ(import::export_snapshot(store_, {.volume = volume_, .directory = base_ / "back"}, &progress)
                .error_number(),
            ENOTEMPTY);
}

TEST_F(Keeping, ExportWritesNoDamagedBytes) {
  write("file", noise(300'000, 1));
  ASSERT_TRUE(import_tree().ok());
  ASSERT_TRUE(store_->damage(some_data_object(), [](std::string* bytes) { (*bytes)[5] ^= 1; }));
  import::ExportProgress progress;
  const auto report =
      import::export_snapshot(store_, {.volume = volume_, .directory = base_ / "back"}, &progress);
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->problem_count, 1U);
  EXPECT_NE(report->problems.at(0).find("file"), std::string::npos);
}

}  // namespace cached::testing_dataset
}  // namespace cached::testing_dataset
