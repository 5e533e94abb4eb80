// cachedctl's tables: alignment, ratios, and answers of daemons that say more or less than expected.
#include "cached/ctl/tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cached::ctl {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

TEST(Tables, ColumnsAreAligned) {
  EXPECT_EQ(format_table({{"NAME", "SIZE"}, {"a", "1 B"}, {"long", "100 B"}}),
            "NAME   SIZE\n"
            "a       1 B\n"
            "long  100 B\n");
}

TEST(Tables, DurationsAndRatios) {
  EXPECT_EQ(format_duration(17), "17s");
  EXPECT_EQ(format_duration(310), "5m 10s");
  EXPECT_EQ(format_duration(7'500), "2h 5m");
  EXPECT_EQ(format_duration(273'600), "3d 4h");
  EXPECT_EQ(format_ratio(1, 3), "33.3 %");
  EXPECT_EQ(format_ratio(0, 0), "-");
}

TEST(Tables, StatusShowsRatiosAndSavedTraffic) {
  const json status = json::parse(R"({
    "daemon": {"pid": 7, "version": "0.1.0", "uptime_s": 61, "shards": 1, "instance": 5,
               "heap_allocated_bytes": 3145728, "heap_mapped_bytes": 4194304},
    "memory": {"capacity_bytes": 1048576, "used_bytes": 524288, "content_bytes": 500000, "entries": 4},
    "names": {"entries": 3, "inodes": 2},
    "origin": {"reads": 2, "read_bytes": 1048576, "errors": 0, "in_flight": 0, "prefetch_bytes": 0},
    "clients": {"reads": 4, "read_bytes": 4194304, "hits": 3, "hit_bytes": 3145728, "misses": 1, "miss_bytes": 1048576,
                "lookups": 10, "lookup_hits": 9, "requests": 2, "wakeups": 1},
    "sessions": 2,
    "volumes": [{"name": "data", "source": "dir:/x", "id": 1, "bytes": 2048, "files": 9, "counted": false, "sessions": 2}]
  })");
  const std::string text = format_status(status);
  EXPECT_THAT(text, HasSubstr("512 KiB of 1.00 MiB (50.0 %)"));
  EXPECT_THAT(text, HasSubstr("3.00 MiB in use, 4.00 MiB mapped"));
  EXPECT_THAT(text, HasSubstr("75.0 % of bytes, 75.0 % of requests"));
  EXPECT_THAT(text, HasSubstr("10, hit ratio 90.0 %"));
  EXPECT_THAT(text, HasSubstr("3.00 MiB (75.0 % of what was read)"));
  EXPECT_THAT(text, HasSubstr("2.00 KiB+"));
  EXPECT_THAT(text, Not(HasSubstr("\n\n\n")));
}

TEST(Tables, VolumeThatWasNotCountedShowsNoNumbers) {
  const json volume = {{"name", "data"}, {"id", 1},          {"bytes", 0},
                       {"files", 0},     {"counted", false}, {"source", "dir:/x"}};
  EXPECT_EQ(format_volumes({{"volumes", {volume}}}),
            "VOLUME  ID  SIZE  FILES  SESSIONS  SOURCE\n"
            "data     1     -      -         0  dir:/x\n");
}

TEST(Tables, MoreReadFromTheOriginThanThroughMountsIsNoSaving) {
  const json status = {{"origin", {{"read_bytes", 2000}}}, {"clients", {{"read_bytes", 1000}}}};
  EXPECT_THAT(format_status(status), HasSubstr("0 B (0.0 % of what was read)"));
}

TEST(Tables, AnswersOfAnyFormAreShown) {
  for (const char* answer : {"null", "{}", "[]", "3", R"({"volumes":3,"sessions":{"a":1}})",
                             R"({"devices":3,"index":[],"admission":{"open":5},"ssd":7})",
                             R"({"devices":[null,{"read_latency_us":4,"write_amplification":"x"}],"ssd":{}})",
                             R"({"daemon":[],"memory":{"used_bytes":-5,"entries":"x"},"sessions":[null]})"}) {
    EXPECT_NE(format_status(json::parse(answer)), "");
    EXPECT_NE(format_sessions(json::parse(answer)), "");
    EXPECT_NE(format_volumes(json::parse(answer)), "");
    EXPECT_NE(format_devices(json::parse(answer)), "");
    EXPECT_NE(format_drain(json::parse(answer)), "");
  }
}

json healthy_device() {
  return json::parse(R"({
    "path": "/dev/a", "state": "healthy", "reason": "", "capacity_bytes": 1073741824, "used_bytes": 536870912,
    "live_bytes": 268435456, "segments": 16, "segments_free": 8, "entries": 2048, "reads": 10, "read_bytes": 1048576,
    "writes": 3, "write_bytes": 2097152, "admitted_bytes": 1900000, "write_amplification": 1.104,
    "read_latency_us": {"p50": 90, "p99": 410, "max": 20000}, "read_errors": 0, "write_errors": 0, "timeouts": 0,
    "short_reads": 0, "mismatches": 0, "recovered_entries": 2000, "recovery_ms": 12})");
}

TEST(Tables, DevicesAreLines) {
  EXPECT_EQ(format_devices({{"devices", {healthy_device()}}}),
            "STATE    CAPACITY    USED    LIVE  ENTRIES  FREE SEGMENTS      READ    P50     P99    MAX   "
            "WRITTEN  W.AMP"
            "  ERRORS  DEVICE\n"
            "healthy  1.00 GiB  50.0 %  50.0 %     2048           8/16  1.00 MiB  90 us  410 us  20 ms  2.00 "
            "MiB   1.10"
            "       0  /dev/a\n");
}

TEST(Tables, DeviceThatIsNotWellSaysWhy) {
  json device = healthy_device();
  device["state"] = "suspect";
  device["reason"] = "3 reads timed out";
  device["timeouts"] = 3;
  device["read_errors"] = 1;
  const std::string text = format_devices({{"devices", {healthy_device(), device}}});
  EXPECT_THAT(
      text, HasSubstr("\n\n/dev/a is suspect: 3 reads timed out; errors: read 1, write 0, time-outs 3, short "
                      "reads 0, mismatches 0\n"));
  EXPECT_THAT(text, Not(HasSubstr("is healthy")));
}

TEST(Tables, IndexAndAdmissionStandBelowTheDevices) {
  json devices = {
      {"devices", {healthy_device()}},
      {"index", {{"entries", 5}, {"memory_bytes", 1024}, {"limit_bytes", 1048576}}},
      {"admission",
       {{"open", false}, {"probability", 0.05}, {"hit_ratio_recent", 0.47}, {"hit_ratio_reference", 0.5}}}};
  std::string text = format_devices(devices);
  EXPECT_THAT(text, HasSubstr("1.00 KiB of 1.00 MiB"));
  EXPECT_THAT(text, HasSubstr("5.0 % are taken"));
  EXPECT_THAT(text, HasSubstr("47.0 % recently, 50.0 % before"));
  devices["admission"]["open"] = true;
  EXPECT_THAT(format_devices(devices), HasSubstr("all are taken"));
}

TEST(Tables, NoDevicesIsASentence) {
  EXPECT_THAT(format_devices({{"devices", json::array()}}), HasSubstr("in memory alone"));
}

TEST(Tables, StatusShowsTheSsdTierIfThereIsOne) {
  EXPECT_THAT(format_status(json::object()), Not(HasSubstr("ssd")));
  const std::string text = format_status({{"ssd",
                                           {{"capacity_bytes", 4096},
                                            {"used_bytes", 1024},
                                            {"devices", 1},
                                            {"hits", 3},
                                            {"hit_bytes", 2048},
                                            {"misses", 1},
                                            {"written_bytes", 512},
                                            {"dropped_offers", 9}}}});
  EXPECT_THAT(text, HasSubstr("1.00 KiB of 4.00 KiB (25.0 %) on 1 device\n"));
  EXPECT_THAT(text, HasSubstr("3 (75.0 % of misses in memory), 2.00 KiB"));
  EXPECT_THAT(text, HasSubstr("512 B, dropped offers 9"));
}

TEST(Tables, DrainSaysWhatComesNext) {
  json device = healthy_device();
  EXPECT_EQ(format_drain(device), "/dev/a is healthy, with 2048 entries\n");
  device["state"] = "draining";
  EXPECT_THAT(format_drain(device), HasSubstr("2048 entries to go; `cachedctl devices`"));
  device["state"] = "drained";
  EXPECT_THAT(format_drain(device), HasSubstr("may be taken out"));
}

TEST(Tables, SessionsAreLines) {
  EXPECT_EQ(format_sessions({{"sessions", json::array()}}), "no sessions: nothing is mounted\n");
  const json session = {
      {"id", 3},   {"pid", 44},   {"uid", 0},     {"volume", "data"}, {"label", "/mnt/a\nb"},
      {"hits", 1}, {"misses", 1}, {"state", "up"}};
  EXPECT_THAT(format_sessions({{"sessions", {session}}}), HasSubstr("/mnt/a\\x0ab\n"));
}

}  // namespace
}  // namespace cached::ctl
