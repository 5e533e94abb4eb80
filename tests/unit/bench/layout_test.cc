// Laying out: names of files, what is missing is written, what is there stays.
#include "bench/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace cached::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class LayoutTest : public ::testing::Test {
 protected:
  LayoutTest() : directory_(new_directory()) {}
  ~LayoutTest() override { std::filesystem::remove_all(directory_); }
  // One of each test's own: ctest runs them side by side.
  static std::string new_directory() {
    std::string path = ::testing::TempDir() + "cached-bench-layout-XXXXXX";
    EXPECT_NE(::mkdtemp(path.data()), nullptr);
    return path;
  }
  std::string path(const std::string& name) const { return directory_ / name; }
  Result<LayoutResult> lay_out_file(const std::string& name, uint64_t bytes) {
    return lay_out(options_, {{path(name), bytes}});
  }
  const std::filesystem::path directory_;
  BenchOptions options_;
};

TEST_F(LayoutTest, NamesAreFios) {
  options_.name = "job";
  options_.files = 2;
  options_.directory = "d";
  EXPECT_THAT(paths_of(options_, 3), ElementsAre("d/job.3.0", "d/job.3.1"));
  options_.filenames = {"x", "y"};
  EXPECT_THAT(paths_of(options_, 3), ElementsAre("d/x", "d/y"));
}

TEST_F(LayoutTest, SizeIsSharedOutAndFilesizeIsNot) {
  options_.size_bytes = 1000;
  EXPECT_EQ(needed_bytes(options_, 4), 250U);
  options_.offset_bytes = 50;
  EXPECT_EQ(needed_bytes(options_, 4), 300U);
  options_.file_bytes = 700;
  EXPECT_EQ(needed_bytes(options_, 4), 750U);
  EXPECT_EQ(needed_bytes(BenchOptions(), 4), 0U);
}

TEST_F(LayoutTest, AMissingFileIsWrittenForReads) {
  Result<LayoutResult> result = lay_out_file("new", 3'000'000);
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ(result->files, 1U);
  EXPECT_EQ(std::filesystem::file_size(path("new")), 3'000'000U);
  EXPECT_EQ(lay_out_file("new", 2'000'000)->files, 0U);
}

TEST_F(LayoutTest, AShortFileKeepsItsBytes) {
  std::ofstream(path("short")) << "precious";
  ASSERT_TRUE(lay_out_file("short", 4096).ok());
  std::ifstream file(path("short"));
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  EXPECT_EQ(text.size(), 4096U);
  EXPECT_EQ(text.substr(0, 8), "precious");
}

TEST_F(LayoutTest, AJobThatWritesGetsItsSpace) {
  options_.load = *parse_load_kind("write");
  EXPECT_EQ(lay_out_file("new", 65536)->files, 1U);
  EXPECT_EQ(std::filesystem::file_size(path("new")), 65536U);
  EXPECT_THAT(lay_out_file("other", 0).status().message(), HasSubstr("size or filesize must say"));
}

TEST_F(LayoutTest, VerificationOfAMissingFileIsAnError) {
  options_.verify = VerifyKind::kCrc32c;
  EXPECT_THAT(lay_out_file("none", 4096).status().message(), HasSubstr("there is nothing to verify"));
  EXPECT_FALSE(std::filesystem::exists(path("none")));
}

TEST_F(LayoutTest, WhatIsNoFileIsRefused) {
  EXPECT_THAT(lay_out(options_, {{"/dev/null", 4096}}).status().message(),
              HasSubstr("/dev/null is not a file"));
  EXPECT_THAT(lay_out_file("no/such/directory", 4096).status().message(), HasSubstr("cannot lay out"));
}

}  // namespace
}  // namespace cached::bench
