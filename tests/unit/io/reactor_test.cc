// Tests of a running reactor: operations, posts, hops, timers and sleep.
#include "cached/io/reactor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "tests/unit/io/reactor_fixture.h"

namespace cached::io {
namespace {

using std::chrono::milliseconds;

INSTANTIATE_TEST_SUITE_P(Rings, ReactorTest, testing::Bool(), ring_name);

std::string numbered_text(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + (i / 7) % 26);
  return text;
}

TEST_P(ReactorTest, ReadReturnsBytesOfAFile) {
  const UniqueFd file = file_with("hello, world");
  char buffer[5];
  EXPECT_EQ(run_on(reactor(), [&] { return read_some(reactor(), file.get(), buffer, 5, 7); }), 5);
  EXPECT_EQ(std::string(buffer, 5), "world");
}

TEST_P(ReactorTest, ReadvFillsBuffersInOrder) {
  const UniqueFd file = file_with("abcdefgh");
  char first[3];
  char second[5];
  const int result = run_on(reactor(), [&]() -> Task<int> {
    const iovec parts[2] = {{first, sizeof first}, {second, sizeof second}};
    co_return co_await reactor().readv(file.get(), parts, 2, 0);
  });
  EXPECT_EQ(result, 8);
  EXPECT_EQ(std::string(first, 3) + std::string(second, 5), "abcdefgh");
}

TEST_P(ReactorTest, ReadAcrossTheEndIsShort) {
  const UniqueFd file = file_with("0123456789");
  char buffer[100];
  EXPECT_EQ(run_on(reactor(), [&] { return read_some(reactor(), file.get(), buffer, 100, 4); }), 6);
}

TEST_P(ReactorTest, ReadBehindTheEndReturnsZero) {
  const UniqueFd file = file_with("0123456789");
  char buffer[10];
  EXPECT_EQ(run_on(reactor(), [&] { return read_some(reactor(), file.get(), buffer, 10, 4096); }), 0);
}

TEST_P(ReactorTest, ReadOfABadDescriptorReturnsEbadf) {
  char buffer[10];
  EXPECT_EQ(run_on(reactor(), [&] { return read_some(reactor(), 1'000'000, buffer, 10, 0); }), -EBADF);
}

TEST_P(ReactorTest, ReadOfADirectoryReturnsEisdir) {
  const UniqueFd directory(::open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  char buffer[10];
  EXPECT_EQ(run_on(reactor(), [&] { return read_some(reactor(), directory.get(), buffer, 10, 0); }), -EISDIR);
}

TEST_P(ReactorTest, WritevWritesBuffersInOrder) {
  const UniqueFd file = file_with("abcdefgh");
  std::string first = "XY";
  std::string second = "Z";
  const int result = run_on(reactor(), [&]() -> Task<int> {
    const iovec parts[2] = {{first.data(), first.size()}, {second.data(), second.size()}};
    co_return co_await reactor().writev(file.get(), parts, 2, 3);
  });
  EXPECT_EQ(result, 3);
  char content[8];
  ASSERT_EQ(::pread(file.get(), content, sizeof content, 0), 8);
  EXPECT_EQ(std::string(content, sizeof content), "abcXYZgh");
}

TEST_P(ReactorTest, FdatasyncIsForFilesOnly) {
  const UniqueFd file = file_with("abc");
  const Pipe pipe = make_pipe();
  const auto sync = [&](int fd) {
    return run_on(reactor(), [&, fd]() -> Task<int> { co_return co_await reactor().fdatasync(fd); });
  };
  EXPECT_EQ(sync(file.get()), 0);
  EXPECT_EQ(sync(pipe.reader.get()), -EINVAL);
}

TEST_P(ReactorTest, NopEndsInALaterTurn) {
  std::string order;
  const int result = run_on(reactor(), [&]() -> Task<int> {
    reactor().post([&] { order += "posted "; });
    const int ended = co_await reactor().nop();
    order += "ended";
    co_return ended;
  });
  EXPECT_EQ(result, 0);
  EXPECT_EQ(order, "posted ended");
}

TEST_P(ReactorTest, StatxTellsTheSize) {
  const UniqueFd file = file_with("0123456789");
  struct statx attributes {};
  const int result = run_on(reactor(), [&]() -> Task<int> {
    co_return co_await reactor().statx(file.get(), 0, STATX_SIZE, &attributes);
  });
  EXPECT_EQ(result, 0);
  EXPECT_EQ(attributes.stx_size, 10U);
}

TEST_P(ReactorTest, PollReadableWaitsForBytes) {
  const Pipe pipe = make_pipe();
  auto polled = start_on(
      reactor(), [&]() -> Task<int> { co_return co_await reactor().poll_readable(pipe.reader.get()); });
  EXPECT_EQ(polled.wait_for(milliseconds(20)), std::future_status::timeout);
  EXPECT_EQ(::write(pipe.writer.get(), "x", 1), 1);
  EXPECT_NE(polled.get() & POLLIN, 0);
}

Task<void> read_and_check(Reactor& reactor, int fd, const std::string& content, uint64_t offset, int& right,
                          int& left, Event& all_done) {
  std::array<char, 64> buffer;
  const int result = co_await reactor.read(fd, buffer.data(), buffer.size(), offset);
  if (result == 64 && content.compare(offset, 64, buffer.data(), 64) == 0) ++right;
  if (--left == 0) all_done.set();
}

TEST_P(ReactorTest, ThousandsOfReadsAtOnceGoThroughATinyRing) {
  constexpr int kReads = 5000;
  const std::string content = numbered_text(kReads * 64);
  const UniqueFd file = file_with(content);
  Reactor::Options tiny = options();
  tiny.queue_entries = 2;
  const auto tiny_reactor = make_reactor(tiny);
  tiny_reactor->start();
  const int right = run_on(*tiny_reactor, [&]() -> Task<int> {
    int count = 0;
    int left = kReads;
    Event all_done;
    for (int i = 0; i < kReads; ++i) {
      spawn(read_and_check(*tiny_reactor, file.get(), content, static_cast<uint64_t>(i) * 64, count, left,
                           all_done));
    }
    co_await all_done;
    co_return count;
  });
  EXPECT_EQ(right, kReads);
}

Task<void> await_readable(Reactor& reactor, int fd, int& left, Event& all_done) {
  co_await reactor.poll_readable(fd);
  if (--left == 0) all_done.set();
}

TEST_P(ReactorTest, MoreOperationsThanTheCompletionQueueHoldsCompleteAtOnce) {
  Reactor::Options tiny = options();
  tiny.queue_entries = 2;
  const auto tiny_reactor = make_reactor(tiny);
  tiny_reactor->start();
  const Pipe pipe = make_pipe();
  auto done = start_on(*tiny_reactor, [&]() -> Task<void> {
    int left = 1000;
    Event all_done;
    for (int i = 0; i < 1000; ++i) spawn(await_readable(*tiny_reactor, pipe.reader.get(), left, all_done));
    co_await all_done;
  });
  std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(::write(pipe.writer.get(), "x", 1), 1);
  EXPECT_EQ(done.wait_for(std::chrono::seconds(20)), std::future_status::ready);
}

TEST_P(ReactorTest, PostsOfEachThreadRunInItsOrder) {
  constexpr int kThreads = 4;
  constexpr int kPosts = 5000;
  std::array<int, kThreads> next{};
  int wrong = 0;
  std::vector<std::thread> posters;
  for (int t = 0; t < kThreads; ++t) {
    posters.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) {
        reactor().post([&, t, i] { wrong += next[static_cast<size_t>(t)]++ == i ? 0 : 1; });
      }
    });
  }
  for (std::thread& poster : posters) poster.join();
  settle(reactor());
  EXPECT_EQ(wrong, 0);
  for (const int count : next) EXPECT_EQ(count, kPosts);
}

TEST_P(ReactorTest, PostBeforeStartRunsAfterIt) {
  const auto fresh = make_reactor(options());
  bool ran = false;
  fresh->post([&] { ran = true; });
  fresh->start();
  settle(*fresh);
  EXPECT_TRUE(ran);
}

TEST_P(ReactorTest, PostFreesItsWorkWhenItHasRun) {
  const auto held = std::make_shared<int>(0);
  reactor().post([held] { ++*held; });
  settle(reactor());
  EXPECT_EQ(*held, 1);
  EXPECT_EQ(held.use_count(), 1);
}

TEST_P(ReactorTest, HopMovesACoroutineBetweenTwoReactors) {
  const auto other = make_reactor(options());
  other->start();
  const int wrong = run_on(reactor(), [&]() -> Task<int> {
    int count = 0;
    for (int i = 0; i < 1000; ++i) {
      co_await other->hop();
      count += other->on_own_thread() && !reactor().on_own_thread() ? 0 : 1;
      co_await reactor().hop();
      count += reactor().on_own_thread() ? 0 : 1;
    }
    co_return count;
  });
  EXPECT_EQ(wrong, 0);
}

TEST_P(ReactorTest, HopToItselfGoesOnAtOnce) {
  std::vector<int> steps;
  run_on(reactor(), [&]() -> Task<void> {
    reactor().post([&] { steps.push_back(2); });
    co_await reactor().hop();
    steps.push_back(1);
  });
  settle(reactor());
  EXPECT_EQ(steps, (std::vector<int>{1, 2}));
}

TEST_P(ReactorTest, OperationsRunOnTheReactorHoppedTo) {
  const UniqueFd file = file_with("abc");
  const auto other = make_reactor(options());
  other->start();
  char buffer[3];
  const int result = run_on(reactor(), [&]() -> Task<int> {
    co_await other->hop();
    const int count = co_await other->read(file.get(), buffer, 3, 0);
    co_await reactor().hop();
    co_return count;
  });
  EXPECT_EQ(result, 3);
}

Task<void> sleep_and_note(Reactor& reactor, uint64_t when_ns, int id, std::vector<int>& notes) {
  co_await reactor.sleep_until(when_ns);
  notes.push_back(id);
}

TEST_P(ReactorTest, TimersFireInOrderOfTimeThenOfArrival) {
  ManualClock clock(1000);
  Reactor::Options with_clock = options();
  with_clock.clock = &clock;
  const auto timed = make_reactor(with_clock);
  timed->start();
  std::vector<int> notes;
  timed->post([&] {
    spawn(sleep_and_note(*timed, 3000, 3, notes));
    spawn(sleep_and_note(*timed, 2000, 1, notes));
    spawn(sleep_and_note(*timed, 2000, 2, notes));
    spawn(sleep_and_note(*timed, 9000, 4, notes));
  });
  settle(*timed);
  EXPECT_TRUE(notes.empty());
  clock.advance_ns(4000);
  settle(*timed);
  settle(*timed);
  EXPECT_EQ(notes, (std::vector<int>{1, 2, 3}));
  clock.advance_ns(4000);
  settle(*timed);
  settle(*timed);
  EXPECT_EQ(notes, (std::vector<int>{1, 2, 3, 4}));
}

TEST_P(ReactorTest, TimerEndsTheSleepOfAnIdleLoop) {
  const uint64_t wanted_ns = system_clock().monotonic_ns() + 30 * kNanosecondsPerMillisecond;
  const uint64_t woken_ns = run_on(reactor(), [&]() -> Task<uint64_t> {
    co_await reactor().sleep_until(wanted_ns);
    co_return system_clock().monotonic_ns();
  });
  EXPECT_GE(woken_ns, wanted_ns);
  EXPECT_LT(woken_ns, wanted_ns + 10 * kNanosecondsPerSecond);
}

TEST_P(ReactorTest, SleepUntilThePastStillLetsOthersRun) {
  std::vector<int> steps;
  run_on(reactor(), [&]() -> Task<void> {
    reactor().post([&] { steps.push_back(1); });
    for (int i = 0; i < 3; ++i) co_await reactor().sleep_until(0);
    steps.push_back(2);
  });
  EXPECT_EQ(steps, (std::vector<int>{1, 2}));
}

uint64_t cpu_time_ns_of(Reactor& reactor) {
  return run_on(reactor, []() -> Task<uint64_t> {
    timespec used{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    co_return static_cast<uint64_t>(used.tv_sec) * kNanosecondsPerSecond +
        static_cast<uint64_t>(used.tv_nsec);
  });
}

TEST_P(ReactorTest, IdleLoopUsesNoCpu) {
  const uint64_t before_ns = cpu_time_ns_of(reactor());
  std::this_thread::sleep_for(milliseconds(200));
  EXPECT_LT(cpu_time_ns_of(reactor()) - before_ns, 5 * kNanosecondsPerMillisecond);
}

TEST_P(ReactorTest, LoopWithADistantTimerAndAPendingReadUsesNoCpu) {
  const Pipe pipe = make_pipe();
  char byte = 0;
  auto read = start_on(reactor(), [&] { return read_some(reactor(), pipe.reader.get(), &byte, 1, 0); });
  auto slept = start_on(reactor(), [&]() -> Task<void> {
    co_await reactor().sleep_until(system_clock().monotonic_ns() + kNanosecondsPerSecond);
  });
  const uint64_t before_ns = cpu_time_ns_of(reactor());
  std::this_thread::sleep_for(milliseconds(200));
  EXPECT_LT(cpu_time_ns_of(reactor()) - before_ns, 5 * kNanosecondsPerMillisecond);
  EXPECT_EQ(::write(pipe.writer.get(), "x", 1), 1);
  EXPECT_EQ(read.get(), 1);
  slept.get();
}

void spin(uint64_t turns) {
  for (; turns > 0; --turns) std::atomic_signal_fence(std::memory_order_seq_cst);
}

// A writer of shared memory that wakes the reactor only where the sleeping flag asks for it.
class PublisherTest : public ReactorTest {
 protected:
  void publish(uint64_t value) {
    published_.store(value);
    if (sleeping_.load() == 0) return;
    const uint64_t one = 1;
    EXPECT_EQ(::write(doorbell_.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
    ++doorbells_;
  }
  bool consumed_in_time(uint64_t value) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (consumed_.load() != value) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }
  bool consume() {
    const uint64_t value = published_.load();
    if (consumed_.exchange(value) != value) return true;
    spin(200);  // widens the gap between a look that finds nothing and the flag
    return false;
  }
  Task<void> answer_doorbell(Reactor& reactor) {
    uint64_t rings = 0;
    while (co_await reactor.read(doorbell_.get(), &rings, sizeof rings, 0) > 0) {
    }
  }

  std::atomic<uint64_t> published_{0};
  std::atomic<uint64_t> consumed_{0};
  std::atomic<uint32_t> sleeping_{0};
  uint64_t doorbells_ = 0;
  UniqueFd doorbell_{eventfd(0, EFD_CLOEXEC)};
};
INSTANTIATE_TEST_SUITE_P(Rings, PublisherTest, testing::Bool(), ring_name);

TEST_P(PublisherTest, SleepingFlagNeverLosesAWakeUp) {
  const auto listener = make_reactor(options());
  listener->set_poller([this] { return consume(); });
  listener->set_sleeping_flag(&sleeping_);
  listener->start();
  listener->post([&] { spawn(answer_doorbell(*listener)); });
  constexpr uint64_t kRounds = 20'000;
  for (uint64_t round = 1; round <= kRounds; ++round) {
    publish(round);
    ASSERT_TRUE(consumed_in_time(round)) << "wake-up lost in round " << round;
    for (uint64_t spin = round % 64 * 16; spin > 0; --spin)
      std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  EXPECT_GT(doorbells_, 0U);
  listener->stop();
}

TEST_P(PublisherTest, SleepingFlagIsOneWhileTheLoopSleepsAndZeroWhileItRuns) {
  const auto listener = make_reactor(options());
  listener->set_sleeping_flag(&sleeping_);
  listener->start();
  uint32_t flag_while_running = 1;
  listener->post([&] { flag_while_running = sleeping_.load(); });
  settle(*listener);
  EXPECT_EQ(flag_while_running, 0U);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (sleeping_.load() == 0 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  EXPECT_EQ(sleeping_.load(), 1U);
}

TEST_P(PublisherTest, DoesNotSayThatItSleepsWhileACompletionWaits) {
  const auto listener = make_reactor(options());
  bool may_ring = false;
  bool rung = false;
  bool answered = false;
  unsigned said_asleep = 0;
  listener->set_poller([&] {
    if (rung && !answered && sleeping_.load() != 0) ++said_asleep;
    if (may_ring && !rung) {
      rung = true;  // the read in the ring ends now, behind the loop's back
      const uint64_t one = 1;
      EXPECT_EQ(::write(doorbell_.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
    }
    return false;
  });
  listener->set_sleeping_flag(&sleeping_);
  listener->start();
  std::future<void> done = start_on(*listener, [&]() -> Task<void> {
    uint64_t rings = 0;
    co_await listener->read(doorbell_.get(), &rings, sizeof rings, 0);
    answered = true;
  });
  settle(*listener);
  settle(*listener);  // the read was handed to the kernel
  listener->post([&] { may_ring = true; });
  ASSERT_EQ(done.wait_for(std::chrono::seconds(5)), std::future_status::ready);
  EXPECT_EQ(said_asleep, 0U);
  listener->stop();
}

TEST_P(ReactorTest, PostNeverLosesAWakeUp) {
  for (int round = 0; round < 10'000; ++round) {
    auto reached = std::make_shared<std::promise<void>>();
    std::future<void> future = reached->get_future();
    reactor().post([reached] { reached->set_value(); });
    ASSERT_EQ(future.wait_for(std::chrono::seconds(5)), std::future_status::ready) << "in round " << round;
  }
}

TEST_P(ReactorTest, CancelFdEndsAllItsOperationsAndNoOther) {
  const Pipe cancelled = make_pipe();
  const Pipe other = make_pipe();
  char bytes[3];
  auto read =
      start_on(reactor(), [&] { return read_some(reactor(), cancelled.reader.get(), &bytes[0], 1, 0); });
  auto polled = start_on(
      reactor(), [&]() -> Task<int> { co_return co_await reactor().poll_readable(cancelled.reader.get()); });
  auto kept = start_on(reactor(), [&] { return read_some(reactor(), other.reader.get(), &bytes[1], 1, 0); });
  std::this_thread::sleep_for(milliseconds(10));
  reactor().post([&] { reactor().cancel_fd(cancelled.reader.get()); });
  EXPECT_EQ(read.get(), -ECANCELED);
  EXPECT_EQ(polled.get(), -ECANCELED);
  EXPECT_EQ(::write(other.writer.get(), "x", 1), 1);
  EXPECT_EQ(kept.get(), 1);
}

TEST_P(ReactorTest, CancelFdEndsAnOperationOfTheSameTurn) {
  const Pipe pipe = make_pipe();
  char byte = 0;
  auto read = start_on(reactor(), [&] { return read_some(reactor(), pipe.reader.get(), &byte, 1, 0); });
  reactor().post([&] { reactor().cancel_fd(pipe.reader.get()); });
  EXPECT_EQ(read.get(), -ECANCELED);
}

TEST_P(ReactorTest, InFlightCountsOperationsThatHaveNotEnded) {
  const Pipe pipe = make_pipe();
  char byte = 0;
  auto read = start_on(reactor(), [&] { return read_some(reactor(), pipe.reader.get(), &byte, 1, 0); });
  const auto in_flight = [&] {
    return run_on(reactor(), [&]() -> Task<unsigned> { co_return reactor().in_flight(); });
  };
  EXPECT_EQ(in_flight(), 1U);
  EXPECT_EQ(::write(pipe.writer.get(), "x", 1), 1);
  read.get();
  EXPECT_EQ(in_flight(), 0U);
}

}  // namespace
}  // namespace cached::io
