// Tests of Call and CallWindow with operations that the tests end themselves.
#include "cached/origin/call.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include "tests/unit/io/reactor_fixture.h"
#include "tests/unit/origin/remember_frame.h"

namespace cached::origin {
namespace {

// An operation that ends when the test says so, on the test's thread.
struct Manual {
  Done<int> done;
  bool begun = false;
  Call<int> call(Call<int>::Land land = nullptr) {
    return Call<int>(
        [this](Done<int> ended) {
          done = std::move(ended);
          begun = true;
        },
        std::move(land));
  }
};

TEST(Call, BeginsOnlyWhenStarted) {
  Manual operation;
  Call<int> call = operation.call();
  EXPECT_FALSE(operation.begun);
  int got = 0;
  std::move(call).start([&got](Result<int> result) { got = *result; });
  EXPECT_TRUE(operation.begun);
  operation.done(7);
  EXPECT_EQ(got, 7);
}

TEST(Call, WaitBlocksUntilItEnded) {
  std::thread ender;
  Call<int> call([&ender](const Done<int>& done) { ender = std::thread([done] { done(7); }); });
  EXPECT_EQ(*std::move(call).wait(), 7);
  ender.join();
}

TEST(Call, EndedCallGivesItsResult) {
  EXPECT_EQ(*Call<int>::ended(7).wait(), 7);
  EXPECT_EQ(Call<void>::ended(Status(EIO, "broken")).wait().error_number(), EIO);
}

TEST(Call, LandsOnTheThreadThatWaits) {
  std::thread ender;
  std::thread::id landed;
  Call<int> call([&ender](const Done<int>& done) { ender = std::thread([done] { done(7); }); },
                 [&landed](Result<int> result) {
                   landed = std::this_thread::get_id();
                   return Result<int>(*result + 1);
                 });
  EXPECT_EQ(*std::move(call).wait(), 8);
  EXPECT_EQ(landed, std::this_thread::get_id());
  ender.join();
}

TEST(Call, CoroutineGoesOnOnItsReactorWhoeverEndsTheCall) {
  const std::unique_ptr<io::Reactor> reactor = io::make_reactor({.name = "test"});
  reactor->start();
  Manual operation;
  bool on_reactor = false;
  auto body = [&]() -> io::Task<int> {
    const Result<int> result = co_await operation
                                   .call([&](Result<int> ended) {
                                     on_reactor = reactor->on_own_thread();
                                     return Result<int>(*ended);
                                   })
                                   .on(*reactor);
    co_return reactor->on_own_thread() ? *result : -1;
  };
  std::future<int> result = io::start_on(*reactor, body);
  io::settle(*reactor);
  operation.done(7);
  EXPECT_EQ(result.get(), 7);
  EXPECT_TRUE(on_reactor);
}

TEST(Call, CoroutineMayAwaitACallThatEndsWhileItBegins) {
  const std::unique_ptr<io::Reactor> reactor = io::make_reactor({.name = "test"});
  reactor->start();
  auto body = [&]() -> io::Task<int> { co_return *co_await Call<int>::ended(7).on(*reactor); };
  EXPECT_EQ(io::run_on(*reactor, body), 7);
}

TEST(Call, EndAfterTheReactorStoppedIsHarmless) {
  const std::unique_ptr<io::Reactor> reactor = io::make_reactor({.name = "test"});
  reactor->start();
  Manual operation;
  bool went_on = false;
  auto body = [&]() -> io::Task<void> {
    co_await io::RememberFrame{};
    (void)co_await operation.call().on(*reactor);
    went_on = true;
  };
  io::Task<void> task = body();
  reactor->post([&task] { io::spawn(std::move(task)); });
  io::settle(*reactor);
  reactor->stop();
  operation.done(7);
  EXPECT_FALSE(went_on);
}

TEST(CallWindow, StartWaitsWhileTheLimitIsInFlight) {
  std::vector<Done<void>> begun;
  auto call = [&begun] {
    return Call<void>([&begun](Done<void> done) { begun.push_back(std::move(done)); });
  };
  CallWindow window(2);
  window.start<void>(call(), [](const Status&) {});
  window.start<void>(call(), [](const Status&) {});
  std::promise<void> started;
  std::thread third([&] {
    window.start<void>(call(), [](const Status&) {});
    started.set_value();
  });
  std::future<void> is_started = started.get_future();
  EXPECT_EQ(is_started.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  std::exchange(begun[0], nullptr)({});
  is_started.get();
  third.join();
  EXPECT_EQ(begun.size(), 3U);
  begun[1]({});
  begun[2]({});
  window.drain();
}

}  // namespace
}  // namespace cached::origin
