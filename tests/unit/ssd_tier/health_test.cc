// When a device is trusted, and when not.
#include "cached/ssd_tier/health.h"

#include <gtest/gtest.h>

namespace cached::ssd_tier {
namespace {

constexpr uint64_t kSecond = kNanosecondsPerSecond;

TEST(DeviceHealth, BeginsHealthy) {
  EXPECT_EQ(DeviceHealth().state(), HealthState::kHealthy);
}

TEST(DeviceHealth, OneTimeoutMakesItSuspect) {
  DeviceHealth health;
  EXPECT_TRUE(health.record_fault(Fault::kTimeout, kSecond));
  EXPECT_EQ(health.state(), HealthState::kSuspect);
}

TEST(DeviceHealth, FewErrorsAreTolerated) {
  DeviceHealth health;
  for (unsigned i = 0; i < DeviceHealth::kFaultsTolerated; ++i) {
    EXPECT_FALSE(health.record_fault(Fault::kReadError, kSecond + i));
  }
  EXPECT_EQ(health.state(), HealthState::kHealthy);
}

TEST(DeviceHealth, MoreErrorsWithinTheWindowMakeItSuspect) {
  DeviceHealth health;
  for (unsigned i = 0; i < DeviceHealth::kFaultsTolerated; ++i)
    (void)health.record_fault(Fault::kMismatch, kSecond + i);
  EXPECT_TRUE(health.record_fault(Fault::kShort, 2 * kSecond));
  EXPECT_EQ(health.state(), HealthState::kSuspect);
}

TEST(DeviceHealth, ErrorsFarApartAreForgotten) {
  DeviceHealth health;
  uint64_t now_ns = kSecond;
  for (unsigned i = 0; i < 100; ++i) {
    now_ns += DeviceHealth::kFaultWindowNs / DeviceHealth::kFaultsTolerated + kSecond;
    EXPECT_FALSE(health.record_fault(Fault::kWriteError, now_ns));
  }
  EXPECT_EQ(health.state(), HealthState::kHealthy);
}

TEST(DeviceHealth, ComesBackAfterProbesInARow) {
  DeviceHealth health;
  (void)health.record_fault(Fault::kTimeout, kSecond);
  EXPECT_FALSE(health.record_probe(true));
  EXPECT_FALSE(health.record_probe(true));
  EXPECT_FALSE(health.record_probe(false));  // breaks the row
  for (unsigned i = 1; i < DeviceHealth::kProbesToHealthy; ++i) EXPECT_FALSE(health.record_probe(true));
  EXPECT_TRUE(health.record_probe(true));
  EXPECT_EQ(health.state(), HealthState::kHealthy);
}

TEST(DeviceHealth, GoesOfflineAfterFailedProbesInARow) {
  DeviceHealth health;
  (void)health.record_fault(Fault::kTimeout, kSecond);
  for (unsigned i = 1; i < DeviceHealth::kProbesToOffline; ++i) EXPECT_FALSE(health.record_probe(false));
  EXPECT_TRUE(health.record_probe(false));
  EXPECT_EQ(health.state(), HealthState::kOffline);
}

TEST(DeviceHealth, ComesBackFromOfflineToo) {
  DeviceHealth health;
  (void)health.record_fault(Fault::kTimeout, kSecond);
  for (unsigned i = 0; i < DeviceHealth::kProbesToOffline; ++i) (void)health.record_probe(false);
  for (unsigned i = 0; i < DeviceHealth::kProbesToHealthy; ++i) (void)health.record_probe(true);
  EXPECT_EQ(health.state(), HealthState::kHealthy);
}

TEST(DeviceHealth, ProbesSlowDownWhileTheyFail) {
  DeviceHealth health;
  (void)health.record_fault(Fault::kTimeout, kSecond);
  EXPECT_EQ(health.probe_after_ns(), DeviceHealth::kFirstProbeNs);
  (void)health.record_probe(false);
  EXPECT_EQ(health.probe_after_ns(), 2 * DeviceHealth::kFirstProbeNs);
  for (unsigned i = 0; i < 100; ++i) (void)health.record_probe(false);
  EXPECT_EQ(health.probe_after_ns(), DeviceHealth::kLongestProbeNs);
  (void)health.record_probe(true);
  EXPECT_EQ(health.probe_after_ns(), DeviceHealth::kFirstProbeNs);
}

TEST(DeviceHealth, FaultsBeforeASuspicionDoNotCountAfterIt) {
  DeviceHealth health;
  for (unsigned i = 0; i < DeviceHealth::kFaultsTolerated; ++i)
    (void)health.record_fault(Fault::kReadError, kSecond + i);
  (void)health.record_fault(Fault::kTimeout, kSecond + 100);
  for (unsigned i = 0; i < DeviceHealth::kProbesToHealthy; ++i) (void)health.record_probe(true);
  EXPECT_FALSE(health.record_fault(Fault::kReadError, kSecond + 200));
}

}  // namespace
}  // namespace cached::ssd_tier
