// Limiting the log of failures: see failure_log.h.
#include "cached/origin/failure_log.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace cached::origin {

FailureLog::FailureLog(std::string subject, const Clock& clock)
    : subject_(std::move(subject)), clock_(clock) {}

void FailureLog::report(const std::string& object, const std::string& why) {
  const std::lock_guard lock(mutex_);
  write_line(object, why, object + '\0' + why);
}

void FailureLog::report_outage(const std::string& object, const std::string& why) {
  const std::lock_guard lock(mutex_);
  outage_ = true;
  write_line(object, why, why);
}

void FailureLog::write_line(const std::string& object, const std::string& why, std::string identity) {
  const uint64_t now_ns = clock_.monotonic_ns();
  while (!recent_.empty() && now_ns - recent_.front().when_ns >= kRepeatAfterNs) recent_.pop_front();
  const bool known = std::any_of(recent_.begin(), recent_.end(),
                                 [&](const Line& line) { return line.identity == identity; });
  if (known || recent_.size() >= kLinesPerPeriod) {
    ++left_out_;
    return;
  }
  if (left_out_ == 0) {
    log_error("{}: object `{}`: {}", subject_, printable(object), why);
  } else {
    log_error("{}: object `{}`: {} ({} failures before it are not in this log)", subject_, printable(object),
              why, std::exchange(left_out_, 0));
  }
  ++lines_;
  recent_.push_back(Line{now_ns, std::move(identity)});
}

void FailureLog::report_recovery() {
  const std::lock_guard lock(mutex_);
  if (!std::exchange(outage_, false)) return;
  log_info("{}: answers again ({} failures are not in this log)", subject_, std::exchange(left_out_, 0));
  ++lines_;
}

uint64_t FailureLog::lines() const {
  const std::lock_guard lock(mutex_);
  return lines_;
}

}  // namespace cached::origin
