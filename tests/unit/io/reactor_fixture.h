// What the tests of the reactor share: a running reactor, a way to run a task on it and wait, files and
// pipes.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/unique_fd.h"
#include "cached/io/reactor.h"
#include "cached/io/task.h"

namespace cached::io {

inline std::unique_ptr<Reactor> make_reactor(Reactor::Options options) {
  Result<std::unique_ptr<Reactor>> made = Reactor::create(options);
  if (!made.ok()) {
    ADD_FAILURE() << made.status().message();
    std::abort();
  }
  return std::move(made).value();
}

// `make` is kept until its task has ended: a coroutine lambda refers to its captures.
template <typename T, typename Make>
Task<void> deliver(std::shared_ptr<Make> make, std::shared_ptr<std::promise<T>> done) {
  if constexpr (std::is_void_v<T>) {
    co_await (*make)();
    done->set_value();
  } else {
    done->set_value(co_await (*make)());
  }
}

// Starts the task that `make` returns on `reactor`'s thread.
template <typename Make>
auto start_on(Reactor& reactor, Make make) {
  using T = decltype(make().await_resume());
  auto done = std::make_shared<std::promise<T>>();
  auto kept = std::make_shared<Make>(std::move(make));
  std::future<T> future = done->get_future();
  reactor.post([kept, done] { spawn(deliver<T>(kept, done)); });
  return future;
}

// The same, and waits for its result.
template <typename Make>
auto run_on(Reactor& reactor, Make make) {
  return start_on(reactor, std::move(make)).get();
}

// Waits until all that was posted before has run.
inline void settle(Reactor& reactor) {
  auto reached = std::make_shared<std::promise<void>>();
  std::future<void> future = reached->get_future();
  reactor.post([reached] { reached->set_value(); });
  future.get();
}

inline UniqueFd file_with(std::string_view content) {
  std::string path = "/tmp/cached-io-test-XXXXXX";
  UniqueFd file(::mkstemp(path.data()));
  ::unlink(path.c_str());
  EXPECT_EQ(::write(file.get(), content.data(), content.size()), static_cast<ssize_t>(content.size()));
  return file;
}

struct Pipe {
  UniqueFd reader;
  UniqueFd writer;
};

inline Pipe make_pipe() {
  int fds[2] = {-1, -1};
  EXPECT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

inline Task<int> read_some(Reactor& reactor, int fd, char* buffer, unsigned length, uint64_t offset) {
  co_return co_await reactor.read(fd, buffer, length, offset);
}

// Tests run on a ring with all that this kernel offers (false) and on a plain one (true).
class ReactorTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    reactor_ = make_reactor(options());
    reactor_->start();
  }
  Reactor::Options options() const { return Reactor::Options{.name = "test", .plain_ring = GetParam()}; }
  Reactor& reactor() { return *reactor_; }

 private:
  std::unique_ptr<Reactor> reactor_;
};

inline std::string ring_name(const testing::TestParamInfo<bool>& plain) {
  return plain.param ? "Plain" : "Full";
}

}  // namespace cached::io
