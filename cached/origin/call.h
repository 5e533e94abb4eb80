// Call<T>: an operation at an object store that was described and not begun yet. Its caller chooses how to
// wait.
//
//   co_await store.stat(name).on(reactor)       a coroutine of the daemon: suspends, goes on on `reactor`
//   store.stat(name).wait()                     a tool's thread: blocks
//   store.stat(name).start(done)                a callback, on one of the store's threads
//   window.start(store.write_full(...), done)   many at once, with a bound (CallWindow)
//
// So a store implements each operation once, with a callback, and all four work. Begin a Call at most once.
// Buffers that it fills must live until it ended, whichever way it is waited for; the store itself must not
// be destroyed before, but may be closed (object_store.h).
//
// In a coroutine give lists of buffers a name first: g++ 12 rejects nested braces within a co_await
// expression ("array used as initializer").
#pragma once

#include <condition_variable>
#include <coroutine>
#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/status.h"
#include "cached/io/reactor.h"
#include "cached/io/task.h"

namespace cached::origin {

// What an operation that yields a T ends with: Status for void, Result<T> otherwise.
template <typename T>
struct CallEnd {
  using Type = Result<T>;
};
template <>
struct CallEnd<void> {
  using Type = Status;
};
template <typename T>
using CallResult = typename CallEnd<T>::Type;

// Called exactly once, on any thread, possibly before start() returns. It must neither block nor throw.
template <typename T>
using Done = std::function<void(CallResult<T>)>;

template <typename T>
class [[nodiscard]] Call {
 public:
  using Begin = std::function<void(Done<T>)>;
  using Land = std::function<CallResult<T>(CallResult<T>)>;
  // `begin` begins the operation and sees to it that the Done that it is given is called once. `land`, if
  // given, turns what Done got into what the caller gets, in the thread that waits. It is for copying bytes
  // out of a store's buffer into the caller's: the copy is cheaper where the bytes are used, and a store's
  // threads do not stall on it.
  explicit Call(Begin begin, Land land = nullptr) : begin_(std::move(begin)), land_(std::move(land)) {}
  // An operation that has ended already.
  static Call ended(CallResult<T> result) {
    return Call([result = std::move(result)](const Done<T>& done) { done(result); });
  }

  void start(Done<T> done) && {
    const Begin begin = std::exchange(begin_, nullptr);
    if (!land_) return begin(std::move(done));
    begin([done = std::move(done), land = std::move(land_)](CallResult<T> result) {
      done(land(std::move(result)));
    });
  }

  // Blocks the calling thread; never a reactor's.
  CallResult<T> wait() && {
    std::promise<CallResult<T>> ended;
    std::exchange(begin_, nullptr)([&ended](CallResult<T> result) { ended.set_value(std::move(result)); });
    CallResult<T> result = ended.get_future().get();
    return land_ ? land_(std::move(result)) : result;
  }

  // Suspends the coroutine until the operation ended and goes on on `reactor`, the caller's own. If the
  // reactor is stopped first, the coroutine stays suspended for ever, as with everything that a reactor
  // serves.
  io::Task<CallResult<T>> on(io::Reactor& reactor) && { return run(std::move(*this), reactor); }

 private:
  struct Awaiter {
    Begin* begin;
    io::Reactor* reactor;
    std::optional<CallResult<T>>* result;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
      // Once the operation has begun it may end, and the coroutine's frame with it, while this function runs.
      const Begin own = std::exchange(*begin, nullptr);
      own([to = reactor, place = result, waiter](CallResult<T> ended) {
        place->emplace(std::move(ended));
        to->post([waiter] { io::resume(waiter); });
      });
    }
    void await_resume() const noexcept {}
  };
  static io::Task<CallResult<T>> run(Call call, io::Reactor& reactor) {
    std::optional<CallResult<T>> result;
    co_await Awaiter{&call.begin_, &reactor, &result};
    if (!call.land_) co_return std::move(*result);
    co_return call.land_(std::move(*result));
  }

  Begin begin_;
  Land land_;
};

// Calls in flight at once, bounded, for tools that keep a store busy from one thread or several.
class CallWindow {
 public:
  explicit CallWindow(unsigned limit) : free_(limit), limit_(limit) {}
  ~CallWindow() { drain(); }
  CallWindow(const CallWindow&) = delete;
  CallWindow& operator=(const CallWindow&) = delete;

  // Waits until fewer than `limit` calls are in flight and begins `call`. `done` is called as Done says.
  template <typename T>
  void start(Call<T> call, Done<T> done) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return free_ > 0; });
      --free_;
    }
    std::move(call).start([this, done = std::move(done)](CallResult<T> result) {
      done(std::move(result));
      const std::lock_guard lock(mutex_);
      ++free_;
      changed_.notify_all();  // under the lock: drain() may lead to the end of this object
    });
  }

  // Waits until nothing is in flight.
  void drain() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return free_ == limit_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  unsigned free_;
  const unsigned limit_;
};

}  // namespace cached::origin
