// Errors as values: Status (an errno and a sentence) and Result<T> (a value or a Status).
//
// A Status that is ok costs one null pointer. An error carries an errno, which is what the other side of FUSE
// or of a ring will see, and a message that says what failed, where, why, and what to do about it.
#pragma once

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <variant>

namespace cached {

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  // An error. `error_number` is a positive errno; `message` is a whole phrase without the errno's text.
  Status(int error_number, std::string message);
  Status(const Status& other);
  Status& operator=(const Status& other);
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;

  // An error with the current errno; its text is appended to `message`. Call it before anything that may set
  // errno.
  static Status from_errno(std::string message);
  // An error with a given errno (positive), whose text is appended to `message`.
  static Status from_errno(int error_number, std::string message);

  bool ok() const { return state_ == nullptr; }
  // The errno, positive; 0 when ok.
  int error_number() const { return ok() ? 0 : state_->error_number; }
  // The message; empty when ok.
  const std::string& message() const;
  // A copy of this error with `prefix: ` in front of its message; ok stays ok.
  Status with_context(const std::string& prefix) const;

 private:
  struct State {
    int error_number;
    std::string message;
  };
  std::unique_ptr<State> state_;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value)
      : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Status status)
      : state_(std::in_place_index<1>, std::move(status)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return state_.index() == 0; }
  // The value; only when ok().
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  // The error; an ok Status when ok().
  Status status() const { return ok() ? Status() : std::get<1>(state_); }
  int error_number() const { return ok() ? 0 : std::get<1>(state_).error_number(); }

 private:
  std::variant<T, Status> state_;
};

}  // namespace cached

// Returns the error of `expression` (a Status) from the enclosing function.
#define CACHED_RETURN_IF_ERROR(expression)                                      \
  do {                                                                          \
    if (::cached::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)
