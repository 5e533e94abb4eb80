// Job files: sections, [global], comments, variables, and errors that name file, line and key.
#include "bench/job_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "bench/run.h"

namespace cached::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;
using ::testing::StartsWith;

Result<JobList> jobs_of(std::string_view text, const BenchOptions& defaults = {}) {
  JobList list;
  CACHED_RETURN_IF_ERROR(parse_job_file(text, "job.fio", defaults, &list));
  return list;
}

std::string error_of(std::string_view text) {
  return jobs_of(text).status().message();
}

TEST(JobFileTest, GlobalHoldsForTheSectionsBehindIt) {
  Result<JobList> list = jobs_of(
      "[first]\nrw=read\n"
      "[global]\nbs=16k\nsize=1m\n"
      "[second]\nrw=randread\n[third]\nbs=8k\n");
  ASSERT_TRUE(list.ok()) << list.status().message();
  ASSERT_THAT(list->jobs, SizeIs(3));
  EXPECT_EQ(list->jobs[0].name, "first");
  EXPECT_EQ(list->jobs[0].block_bytes, 4096U);
  EXPECT_EQ(list->jobs[1].block_bytes, 16384U);
  EXPECT_TRUE(list->jobs[1].load.random);
  EXPECT_EQ(list->jobs[2].block_bytes, 8192U);
  EXPECT_EQ(list->jobs[2].size_bytes, 1U << 20);
}

TEST(JobFileTest, GivenOptionsAreTheSectionsOwn) {
  Result<JobList> list = jobs_of("[global]\nbs=16k\n[a]\nrw=randread\ngroup_reporting\n");
  ASSERT_TRUE(list.ok());
  ASSERT_THAT(list->global, SizeIs(1));
  EXPECT_EQ(list->global[0].name, "bs");
  ASSERT_THAT(list->jobs[0].given, SizeIs(2));
  EXPECT_EQ(list->jobs[0].given[0].value, "randread");
  EXPECT_EQ(list->jobs[0].given[1].value, "");
}

TEST(JobFileTest, CommentsAndBlanksDoNotCount) {
  Result<JobList> list = jobs_of("; one\n# two\n\n  [a]  \r\n\t bs = 8k ; three\n direct # four\n");
  ASSERT_TRUE(list.ok()) << list.status().message();
  EXPECT_EQ(list->jobs[0].block_bytes, 8192U);
  EXPECT_TRUE(list->jobs[0].direct);
}

TEST(JobFileTest, VariablesComeFromTheEnvironment) {
  ASSERT_EQ(::setenv("CACHED_TEST_BLOCK", "64", 1), 0);
  EXPECT_EQ(jobs_of("[a]\nbs=${CACHED_TEST_BLOCK}k\n")->jobs[0].block_bytes, 65536U);
  EXPECT_THAT(error_of("[a]\nbs=${CACHED_TEST_NO_SUCH}\n"),
              StartsWith("job.fio:2: bs: ${CACHED_TEST_NO_SUCH}"));
}

TEST(JobFileTest, StonewallAndNewGroupBeginGroups) {
  Result<JobList> list = jobs_of("[a]\n[b]\n[c]\nstonewall\n[d]\n[e]\nnew_group\n");
  ASSERT_TRUE(list.ok());
  EXPECT_THAT(groups_of(list->jobs), ElementsAre(0, 0, 1, 1, 2));
  EXPECT_TRUE(list->jobs[2].after_previous);
  EXPECT_FALSE(list->jobs[4].after_previous);
}

TEST(JobFileTest, AFirstStonewallIsGroupZero) {
  EXPECT_THAT(groups_of(jobs_of("[a]\nstonewall\n[b]\nstonewall\n")->jobs), ElementsAre(0, 1));
}

TEST(JobFileTest, DefaultsOfTheCommandLineHoldForAll) {
  BenchOptions defaults;
  defaults.block_bytes = 512;
  EXPECT_EQ(jobs_of("[a]\n", defaults)->jobs[0].block_bytes, 512U);
}

TEST(JobFileTest, ErrorsNameFileLineAndKey) {
  EXPECT_THAT(error_of("; x\n[a]\nrw=read\nbogus=3\n"), StartsWith("job.fio:4: bogus: no such option"));
  EXPECT_THAT(error_of("[a]\nbs=4x\n"), StartsWith("job.fio:2: bs: '4x' is not a size"));
  EXPECT_THAT(error_of("[a]\nbs\n"), StartsWith("job.fio:2: bs: needs a value"));
  EXPECT_THAT(error_of("bs=4k\n[a]\n"), StartsWith("job.fio:1: 'bs=4k' stands before any [section]"));
  EXPECT_THAT(error_of("[a\n"), StartsWith("job.fio:1: '[a' is not a [section]"));
  EXPECT_THAT(error_of("[a]\n\n[b]\ntime_based\n"), StartsWith("job.fio:3: [b]: time_based: needs runtime"));
}

TEST(JobFileTest, AFileWithoutAJobIsAnError) {
  EXPECT_THAT(error_of("[global]\nbs=4k\n"), StartsWith("job.fio: no job"));
  EXPECT_THAT(error_of(""), StartsWith("job.fio: no job"));
}

TEST(JobFileTest, AMissingFileIsNamed) {
  JobList list;
  const Status status = read_job_file("/no/such/job.fio", {}, &list);
  EXPECT_EQ(status.error_number(), ENOENT);
  EXPECT_THAT(status.message(), StartsWith("cannot read the job file /no/such/job.fio"));
}

}  // namespace
}  // namespace cached::bench
