// FailureLog: says what failed, once and not a million times.
//
// An origin that is down fails every read, and a damaged object is read again and again. Of those, a reader
// of the log wants to know which object and why, when it began and when it ended. So: the same object and
// reason at most once in kRepeatAfterNs, at most kLinesPerPeriod lines in that time whatever the objects, and
// with the next line how many were left out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>

#include "base/clock.h"

namespace cached::origin {

class FailureLog {
 public:
  static constexpr uint64_t kRepeatAfterNs = 60 * kNanosecondsPerSecond;
  static constexpr size_t kLinesPerPeriod = 10;

  // `subject` begins every line: "rados pool `p`".
  explicit FailureLog(std::string subject, const Clock& clock = system_clock());

  // Logs that `object` failed because of `why`, or counts it. Any thread.
  void report(const std::string& object, const std::string& why);
  // The same for what concerns any object, such as an origin that does not answer: one object is named as an
  // example, and `why` is not logged again because of another.
  void report_outage(const std::string& object, const std::string& why);
  // Logs that the origin answers again, if an outage was reported since the last time. Any thread.
  void report_recovery();

  // Lines written so far. Any thread.
  uint64_t lines() const;

 private:
  struct Line {
    uint64_t when_ns;
    std::string identity;  // what makes another failure the same
  };
  void write_line(const std::string& object, const std::string& why, std::string identity);

  const std::string subject_;
  const Clock& clock_;
  mutable std::mutex mutex_;  // guards all below
  std::deque<Line> recent_;   // lines of the last period, oldest first; kLinesPerPeriod at most
  uint64_t left_out_ = 0;
  uint64_t lines_ = 0;
  bool outage_ = false;
};

}  // namespace cached::origin
