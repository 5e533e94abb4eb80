// The command line: one job without --name, several with it, options of the program, errors that name the
// option.
#include "bench/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cached::bench {
namespace {

using ::testing::SizeIs;
using ::testing::StartsWith;

Result<CommandLine> parse(const std::vector<std::string>& arguments) {
  return parse_command_line(arguments);
}

std::string error_of(const std::vector<std::string>& arguments) {
  return parse(arguments).status().message();
}

TEST(CommandLineTest, OptionsAloneAreOneJob) {
  Result<CommandLine> line = parse({"--rw=randread", "--bs", "8k", "--direct", "--filename=f"});
  ASSERT_TRUE(line.ok()) << line.status().message();
  ASSERT_THAT(line->list.jobs, SizeIs(1));
  EXPECT_EQ(line->list.jobs[0].block_bytes, 8192U);
  EXPECT_TRUE(line->list.jobs[0].direct);
  EXPECT_EQ(line->list.jobs[0].filenames, std::vector<std::string>{"f"});
}

TEST(CommandLineTest, EachNameBeginsAJob) {
  Result<CommandLine> line = parse({"--bs=8k", "--name=a", "--rw=write", "--size=1m", "--name=b", "--bs=4k"});
  ASSERT_TRUE(line.ok()) << line.status().message();
  ASSERT_THAT(line->list.jobs, SizeIs(2));
  EXPECT_EQ(line->list.jobs[0].name, "a");
  EXPECT_EQ(line->list.jobs[0].block_bytes, 8192U);
  EXPECT_TRUE(line->list.jobs[0].load.writes);
  EXPECT_EQ(line->list.jobs[1].block_bytes, 4096U);
  EXPECT_FALSE(line->list.jobs[1].load.writes);
  EXPECT_THAT(line->list.global, SizeIs(1));
}

TEST(CommandLineTest, NameGlobalIsNoJob) {
  Result<CommandLine> line = parse({"--name=global", "--bs=8k", "--name=a"});
  ASSERT_TRUE(line.ok());
  ASSERT_THAT(line->list.jobs, SizeIs(1));
  EXPECT_EQ(line->list.jobs[0].name, "a");
  EXPECT_EQ(line->list.jobs[0].block_bytes, 8192U);
}

TEST(CommandLineTest, FormatsAreNormalOrJsonOrBoth) {
  EXPECT_FALSE(parse({"--filename=f", "--output-format=json"})->program.print_normal);
  EXPECT_TRUE(parse({"--filename=f", "--output-format=normal,json"})->program.print_normal);
  EXPECT_TRUE(parse({"--filename=f", "--output-format=normal,json"})->program.print_json);
  EXPECT_THAT(error_of({"--output-format=terse"}), StartsWith("--output-format: 'terse'"));
}

TEST(CommandLineTest, ErrorsNameTheOption) {
  EXPECT_THAT(error_of({"--bogus=1"}), StartsWith("--bogus: no such option"));
  EXPECT_THAT(error_of({"-x"}), StartsWith("-x: no such option"));
  EXPECT_THAT(error_of({"--bs"}), StartsWith("--bs: needs a value"));
  EXPECT_THAT(error_of({"--iodepth=0"}), StartsWith("--iodepth: '0'"));
  EXPECT_THAT(error_of({"--time_based"}), StartsWith("--time_based: needs runtime"));
  EXPECT_THAT(error_of({"--name=a", "--time_based"}), StartsWith("job a: time_based: needs runtime"));
  EXPECT_THAT(error_of({}), StartsWith("no job"));
}

TEST(CommandLineTest, ReadonlyRefusesJobsThatWrite) {
  EXPECT_THAT(error_of({"--readonly", "--name=a", "--rw=randwrite"}), StartsWith("job a: rw=randwrite"));
  EXPECT_TRUE(parse({"--readonly", "--name=a"}).ok());
}

TEST(CommandLineTest, HelpNeedsNoJob) {
  EXPECT_TRUE(parse({"--help", "--bogus"})->help);
  EXPECT_TRUE(parse({"--version"})->version);
}

}  // namespace
}  // namespace cached::bench
