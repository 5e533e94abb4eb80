// BlockingPool: threads for system calls that io_uring has not (getdents, xattrs, file handles, paths that
// must not leave a root), so that a slow source never blocks a reactor. One pool for each volume: a hanging
// source exhausts its own only.
//
// To shut down: stop the reactors, destroy the pools (results for a stopped reactor are dropped), destroy the
// reactors.
#pragma once

#include <condition_variable>
#include <coroutine>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "cached/io/reactor.h"

namespace cached::io {

class BlockingPool {
 public:
  // Threads are started when work first needs them, up to `threads`, and end with the pool.
  BlockingPool(std::string name, unsigned threads);
  // Waits for running work; work that has not begun is run as well. Nobody may submit any more.
  ~BlockingPool();

  // co_await pool.run(reactor, f): runs f() on a pool thread, goes on on `reactor` with what f returned (not
  // void). A lambda written in the call may capture references and plain values only; one that owns something
  // must have a name (it is then used where it is): g++ 12 destroys such a temporary twice, see task.h.
  template <typename F>
  auto run(Reactor& reactor, F&& work) {
    static_assert(std::is_lvalue_reference_v<F> || std::is_trivially_destructible_v<F>,
                  "give a lambda that owns something a name and pass that: g++ 12 would destroy it twice");
    using R = std::invoke_result_t<F&>;
    struct Awaiter {
      BlockingPool& pool;
      Reactor& reactor;
      F work;  // a reference if it has a name
      std::optional<R> result;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiter) {
        pool.submit([this, waiter] {
          result.emplace(work());
          reactor.post([waiter] { resume(waiter); });
        });
      }
      R await_resume() { return std::move(*result); }
    };
    return Awaiter{*this, reactor, std::forward<F>(work), std::nullopt};
  }

  // Runs `work` on a pool thread sometime, in order of submission. Any thread. Where the machine refuses even
  // the first thread, `work` runs at once in the caller's: slow, but no request hangs.
  void submit(std::function<void()> work);

 private:
  void run_worker();
  bool start_thread();

  const std::string name_;  // of its threads
  const unsigned thread_limit_;
  std::mutex mutex_;  // guards all below
  std::condition_variable available_;
  std::deque<std::function<void()>> queue_;
  std::vector<std::thread> threads_;
  size_t idle_ = 0;  // threads that wait for work
  bool stopping_ = false;
};

}  // namespace cached::io
