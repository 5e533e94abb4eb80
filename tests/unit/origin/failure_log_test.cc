// Tests of FailureLog: what is said, how often.
#include "cached/origin/failure_log.h"

#include <gtest/gtest.h>

#include "tests/unit/origin/captured_log.h"

namespace cached::origin {
namespace {

class FailureLogTest : public testing::Test {
 protected:
  CapturedLog log_;
  ManualClock clock_;
  FailureLog failures_{"the origin", clock_};
};

TEST_F(FailureLogTest, NamesSubjectObjectAndReason) {
  failures_.report("o\n1", "it is missing");
  EXPECT_EQ(log_.lines(), std::vector<std::string>{"the origin: object `o\\x0a1`: it is missing"});
}

TEST_F(FailureLogTest, SameFailureIsLoggedOnceAMinute) {
  for (int i = 0; i < 1000; ++i) failures_.report("o", "it is missing");
  EXPECT_EQ(failures_.lines(), 1U);
  clock_.advance_ns(FailureLog::kRepeatAfterNs);
  failures_.report("o", "it is missing");
  EXPECT_EQ(failures_.lines(), 2U);
  EXPECT_EQ(log_.count("999 failures before it are not in this log"), 1U);
}

TEST_F(FailureLogTest, OtherObjectsAreLoggedUpToTheLimit) {
  for (int i = 0; i < 1000; ++i) failures_.report("o" + std::to_string(i), "it is missing");
  EXPECT_EQ(failures_.lines(), FailureLog::kLinesPerPeriod);
}

TEST_F(FailureLogTest, OutageIsLoggedForOneObjectOnly) {
  for (int i = 0; i < 1000; ++i) failures_.report_outage("o" + std::to_string(i), "no answer");
  EXPECT_EQ(log_.lines(), std::vector<std::string>{"the origin: object `o0`: no answer"});
}

TEST_F(FailureLogTest, RecoveryIsLoggedOnceAndOnlyAfterAnOutage) {
  failures_.report("o", "it is missing");
  failures_.report_recovery();
  EXPECT_EQ(log_.count("answers again"), 0U);
  failures_.report_outage("o", "no answer");
  failures_.report_outage("p", "no answer");
  failures_.report_recovery();
  failures_.report_recovery();
  EXPECT_EQ(log_.count("answers again (1 failures are not in this log)"), 1U);
}

}  // namespace
}  // namespace cached::origin
