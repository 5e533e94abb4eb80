// How writes give way to reads.
#include "cached/ssd_tier/pacer.h"

#include <gtest/gtest.h>

namespace cached::ssd_tier {
namespace {

constexpr uint64_t kStartNs = 1'000 * kNanosecondsPerSecond;
constexpr uint64_t kMs = kNanosecondsPerMillisecond;
constexpr uint64_t kMegabyte = 1 << 20;

TEST(WritePacer, DoesNotHoldWritesWhileNobodyReads) {
  WritePacer pacer;
  for (uint64_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(pacer.wait_ns(kStartNs + i), 0U);
    pacer.wrote(kMegabyte, kStartNs + i);
  }
}

TEST(WritePacer, HoldsWritesWhileThereAreReads) {
  WritePacer pacer;
  pacer.read_began(4096, kStartNs);
  pacer.wrote(kMegabyte, kStartNs);
  EXPECT_GT(pacer.wait_ns(kStartNs), 0U);
}

TEST(WritePacer, LetsThemGoOnceReadsHaveStopped) {
  WritePacer pacer;
  pacer.read_began(4096, kStartNs);
  pacer.wrote(kMegabyte, kStartNs);
  EXPECT_EQ(pacer.wait_ns(kStartNs + WritePacer::kQuietNs), 0U);
}

// Writes as many megabytes as it is allowed to while `read_bytes` are read each millisecond for ten seconds.
uint64_t written_beside(uint64_t read_bytes_per_ms) {
  WritePacer pacer;
  uint64_t written = 0;
  for (uint64_t ms = 0; ms < 10'000; ++ms) {
    const uint64_t now_ns = kStartNs + ms * kMs;
    pacer.read_began(read_bytes_per_ms, now_ns);
    if (pacer.wait_ns(now_ns) > 0) continue;
    pacer.wrote(kMegabyte, now_ns);
    written += kMegabyte;
  }
  return written;
}

TEST(WritePacer, EarnsAShareOfWhatIsRead) {
  const uint64_t read = kMegabyte * 10'000;  // a gigabyte a second
  const uint64_t written = written_beside(kMegabyte);
  EXPECT_LE(written, read / WritePacer::kEarnedShare + 10 * WritePacer::kGrantedPerSecond + 16 * kMegabyte);
  EXPECT_GE(written, read / WritePacer::kEarnedShare);
}

TEST(WritePacer, GrantsASmallRateBesideSmallReads) {
  const uint64_t written = written_beside(4096);
  EXPECT_GE(written, 10 * WritePacer::kGrantedPerSecond / 2);
  EXPECT_LE(written, 10 * WritePacer::kGrantedPerSecond * 2);
}

TEST(WritePacer, NeverAsksToWaitForLong) {
  WritePacer pacer;
  pacer.read_began(1, kStartNs);
  for (int i = 0; i < 1000; ++i) pacer.wrote(64 * kMegabyte, kStartNs);
  EXPECT_LE(pacer.wait_ns(kStartNs), WritePacer::kQuietNs);
}

}  // namespace
}  // namespace cached::ssd_tier
