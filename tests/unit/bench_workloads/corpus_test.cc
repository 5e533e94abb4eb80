// Tests of the corpora: sizes, names, and that a corpus is there whole or not at all.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "bench/workload_corpus.h"

namespace cached::bench {
namespace {

double mean_bytes(const std::vector<CorpusFile>& files) {
  double sum = 0;
  for (const CorpusFile& file : files) sum += static_cast<double>(file.size_bytes);
  return sum / static_cast<double>(files.size());
}

TEST(CorpusTest, SizesLieAroundWhatTheKindHas) {
  const std::vector<CorpusFile> speech = plan_corpus(CorpusKind::kSpeech, 10'000, 1);
  EXPECT_NEAR(mean_bytes(speech), 64 * 1024, 1024);
  const std::vector<CorpusFile> python = plan_corpus(CorpusKind::kPython, 10'000, 1);
  EXPECT_NEAR(mean_bytes(python), 4096, 200);
}

TEST(CorpusTest, PathsAreDistinctAndTheSeedDecides) {
  const std::vector<CorpusFile> files = plan_corpus(CorpusKind::kPython, 5'000, 1);
  std::set<std::string> paths;
  for (const CorpusFile& file : files) paths.insert(file.path);
  EXPECT_EQ(paths.size(), files.size());
  const std::vector<CorpusFile> again = plan_corpus(CorpusKind::kPython, 5'000, 1);
  const std::vector<CorpusFile> other = plan_corpus(CorpusKind::kPython, 5'000, 2);
  EXPECT_EQ(files.back().size_bytes, again.back().size_bytes);
  EXPECT_NE(mean_bytes(files), mean_bytes(other));
}

class CorpusWritingTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = testing::TempDir() + "corpus-XXXXXX";
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    top_ = path;
  }
  void TearDown() override { std::filesystem::remove_all(top_); }

  std::filesystem::path top_;
};

TEST_F(CorpusWritingTest, WritesWhatWasPlannedOverWhatAnInterruptedRunLeft) {
  const std::vector<CorpusFile> files = plan_corpus(CorpusKind::kSpeech, 150, 3);
  std::filesystem::create_directories(top_ / "tree.partial/leftover");
  ASSERT_TRUE(write_corpus(top_ / "tree", files, 3).ok());
  for (const CorpusFile& file : files) {
    EXPECT_EQ(std::filesystem::file_size(top_ / "tree" / file.path), file.size_bytes);
  }
  EXPECT_FALSE(std::filesystem::exists(top_ / "tree.partial"));
  EXPECT_FALSE(std::filesystem::exists(top_ / "tree/leftover"));
}

TEST_F(CorpusWritingTest, LeavesAloneWhatIsThere) {
  std::filesystem::create_directories(top_ / "tree");
  const Status status = write_corpus(top_ / "tree", plan_corpus(CorpusKind::kSpeech, 1, 1), 1);
  EXPECT_EQ(status.error_number(), EEXIST);
  EXPECT_TRUE(std::filesystem::is_empty(top_ / "tree"));
}

}  // namespace
}  // namespace cached::bench
