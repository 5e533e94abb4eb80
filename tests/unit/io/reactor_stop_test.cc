// Tests of the end of a reactor: what runs, what is cancelled, what is dropped.
#include <chrono>
#include <thread>
#include <vector>

#include "tests/unit/io/reactor_fixture.h"

namespace cached::io {
namespace {

class ReactorStopTest : public ReactorTest {};
INSTANTIATE_TEST_SUITE_P(Rings, ReactorStopTest, testing::Bool(), ring_name);

TEST_P(ReactorStopTest, StopCancelsReadsInFlightOnAPipe) {
  const Pipe pipe = make_pipe();
  char bytes[2];
  auto read = start_on(reactor(), [&] { return read_some(reactor(), pipe.reader.get(), bytes, 2, 0); });
  auto polled = start_on(
      reactor(), [&]() -> Task<int> { co_return co_await reactor().poll_readable(pipe.reader.get()); });
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  reactor().stop();
  EXPECT_EQ(read.get(), -ECANCELED);
  EXPECT_EQ(polled.get(), -ECANCELED);
}

TEST_P(ReactorStopTest, StopAtOnceAfterTheReadsCancelsThemToo) {
  const Pipe pipe = make_pipe();
  std::vector<char> bytes(100);
  std::vector<std::future<int>> reads;
  for (char& byte : bytes) {
    reads.push_back(
        start_on(reactor(), [&] { return read_some(reactor(), pipe.reader.get(), &byte, 1, 0); }));
  }
  reactor().stop();
  for (std::future<int>& read : reads) EXPECT_EQ(read.get(), -ECANCELED);
}

TEST_P(ReactorStopTest, StopCancelsOperationsThatWaitForAPlaceInTheRing) {
  Reactor::Options tiny_options = options();
  tiny_options.queue_entries = 1;
  const auto tiny = make_reactor(tiny_options);
  tiny->start();
  const Pipe pipe = make_pipe();
  std::vector<char> bytes(100);
  std::vector<std::future<int>> reads;
  for (char& byte : bytes) {
    reads.push_back(start_on(*tiny, [&] { return read_some(*tiny, pipe.reader.get(), &byte, 1, 0); }));
  }
  settle(*tiny);
  tiny->stop();
  for (std::future<int>& read : reads) EXPECT_EQ(read.get(), -ECANCELED);
}

TEST_P(ReactorStopTest, OperationsBegunWhileStoppingAreCancelled) {
  const Pipe pipe = make_pipe();
  const UniqueFd file = file_with("abc");
  char bytes[3];
  auto second = start_on(reactor(), [&]() -> Task<int> {
    co_await reactor().read(pipe.reader.get(), bytes, 1, 0);
    co_return co_await reactor().read(file.get(), bytes, 3, 0);
  });
  settle(reactor());
  reactor().stop();
  EXPECT_EQ(second.get(), -ECANCELED);
}

TEST_P(ReactorStopTest, WorkPostedBeforeStopIsRun) {
  int ran = 0;
  for (int i = 0; i < 1000; ++i) reactor().post([&] { ++ran; });
  reactor().stop();
  EXPECT_EQ(ran, 1000);
}

TEST_P(ReactorStopTest, WorkPostedAfterStopIsDropped) {
  reactor().stop();
  const auto held = std::make_shared<int>(0);
  reactor().post([held] { ++*held; });
  EXPECT_EQ(*held, 0);
  EXPECT_EQ(held.use_count(), 1);
}

TEST_P(ReactorStopTest, StopOfAnIdleReactorReturnsSoon) {
  settle(reactor());
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const auto begin = std::chrono::steady_clock::now();
  reactor().stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
}

TEST_P(ReactorStopTest, DestructionStopsARunningReactor) {
  auto running = make_reactor(options());
  running->start();
  int ran = 0;
  running->post([&] { ++ran; });
  running.reset();
  EXPECT_EQ(ran, 1);
}

TEST_P(ReactorStopTest, DestructionWithoutStartDropsWhatWasPosted) {
  auto never_started = make_reactor(options());
  int ran = 0;
  never_started->post([&] { ++ran; });
  never_started.reset();
  EXPECT_EQ(ran, 0);
}

TEST_P(ReactorStopTest, PostsFromOtherThreadsMayRaceWithStop) {
  for (int round = 0; round < 50; ++round) {
    auto raced = make_reactor(options());
    raced->start();
    std::atomic<bool> done = false;
    std::thread poster([&] {
      while (!done) raced->post([] {});
    });
    std::this_thread::yield();
    raced->stop();
    done = true;
    poster.join();
  }
}

}  // namespace
}  // namespace cached::io
