// Status: see status.h.
#include "base/status.h"

#include <cstring>

namespace cached {

Status::Status(int error_number, std::string message)
    : state_(std::make_unique<State>(State{error_number, std::move(message)})) {}

Status::Status(const Status& other) : state_(other.ok() ? nullptr : std::make_unique<State>(*other.state_)) {}

Status& Status::operator=(const Status& other) {
  if (this != &other) state_ = other.ok() ? nullptr : std::make_unique<State>(*other.state_);
  return *this;
}

Status Status::from_errno(std::string message) {
  return from_errno(errno, std::move(message));
}

Status Status::from_errno(int error_number, std::string message) {
  char buffer[128];
  message += ": ";
  message += strerror_r(error_number, buffer, sizeof buffer);
  return Status(error_number, std::move(message));
}

const std::string& Status::message() const {
  static const std::string kEmpty;
  return ok() ? kEmpty : state_->message;
}

Status Status::with_context(const std::string& prefix) const {
  return ok() ? Status() : Status(state_->error_number, prefix + ": " + state_->message);
}

}  // namespace cached
