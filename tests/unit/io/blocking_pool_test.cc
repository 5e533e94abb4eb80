// Tests of the pool for blocking calls.
#include "cached/io/blocking_pool.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <semaphore>
#include <set>
#include <thread>

#include "tests/unit/io/reactor_fixture.h"

namespace cached::io {
namespace {

using std::chrono::milliseconds;

class BlockingPoolTest : public ReactorTest {};
INSTANTIATE_TEST_SUITE_P(Rings, BlockingPoolTest, testing::Values(false), ring_name);

TEST_P(BlockingPoolTest, ResultComesBackOnTheReactorsThread) {
  BlockingPool pool("pool", 2);
  bool ran_elsewhere = false;
  bool came_back = false;
  const int result = run_on(reactor(), [&]() -> Task<int> {
    const int value = co_await pool.run(reactor(), [&] {
      ran_elsewhere = !reactor().on_own_thread();
      return 42;
    });
    came_back = reactor().on_own_thread();
    co_return value;
  });
  EXPECT_EQ(result, 42);
  EXPECT_TRUE(ran_elsewhere);
  EXPECT_TRUE(came_back);
}

TEST_P(BlockingPoolTest, NamedWorkIsUsedWhereItIsAndDestroyedOnce) {
  BlockingPool pool("pool", 1);
  const auto shared = std::make_shared<int>(0);
  const std::string text(1000, 'x');
  const size_t size = run_on(reactor(), [&]() -> Task<size_t> {
    size_t total = 0;
    for (int i = 0; i < 100; ++i) {
      auto work = [held = shared, copy = text] {
        ++*held;
        return copy.size();
      };
      total += co_await pool.run(reactor(), work);
    }
    co_return total;
  });
  EXPECT_EQ(size, 100'000U);
  EXPECT_EQ(*shared, 100);
  EXPECT_EQ(shared.use_count(), 1);
}

TEST_P(BlockingPoolTest, ResultIsDestroyedOnce) {
  BlockingPool pool("pool", 1);
  const auto shared = std::make_shared<int>(7);
  const int value = run_on(
      reactor(), [&]() -> Task<int> { co_return *co_await pool.run(reactor(), [&] { return shared; }); });
  EXPECT_EQ(value, 7);
  EXPECT_EQ(shared.use_count(), 1);
}

TEST_P(BlockingPoolTest, ResultsThatCannotBeCopiedAreMoved) {
  BlockingPool pool("pool", 1);
  const std::string text = run_on(reactor(), [&]() -> Task<std::string> {
    std::unique_ptr<std::string> made =
        co_await pool.run(reactor(), [] { return std::make_unique<std::string>("moved"); });
    co_return *made;
  });
  EXPECT_EQ(text, "moved");
}

TEST_P(BlockingPoolTest, WorkThatCannotBeCopiedRuns) {
  BlockingPool pool("pool", 1);
  const int value = run_on(reactor(), [&]() -> Task<int> {
    auto work = [owned = std::make_unique<int>(5)] { return *owned; };
    co_return co_await pool.run(reactor(), work);
  });
  EXPECT_EQ(value, 5);
}

TEST(BlockingPool, NeverRunsMoreAtOnceThanItsLimit) {
  constexpr int kLimit = 3;
  std::atomic<int> running = 0;
  std::atomic<int> most = 0;
  {
    BlockingPool pool("pool", kLimit);
    for (int i = 0; i < 50; ++i) {
      pool.submit([&] {
        const int now = ++running;
        int seen = most.load();
        while (seen < now && !most.compare_exchange_weak(seen, now)) {
        }
        std::this_thread::sleep_for(milliseconds(1));
        --running;
      });
    }
  }
  EXPECT_EQ(most.load(), kLimit);
}

TEST(BlockingPool, RunsAsManyAtOnceAsItsLimit) {
  constexpr int kLimit = 4;
  std::counting_semaphore<kLimit> started(0);
  std::counting_semaphore<kLimit> release(0);
  BlockingPool pool("pool", kLimit);
  for (int i = 0; i < kLimit; ++i) {
    pool.submit([&] {
      started.release();
      release.acquire();
    });
  }
  for (int i = 0; i < kLimit; ++i) EXPECT_TRUE(started.try_acquire_for(std::chrono::seconds(5)));
  release.release(kLimit);
}

TEST(BlockingPool, IdleThreadIsUsedAgain) {
  BlockingPool pool("pool", 8);
  std::set<std::thread::id> ids;
  for (int i = 0; i < 20; ++i) {
    auto done = std::make_shared<std::promise<void>>();
    std::future<void> future = done->get_future();
    pool.submit([&ids, done] {
      ids.insert(std::this_thread::get_id());
      done->set_value();
    });
    future.get();
    std::this_thread::sleep_for(milliseconds(5));  // lets the thread become idle
  }
  EXPECT_LT(ids.size(), 8U);
}

TEST(BlockingPool, DestructorRunsWhatHasNotBegun) {
  int ran = 0;
  {
    BlockingPool pool("pool", 1);
    pool.submit([] { std::this_thread::sleep_for(milliseconds(20)); });
    for (int i = 0; i < 100; ++i) pool.submit([&] { ++ran; });
  }
  EXPECT_EQ(ran, 100);
}

TEST(BlockingPool, ThreadsCarryThePoolsName) {
  char name[16] = {};
  {
    BlockingPool pool("volume-with-a-long-name", 1);
    pool.submit([&] { pthread_getname_np(pthread_self(), name, sizeof name); });
  }
  EXPECT_STREQ(name, "volume-with-a-l");
}

// Tells the test the handle of the coroutine that awaits it.
struct RememberHandle {
  std::coroutine_handle<>& handle;
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> waiter) {
    handle = waiter;
    return false;
  }
  void await_resume() const noexcept {}
};

TEST_P(BlockingPoolTest, ResultForAStoppedReactorIsDropped) {
  std::binary_semaphore begun(0);
  std::binary_semaphore release(0);
  bool came_back = false;
  std::coroutine_handle<> abandoned;
  auto pool = std::make_unique<BlockingPool>("pool", 1);
  auto body = [&]() -> Task<void> {
    co_await RememberHandle{abandoned};
    co_await pool->run(reactor(), [&] {
      begun.release();
      release.acquire();
      return 0;
    });
    came_back = true;
  };
  reactor().post([&] { spawn(body()); });
  begun.acquire();
  reactor().stop();
  release.release();
  pool.reset();
  EXPECT_FALSE(came_back);
  resume(abandoned);  // only to free its frame
}

}  // namespace
}  // namespace cached::io
