// Reports: numbers and lines as fio prints them, JSON with fio's keys.
#include "bench/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "bench/report_numbers.h"

namespace cached::bench {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(FioNumberTest, HasFourDigitsAndAPrefix) {
  EXPECT_EQ(fio_number(64000, 4, false, ""), "64.0k");
  EXPECT_EQ(fio_number(1257, 4, false, ""), "1257");
  EXPECT_EQ(fio_number(128000, 4, false, ""), "128k");
  EXPECT_EQ(fio_bytes(16384), "16.0KiB");
  EXPECT_EQ(fio_bytes(4096), "4096B");
  EXPECT_EQ(fio_bytes(4 << 20), "4096KiB");
  EXPECT_EQ(fio_number(1048576000, 4, true, "B/s"), "1000MiB/s");
  EXPECT_EQ(fio_number(1048576000, 4, false, "B/s"), "1049MB/s");
  EXPECT_EQ(fio_number(0, 4, false, ""), "0");
}

class ReportTest : public ::testing::Test {
 protected:
  ReportTest() {
    options_.name = "job";
    options_.given = {{"bs", "4k"}, {"direct", ""}};
    report_.name = "job";
    report_.options = &options_;
    DirectionStats& reads = report_.stats.direction[kRead];
    reads.begun_at_ns = 1'000'000'000;
    reads.ended_at_ns = 2'000'000'000;
    for (uint64_t i = 0; i < 1000; ++i) {
      reads.completion.record(100'000 + i * 1000);
      ++report_.stats.latency_classes[latency_class(100'000 + i * 1000)];
      ++report_.stats.depths[0];
      ++reads.ios;
      reads.bytes += 4096;
    }
  }
  BenchOptions options_;
  JobReport report_;
};

TEST_F(ReportTest, NormalHasFiosLines) {
  const std::string text = normal_report({report_});
  EXPECT_THAT(text, HasSubstr("job: (groupid=0, jobs=1): err= 0: pid="));
  EXPECT_THAT(text, HasSubstr("  read: IOPS=1000, BW=4000KiB/s (4096kB/s)(4000KiB/1000msec)\n"));
  EXPECT_THAT(text, HasSubstr("    clat (usec): min=100, max=1099, avg=599.50, stdev=288.82\n"));
  EXPECT_THAT(text, HasSubstr("    clat percentiles (usec):\n     |  1.00th=[  "));
  EXPECT_THAT(text,
              HasSubstr("  IO depths    : 1=100.0%, 2=0.0%, 4=0.0%, 8=0.0%, 16=0.0%, 32=0.0%, >=64=0.0%\n"));
  EXPECT_THAT(text, HasSubstr("     issued rwts: total=1000,0,0,0 short=0,0,0,0 dropped=0,0,0,0\n"));
  EXPECT_THAT(text, HasSubstr("   READ: bw=4000KiB/s (4096kB/s), 4000KiB/s-4000KiB/s (4096kB/s-4096kB/s), "
                              "io=4000KiB (4096kB), run=1000-1000msec\n"));
}

TEST_F(ReportTest, JsonHasFiosKeys) {
  const nlohmann::json json = nlohmann::json::parse(json_report({{"size", "1m"}}, {report_}));
  EXPECT_EQ(json["global options"]["size"], "1m");
  const nlohmann::json& job = json["jobs"][0];
  EXPECT_EQ(job["jobname"], "job");
  EXPECT_EQ(job["job options"]["bs"], "4k");
  EXPECT_FALSE(job["job options"].contains("direct"));
  EXPECT_EQ(job["read"]["total_ios"], 1000);
  EXPECT_EQ(job["read"]["runtime"], 1000);
  EXPECT_EQ(job["read"]["bw_bytes"], 4096000);
  EXPECT_NEAR(job["read"]["clat_ns"]["percentile"]["50.000000"].get<double>(), 600'000, 10'000);
  EXPECT_EQ(job["read"]["lat_ns"]["N"], 1000);
  EXPECT_EQ(job["read"]["slat_ns"]["N"], 0);
  EXPECT_EQ(job["write"]["total_ios"], 0);
  EXPECT_FALSE(job["write"]["clat_ns"].contains("percentile"));
  EXPECT_EQ(job["trim"]["total_ios"], 0);
}

TEST_F(ReportTest, PercentilesAreOfWhatTheJobAsksFor) {
  options_.completion_percentiles = false;
  options_.total_percentiles = true;
  EXPECT_THAT(normal_report({report_}), HasSubstr("    lat percentiles (usec):"));
  EXPECT_THAT(normal_report({report_}), Not(HasSubstr("clat percentiles")));
  const nlohmann::json read = nlohmann::json::parse(json_report({}, {report_}))["jobs"][0]["read"];
  EXPECT_TRUE(read["lat_ns"].contains("percentile"));
  EXPECT_FALSE(read["clat_ns"].contains("percentile"));
}

TEST_F(ReportTest, AnErrorStandsInBoth) {
  report_.error = Status(EILSEQ, "verify: bad magic");
  EXPECT_THAT(normal_report({report_}), HasSubstr("err=84 (verify: bad magic): pid="));
  EXPECT_EQ(nlohmann::json::parse(json_report({}, {report_}))["jobs"][0]["error"], EILSEQ);
}

TEST_F(ReportTest, TheHeadingNamesEachJob) {
  BenchOptions second = options_;
  second.name = "more";
  second.jobs = 3;
  second.after_previous = true;
  const std::string text = normal_heading({options_, second});
  EXPECT_THAT(text, HasSubstr("job: (g=0): rw=read, bs=(R) 4096B-4096B, (W) 4096B-4096B, (T) 4096B-4096B, "
                              "ioengine=posix, iodepth=1\n"));
  EXPECT_THAT(text, HasSubstr("more: (g=1): "));
  EXPECT_THAT(text, HasSubstr("iodepth=1\n...\ncached-bench-"));
  EXPECT_THAT(text, HasSubstr("\nStarting 4 threads\n"));
}

}  // namespace
}  // namespace cached::bench
