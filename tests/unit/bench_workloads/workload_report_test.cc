// Tests of what a workload prints.
#include "bench/workload_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace cached::bench {
namespace {

PassReport pass() {
  PassReport pass{.name = "epoch 1",
                  .unit = "files",
                  .ios = 200,
                  .bytes = 4'000'000,
                  .runtime_ns = 2'000'000'000,
                  .latency_ns = {},
                  .cache = std::nullopt};
  for (int i = 0; i < 200; ++i) pass.latency_ns.record(10'000);
  return pass;
}

TEST(WorkloadReportTest, JsonHasTheKeysThatParsersOfFioRead) {
  const nlohmann::json report = nlohmann::json::parse(json_workload_report("epochs", {pass()}));
  EXPECT_EQ(report["workload"], "epochs");
  const nlohmann::json& job = report["jobs"][0];
  EXPECT_EQ(job["jobname"], "epoch 1");
  EXPECT_EQ(job["read"]["total_ios"], 200);
  EXPECT_EQ(job["read"]["bw_bytes"], 2'000'000);
  EXPECT_DOUBLE_EQ(job["read"]["iops"], 100);
  EXPECT_EQ(job["read"]["clat_ns"]["N"], 200);
  EXPECT_TRUE(job["read"]["clat_ns"]["percentile"].contains("50.000000"));
  EXPECT_FALSE(job.contains("cache")) << "nobody asked the daemon";
}

TEST(WorkloadReportTest, TextSaysTimeRateAndHitRatio) {
  PassReport counted = pass();
  counted.cache =
      CacheUse{.hit_ratio = 0.75, .memory_hit_ratio = 0.5, .asked_bytes = 4 << 20, .origin_bytes = 1 << 20};
  const std::string text = normal_workload_report({counted});
  EXPECT_NE(text.find("epoch 1: 200 files in 2.000 s: 100 files/s, 2.0 MB/s\n"), std::string::npos) << text;
  EXPECT_NE(text.find("hit ratio 0.750 (in memory 0.500) of 4.00 MiB asked for, 1.00 MiB from the origin"),
            std::string::npos)
      << text;
}

TEST(WorkloadReportTest, NoBandwidthWhereNoBytesAreCounted) {
  PassReport uncounted = pass();
  uncounted.bytes = 0;
  EXPECT_EQ(normal_workload_report({uncounted}).find("MB/s"), std::string::npos);
}

}  // namespace
}  // namespace cached::bench
