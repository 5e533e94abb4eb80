// Tests of the verifying reader: the content function, and that the judge catches every kind of planted wrong
// read and accepts every kind of right one.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/unique_fd.h"
#include "tests/verify/changer.h"
#include "tests/verify/content.h"
#include "tests/verify/history.h"
#include "tests/verify/judge.h"
#include "tests/verify/manifest.h"
#include "tests/verify/reader.h"

namespace cached::verify {
namespace {

using testing::HasSubstr;

constexpr uint64_t kSeed = 42;
constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kFileBytes = 200'003;

TEST(Content, fills_and_compares_at_every_alignment) {
  const Content content(kSeed, 7, 3);
  std::vector<uint8_t> whole(5000);
  content.fill(0, whole.data(), whole.size());
  for (uint64_t offset = 0; offset < 20; offset++) {
    for (const size_t length : {0, 1, 7, 8, 9, 63, 512, 1000, 4000}) {
      std::vector<uint8_t> part(length);
      content.fill(offset, part.data(), length);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + static_cast<ptrdiff_t>(offset)));
      EXPECT_EQ(content.first_mismatch(offset, part.data(), length), length);
    }
  }
}

TEST(Content, finds_a_single_wrong_byte_anywhere) {
  const Content content(kSeed, 7, 3);
  std::vector<uint8_t> data(1500);
  for (const uint64_t offset : {0, 3, 4096}) {
    content.fill(offset, data.data(), data.size());
    for (size_t i = 0; i < data.size(); i++) {
      data[i] ^= 0x10;
      ASSERT_EQ(content.first_mismatch(offset, data.data(), data.size()), i);
      data[i] ^= 0x10;
    }
  }
}

TEST(Content, a_word_tells_its_index) {
  const Content content(kSeed, 1234, 5);
  for (const uint64_t index : {uint64_t{0}, uint64_t{1}, uint64_t{999'999}, uint64_t{1} << 40}) {
    EXPECT_EQ(content.index_of(content.word(index)), index);
  }
}

TEST(Content, versions_files_and_seeds_differ_in_every_word) {
  const Content content(kSeed, 1, 1);
  for (const Content& other : {Content(kSeed, 1, 2), Content(kSeed, 2, 1), Content(kSeed + 1, 1, 1)}) {
    for (uint64_t i = 0; i < 1000; i++) EXPECT_NE(content.word(i), other.word(i));
  }
}

// One file with a history, and reads of it that a test composes byte by byte.
class JudgeTest : public testing::Test {
 protected:
  JudgeTest() {
    manifest_.seed = kSeed;
    manifest_.files = {FileEntry{"a/file", 1, kFileBytes, 0}, FileEntry{"b/other", 2, kFileBytes, 0}};
    FileState state;
    state.size = kFileBytes;
    states_ = {state};
    event_.open = {1000 * kMs, 1001 * kMs};
    event_.call_ns = 1010 * kMs;
    event_.return_ns = 1011 * kMs;
  }

  // Appends a state made by a change from `begin_ms` to `end_ms`.
  void change(ChangeKind kind, uint64_t begin_ms, uint64_t end_ms, uint64_t size = kFileBytes) {
    FileState next = states_.back();
    next.made_by = kind;
    next.size = size;
    next.begin_ns = begin_ms * kMs;
    next.made_ns = end_ms * kMs;
    next.present = kind != ChangeKind::kRemove;
    if (kind != ChangeKind::kTruncate && kind != ChangeKind::kGrow && kind != ChangeKind::kRemove)
      next.version++;
    if (kind == ChangeKind::kRename || kind == ChangeKind::kCreate) next.inode++;
    states_.back().end_ns = end_ms * kMs;
    states_.push_back(next);
  }

  // Puts [from, to) of a version into the read's bytes; the read asked for `length` at `offset`.
  void ask(uint64_t offset, uint64_t length) {
    event_.offset = offset;
    event_.length = length;
    bytes_.assign(length, 0);
  }
  void put(uint64_t version, uint64_t from, uint64_t to, uint64_t file_id = 1) {
    Content(kSeed, file_id, version).fill(from, bytes_.data() + (from - event_.offset), to - from);
  }
  void put_shifted(uint64_t version, int64_t shift) {
    Content(kSeed, 1, version)
        .fill(static_cast<uint64_t>(static_cast<int64_t>(event_.offset) + shift), bytes_.data(),
              bytes_.size());
  }

  Verdict judge() {
    event_.data = bytes_.data();
    event_.count = bytes_.size();
    return Judge(options_, manifest_, 0).judge_read(manifest_.files[0], states_, event_, "test");
  }

  Manifest manifest_;
  JudgeOptions options_;
  std::vector<FileState> states_;
  ReadEvent event_;
  std::vector<uint8_t> bytes_;
};

TEST_F(JudgeTest, accepts_right_bytes_to_the_end_of_the_file) {
  ask(131'073, 100'000);
  bytes_.resize(kFileBytes - 131'073);
  put(0, 131'073, kFileBytes);
  EXPECT_EQ(judge().outcome, Outcome::kRight);
}

TEST_F(JudgeTest, catches_one_wrong_bit) {
  ask(4096, 65'536);
  put(0, 4096, 4096 + 65'536);
  bytes_[30'000] ^= 1;
  const Verdict verdict = judge();
  EXPECT_EQ(verdict.outcome, Outcome::kWrong);
  EXPECT_THAT(verdict.message, HasSubstr("WRONG BYTES: file a/file (id 1)"));
  EXPECT_THAT(verdict.message, HasSubstr("[34096, 34104) bytes of no known file or version"));
}

TEST_F(JudgeTest, tells_what_was_found_in_reads_smaller_than_a_word) {
  ask(4099, 5);
  Verdict verdict = judge();
  EXPECT_EQ(verdict.outcome, Outcome::kWrong);
  EXPECT_THAT(verdict.message, HasSubstr("[4099, 4104) zeros"));
  change(ChangeKind::kInPlace, 900, 910);
  put(0, 4099, 4104);
  verdict = judge();
  EXPECT_EQ(verdict.outcome, Outcome::kWrong);
  EXPECT_THAT(verdict.message, HasSubstr("[4099, 4104) version 0 (replaced"));
}

TEST_F(JudgeTest, catches_a_wrong_last_byte_that_is_no_whole_word) {
  ask(0, kFileBytes);
  put(0, 0, kFileBytes);
  bytes_.back() ^= 1;
  EXPECT_EQ(judge().outcome, Outcome::kWrong);
}

TEST_F(JudgeTest, catches_zeros_for_data) {
  ask(0, 131'072);
  put(0, 0, 65'536);
  const Verdict verdict = judge();
  EXPECT_EQ(verdict.outcome, Outcome::kWrong);
  EXPECT_THAT(verdict.message, HasSubstr("[0, 65536) version 0"));
  EXPECT_THAT(verdict.message, HasSubstr("[65536, 131072) zeros"));
}

TEST_F(JudgeTest, catches_a_mix_of_two_versions_although_each_is_acceptable) {
  change(ChangeKind::kInPlace, 900, 901);
  options_.staleness_ns = 200 * kMs;
  event_.access = Access::kDirect;
  ask(0, 131'072);
  put(0, 0, 65'536);
  put(1, 65'536, 131'072);
  const Verdict verdict = judge();
  EXPECT_EQ(verdict.outcome, Outcome::kWrong);
  EXPECT_THAT(verdict.message, HasSubstr("[0, 65536) version 0 (replaced"));
  EXPECT_THAT(verdict.message, HasSubstr("[65536, 131072) version 1"));
}

TEST_F(JudgeTest, catches_a_mix_of_two_inodes) {
  change(ChangeKind::kRename, 1000, 1012);
  ask(0, 131'072);
  put(0, 0, 65'536);
  put(1, 65'536, 131'072);
  EXPECT_EQ(judge().outcome, Outcome::kWrong);
}

TEST_F(JudgeTest, accepts_torn_bytes_only_while_the_content_is_being_replaced) {
  change(ChangeKind::kInPlace, 1005, 1010);
  event_.access = Access::kDirect;
  ask(0, 131'072);
  put(0, 0, 65'536);
  put(1, 65'536, 131'072);
  EXPECT_EQ(judge().outcome, Outcome::kTorn);
  bytes_[100'003] ^= 1;
  EXPECT_EQ(judge().outcome, Outcome::kWrong);
  bytes_[100'003] ^= 1;
  event_.call_ns += 1 * kMs;
  EXPECT_EQ(judge().outcome, Outcome::kWrong);
}

TEST_F(JudgeTest, the_window_for_torn_pages_of_the_page_cache_includes_the_staleness) {
  change(ChangeKind::kInPlace, 1002, 1003);
  options_.staleness_ns = 10 * kMs;
  ask(0, 131'072);
  put(0, 0, 65'536);
  put(1, 65'536, 131'072);
  EXPECT_EQ(judge().outcome, Outcome::kTorn);
  event_.access = Access::kDirect;
  EXPECT_EQ(judge().outcome, Outcome::kWrong);
}

TEST_F(JudgeTest, catches_stale_bytes_and_measures_staleness_within_the_bound) {
  change(ChangeKind::kInPlace, 900, 910);
  ask(0, 4096);
  put(0, 0, 4096);
  options_.staleness_ns = 100 * kMs;
  Verdict verdict = judge();
  EXPECT_EQ(verdict.outcome, Outcome::kRight);
  EXPECT_EQ(verdict.staleness_ns, 100 * kMs);
  options_.staleness_ns = 99 * kMs;
  verdict = judge();
  EXPECT_EQ(verdict.outcome, Outcome::kWrong);
  EXPECT_THAT(verdict.message, HasSubstr("version 0 (replaced T+0.910000s)"));
}

TEST_F(JudgeTest, catches_bytes_of_the_future) {
  change(ChangeKind::kInPlace, 1012, 1013);
  ask(0, 4096);
  put(1, 0, 4096);
  EXPECT_EQ(judge().outcome, Outcome::kWrong);
}

TEST_F(JudgeTest, catches_another_offset) {
  ask(65'536, 4096);
  put_shifted(0, -4096);
  Verdict verdict = judge();
  EXPECT_EQ(verdict.outcome, Outcome::kWrong);
  EXPECT_THAT(verdict.message, HasSubstr("version 0 from another offset (-4096 bytes away)"));
  put_shifted(0, 3);
  verdict = judge();
  EXPECT_EQ(verdict.outcome, Outcome::kWrong);
  EXPECT_THAT(verdict.message, HasSubstr("version 0 from another offset (+3 bytes away)"));
}

TEST_F(JudgeTest, catches_another_file) {
  ask(0, 4096);
  put(0, 0, 4096, 2);
  const Verdict verdict = judge();
  EXPECT_EQ(verdict.outcome, Outcome::kWrong);
  EXPECT_THAT(verdict.message, HasSubstr("bytes of another file, b/other (id 2), +0 bytes away"));
}

TEST_F(JudgeTest, catches_a_short_read_and_a_long_one) {
  ask(0, 65'536);
  bytes_.resize(60'000);
  put(0, 0, 60'000);
  Verdict verdict = judge();
  EXPECT_EQ(verdict.outcome, Outcome::kWrong);
  EXPECT_THAT(verdict.message, HasSubstr("SHORT READ: file a/file"));
  ask(kFileBytes - 100, 4096);
  bytes_.resize(200);
  put(0, kFileBytes - 100, kFileBytes + 100);
  verdict = judge();
  EXPECT_EQ(verdict.outcome, Outcome::kWrong);
  EXPECT_THAT(verdict.message, HasSubstr("LONG READ: file a/file"));
}

TEST_F(JudgeTest, catches_an_early_end_of_file) {
  ask(0, 65'536);
  bytes_.clear();
  EXPECT_EQ(judge().outcome, Outcome::kWrong);
  change(ChangeKind::kInPlace, 1009, 1010);
  options_.allow_short_on_change = true;
  EXPECT_EQ(judge().outcome, Outcome::kWrong);
}

TEST_F(JudgeTest, accepts_a_short_read_in_a_change_only_if_allowed) {
  change(ChangeKind::kInPlace, 1009, 1010);
  ask(0, 65'536);
  bytes_.resize(32'768);
  put(0, 0, 32'768);
  EXPECT_EQ(judge().outcome, Outcome::kWrong);
  options_.allow_short_on_change = true;
  EXPECT_EQ(judge().outcome, Outcome::kShort);
}

TEST_F(JudgeTest, accepts_any_length_between_two_sizes_while_the_size_changes) {
  change(ChangeKind::kTruncate, 1009, 1012, 100'000);
  ask(65'536, 131'072);
  bytes_.resize(80'000);
  put(0, 65'536, 65'536 + 80'000);
  EXPECT_EQ(judge().outcome, Outcome::kLaggingSize);
  bytes_.resize(30'000);
  EXPECT_EQ(judge().outcome, Outcome::kWrong);
}

TEST_F(JudgeTest, catches_zeros_behind_a_truncated_end) {
  change(ChangeKind::kTruncate, 800, 801, 100'000);
  change(ChangeKind::kGrow, 1005, 1006, 110'000);
  ask(98'304, 8192);
  put(0, 98'304, 100'000);
  EXPECT_EQ(judge().outcome, Outcome::kWrong);
}

TEST_F(JudgeTest, an_open_descriptor_keeps_its_inode) {
  change(ChangeKind::kRename, 1005, 1006);
  ask(0, 4096);
  put(0, 0, 4096);
  EXPECT_EQ(judge().outcome, Outcome::kRight);
  put(1, 0, 4096);
  EXPECT_EQ(judge().outcome, Outcome::kWrong);
  event_.open = {1007 * kMs, 1008 * kMs};
  EXPECT_EQ(judge().outcome, Outcome::kRight);
}

TEST_F(JudgeTest, a_mapping_may_show_what_was_current_at_its_open) {
  change(ChangeKind::kInPlace, 1005, 1006);
  ask(0, 8192);
  put(0, 0, 4096);
  put(1, 4096, 8192);
  EXPECT_EQ(judge().outcome, Outcome::kWrong);
  event_.access = Access::kMapped;
  EXPECT_EQ(judge().outcome, Outcome::kTorn);
}

TEST_F(JudgeTest, a_mapping_may_show_zeros_behind_the_end_only) {
  change(ChangeKind::kTruncate, 1005, 1006, 5000);
  event_.access = Access::kMapped;
  ask(0, 8192);
  put(0, 0, 5000);
  EXPECT_EQ(judge().outcome, Outcome::kTorn);
  std::fill(bytes_.begin() + 4900, bytes_.end(), uint8_t{0});
  EXPECT_EQ(judge().outcome, Outcome::kWrong);
}

TEST_F(JudgeTest, tolerates_listed_errnos_in_a_change_only) {
  options_.tolerated_errnos = {ENOENT, ESTALE};
  const auto outcome = [&](int error_number) {
    return Judge(options_, manifest_, 0)
        .judge_error(manifest_.files[0], states_, "open", error_number, event_.call_ns, event_.return_ns)
        .outcome;
  };
  EXPECT_EQ(outcome(ENOENT), Outcome::kWrong);
  change(ChangeKind::kRemove, 990, 995);
  EXPECT_EQ(outcome(ENOENT), Outcome::kToleratedError);
  EXPECT_EQ(outcome(EIO), Outcome::kWrong);
  change(ChangeKind::kCreate, 1000, 1001);
  EXPECT_EQ(outcome(ENOENT), Outcome::kWrong);
  options_.staleness_ns = 10 * kMs;
  EXPECT_EQ(outcome(ESTALE), Outcome::kToleratedError);
}

TEST_F(JudgeTest, judges_sizes) {
  const auto outcome = [&](uint64_t size) {
    return Judge(options_, manifest_, 0)
        .judge_size(manifest_.files[0], states_, event_.open, event_.call_ns, event_.return_ns, size)
        .outcome;
  };
  EXPECT_EQ(outcome(kFileBytes), Outcome::kRight);
  EXPECT_EQ(outcome(kFileBytes - 1), Outcome::kWrong);
  change(ChangeKind::kTruncate, 1005, 1006, 1000);
  EXPECT_EQ(outcome(1000), Outcome::kRight);
  EXPECT_EQ(outcome(kFileBytes), Outcome::kWrong);
}

// A real tree on a real file system.
class TreeTest : public testing::Test {
 protected:
  TreeTest() {
    const char* base = getenv("CACHED_TEST_DIR");
    std::string pattern = fmt::format("{}/cached-verify-test-XXXXXX", base == nullptr ? "/tmp" : base);
    directory_ = mkdtemp(pattern.data());
    TreeOptions tree;
    tree.seed = kSeed;
    tree.small_files = 12;
    tree.directories = 3;
    tree.large_files = 1;
    tree.large_bytes = 3'000'001;
    manifest_ = plan_tree(tree);
    EXPECT_TRUE(write_tree(manifest_, directory_ + "/tree", [](uint64_t) {}).ok());
    for (const FileEntry& file : manifest_.files) {
      FileState state;
      state.size = file.size;
      histories_.emplace_back(state);
    }
    reader_.directories = {directory_ + "/tree"};
    reader_.threads = 2;
    reader_.patterns = {Pattern::kWhole, Pattern::kRandom, Pattern::kReopen};
    reader_.passes = 3;
  }
  ~TreeTest() override { std::filesystem::remove_all(directory_); }

  Report read() {
    std::atomic<bool> stop = false;
    return run_readers(reader_, manifest_, histories_, Judge(judge_, manifest_, 0), &stop);
  }

  std::string directory_;
  Manifest manifest_;
  std::vector<FileHistory> histories_;
  ReaderOptions reader_;
  JudgeOptions judge_;
};

TEST_F(TreeTest, a_right_tree_reads_without_error_in_every_mode) {
  for (const Access access : {Access::kBuffered, Access::kDirect, Access::kMapped}) {
    reader_.accesses = {access};
    const Report report = read();
    EXPECT_EQ(report.errors, 0U);
    EXPECT_GT(report.reads, 3 * manifest_.files.size());
  }
}

TEST_F(TreeTest, a_planted_byte_is_found_in_every_mode) {
  const FileEntry& file = manifest_.files.front();
  const UniqueFd fd(::open((directory_ + "/tree/" + file.path).c_str(), O_WRONLY));
  ASSERT_EQ(::pwrite(fd.get(), "?", 1, static_cast<off_t>(file.size / 2)), 1);
  reader_.patterns = {Pattern::kWhole};
  reader_.passes = 1;
  for (const Access access : {Access::kBuffered, Access::kDirect, Access::kMapped}) {
    reader_.accesses = {access};
    EXPECT_EQ(read().errors, 1U);
  }
}

TEST_F(TreeTest, a_missing_and_a_shortened_file_are_found) {
  ASSERT_EQ(::unlink((directory_ + "/tree/" + manifest_.files[0].path).c_str()), 0);
  ASSERT_EQ(::truncate((directory_ + "/tree/" + manifest_.files[1].path).c_str(), 100), 0);
  reader_.patterns = {Pattern::kWhole};
  reader_.passes = 1;
  // The missing file fails once; the short one in its size and in its two reads.
  EXPECT_EQ(read().errors, 4U);
}

TEST_F(TreeTest, the_manifest_survives_saving_and_loading) {
  const std::string file = directory_ + "/manifest";
  ASSERT_TRUE(save_manifest(manifest_, file).ok());
  const Result<Manifest> loaded = load_manifest(file);
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ(loaded->seed, manifest_.seed);
  ASSERT_EQ(loaded->files.size(), manifest_.files.size());
  for (size_t i = 0; i < manifest_.files.size(); i++) {
    EXPECT_EQ(loaded->files[i].path, manifest_.files[i].path);
    EXPECT_EQ(loaded->files[i].id, manifest_.files[i].id);
    EXPECT_EQ(loaded->files[i].size, manifest_.files[i].size);
    EXPECT_EQ(loaded->files[i].version, manifest_.files[i].version);
  }
  std::ofstream(file) << "{\"format\":1,\"seed\":1}\n{\"path\":1}\n";
  EXPECT_EQ(load_manifest(file).error_number(), EINVAL);
}

// The machine's own file system obeys the rules with a staleness of 0, so it must pass: this shows that the
// rules are not too strict, and that the histories are right.
TEST_F(TreeTest, changes_of_every_kind_are_judged_right_on_a_plain_file_system) {
  ChangerOptions options;
  options.source = directory_ + "/tree";
  options.interval_ms = 1;
  options.percent_of_files = 70;
  options.kinds = {ChangeKind::kInPlace, ChangeKind::kRename,  ChangeKind::kTruncate,
                   ChangeKind::kGrow,    ChangeKind::kRewrite, ChangeKind::kRemove};
  judge_.tolerated_errnos = {ENOENT, ESTALE, EFAULT};
  reader_.accesses = {Access::kBuffered, Access::kMapped};
  reader_.seconds = 2;
  reader_.threads = 4;
  std::atomic<bool> stop = false;
  Changer changer(options, manifest_, &histories_, 0, 1);
  std::thread thread([&] { EXPECT_TRUE(changer.run(stop).ok()); });
  const Report report = run_readers(reader_, manifest_, histories_, Judge(judge_, manifest_, 0), &stop);
  thread.join();
  EXPECT_EQ(report.errors, 0U);
  EXPECT_GE(changer.changes().size(), 6U);

  // What the changer left behind is what its history says.
  for (size_t i = 0; i < manifest_.files.size(); i++) {
    manifest_.files[i].version = histories_[i].latest().version;
    manifest_.files[i].size = histories_[i].latest().size;
  }
  reader_.seconds = 0;
  EXPECT_EQ(read().errors, 0U);
}

// A changer that lies about the time of its changes is a file system that serves stale bytes.
TEST_F(TreeTest, a_file_system_that_lags_is_caught) {
  const FileEntry& file = manifest_.files.front();
  FileState next = histories_[0].latest();
  next.version++;
  next.made_by = ChangeKind::kInPlace;
  histories_[0].begin_change(next, 1);
  histories_[0].end_change(2);
  reader_.patterns = {Pattern::kWhole};
  reader_.passes = 1;
  EXPECT_GE(read().errors, 1U) << file.path;
}

}  // namespace
}  // namespace cached::verify
