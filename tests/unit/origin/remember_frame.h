// For tests of a reactor that stops while a coroutine waits: its frame is never freed (reactor.h says so),
// and must not be taken for a leak.
#pragma once

#include <coroutine>
#include <vector>

namespace cached::io {

// co_await RememberFrame{}: goes on at once; the coroutine, and through it those that wait for it, stays
// reachable.
struct RememberFrame {
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> handle) const {
    static auto* const frames = new std::vector<std::coroutine_handle<>>;
    frames->push_back(handle);
    return false;
  }
  void await_resume() const noexcept {}
};

}  // namespace cached::io
