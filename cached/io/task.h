// Coroutines of a reactor: Task<T>, spawn(), and what coroutines of one reactor wait on.
//
// A Task starts when it is awaited and resumes its awaiter when it ends. Neither grows the stack: see
// resume(). Everything here belongs to one thread at a time: a coroutine runs on the reactor that last
// resumed it, and moves to another only by `co_await reactor.hop()` (reactor.h). Nothing throws; an exception
// that escapes is fatal.
//
// An awaiter of your own keeps the handle that it is given and later passes it to resume(), on the thread
// that owns the coroutine. A coroutine that waits for what never comes is never freed: its owner sees to it
// that the wait ends.
#pragma once

#include <coroutine>
#include <cstdlib>
#include <deque>
#include <optional>
#include <type_traits>
#include <utility>

namespace cached::io {

template <typename T = void>
class Task;

namespace internal {

// Who runs next on this thread. Symmetric transfer alone would do in an optimized build; in debug and
// sanitizer builds g++ makes no tail call of it, and a loop that awaits tasks which end at once would
// overflow the stack.
struct Trampoline {
  bool running = false;
  std::coroutine_handle<> next;
};
inline thread_local constinit Trampoline trampoline;

// What await_suspend returns to go on in `to`: leaves it to the loop in resume(). Without such a loop below,
// or with its place taken (both only if somebody called handle.resume() instead of resume()), `to` runs on
// top of the stack.
inline std::coroutine_handle<> transfer(std::coroutine_handle<> to) noexcept {
  Trampoline& here = trampoline;
  if (!here.running || here.next) return to;
  here.next = to;
  return std::noop_coroutine();
}

}  // namespace internal

// Runs the suspended coroutine `waiter`, and the tasks that it starts and ends, until all of them wait for
// something else. The one way to resume a coroutine; may be called from within another.
inline void resume(std::coroutine_handle<> waiter) {
  internal::Trampoline& here = internal::trampoline;
  const bool nested = std::exchange(here.running, true);
  waiter.resume();
  while (here.next) std::exchange(here.next, {}).resume();
  here.running = nested;
}

namespace internal {

struct FinalAwaiter {
  bool await_ready() const noexcept { return false; }
  template <typename Promise>
  std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> ended) const noexcept {
    return transfer(ended.promise().continuation);
  }
  void await_resume() const noexcept {}
};

struct PromiseBase {
  std::coroutine_handle<> continuation;
  std::suspend_always initial_suspend() const noexcept { return {}; }
  FinalAwaiter final_suspend() const noexcept { return {}; }
  [[noreturn]] void unhandled_exception() const noexcept { std::abort(); }
};

template <typename T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object();
  template <typename U = T>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object();
  void return_void() const noexcept {}
};

}  // namespace internal

template <typename T>
class [[nodiscard]] Task {
 public:
  using promise_type = internal::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;
  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiter) noexcept {
    handle_.promise().continuation = awaiter;
    return internal::transfer(handle_);
  }
  T await_resume() {
    if constexpr (!std::is_void_v<T>) return std::move(*handle_.promise().value);
  }

 private:
  Handle handle_;
};

namespace internal {
template <typename T>
Task<T> Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

// A coroutine that owns itself and frees itself at its end.
struct Detached {
  struct promise_type {
    Detached get_return_object() noexcept {
      return {std::coroutine_handle<promise_type>::from_promise(*this)};
    }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    [[noreturn]] void unhandled_exception() const noexcept { std::abort(); }
  };
  std::coroutine_handle<> handle;
};
inline Detached run_detached(Task<void> task) {
  co_await std::move(task);
}
}  // namespace internal

// Starts `task` now; it runs on without anybody waiting for it.
inline void spawn(Task<void> task) {
  resume(internal::run_detached(std::move(task)).handle);
}

// A gate that opens once; all who wait are resumed, in order, within set(). One thread.
class Event {
 public:
  bool is_set() const { return set_; }
  // Opens the gate. Waiters run inside this call: touch nothing afterwards that they may have destroyed.
  void set() {
    set_ = true;
    std::deque<std::coroutine_handle<>> waiters = std::move(waiters_);
    for (const std::coroutine_handle<> waiter : waiters) resume(waiter);
  }
  auto operator co_await() {
    struct Awaiter {
      Event& event;
      bool await_ready() const noexcept { return event.set_; }
      void await_suspend(std::coroutine_handle<> waiter) { event.waiters_.push_back(waiter); }
      void await_resume() const noexcept {}
    };
    return Awaiter{*this};
  }

 private:
  bool set_ = false;
  std::deque<std::coroutine_handle<>> waiters_;
};

}  // namespace cached::io
