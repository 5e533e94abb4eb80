// Tests of coroutines without a reactor: tasks, spawn and events.
#include "cached/io/task.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace cached::io {
namespace {

// Counts how often a value was copied and moved on its way.
struct Traced {
  int copies = 0;
  int moves = 0;
  Traced() = default;
  Traced(const Traced& other) : copies(other.copies + 1), moves(other.moves) {}
  Traced(Traced&& other) noexcept : copies(other.copies), moves(other.moves + 1) {}
  Traced& operator=(const Traced&) = delete;
};

Task<int> depth_of(int depth, Event& gate) {
  if (depth == 0) {
    co_await gate;
    co_return 0;
  }
  co_return 1 + co_await depth_of(depth - 1, gate);
}

Task<void> store_depth(int depth, Event& gate, int& result) {
  result = co_await depth_of(depth, gate);
}

Task<int> one() {
  co_return 1;
}

Task<void> sum_of_ones(int count, int& sum) {
  for (int i = 0; i < count; ++i) sum += co_await one();
}

Task<Traced> make_traced() {
  Traced traced;
  co_return traced;
}

Task<std::unique_ptr<int>> make_unique_seven() {
  co_return std::make_unique<int>(7);
}

Task<void> wait_and_note(Event& event, int id, std::vector<int>& notes) {
  co_await event;
  notes.push_back(id);
}

TEST(Task, RunsOnlyWhenAwaited) {
  bool ran = false;
  {
    auto body = [](bool& flag) -> Task<void> {
      flag = true;
      co_return;
    };
    const Task<void> task = body(ran);
  }
  EXPECT_FALSE(ran);
}

TEST(Task, ChainOf100000NestedAwaitsDoesNotOverflowTheStack) {
  Event gate;
  int result = 0;
  spawn(store_depth(100'000, gate, result));
  EXPECT_EQ(result, 0);
  gate.set();
  EXPECT_EQ(result, 100'000);
}

TEST(Task, LoopOverAMillionTasksThatEndAtOnceDoesNotOverflowTheStack) {
  int sum = 0;
  spawn(sum_of_ones(1'000'000, sum));
  EXPECT_EQ(sum, 1'000'000);
}

TEST(Task, ResultIsMovedAndNeverCopied) {
  int copies = -1;
  auto body = [](int& result) -> Task<void> {
    const Traced traced = co_await make_traced();
    result = traced.copies;
  };
  spawn(body(copies));
  EXPECT_EQ(copies, 0);
}

TEST(Task, ReturnsTypesThatCannotBeCopied) {
  int value = 0;
  auto body = [](int& result) -> Task<void> { result = *co_await make_unique_seven(); };
  spawn(body(value));
  EXPECT_EQ(value, 7);
}

TEST(Task, ReturnsBracedValues) {
  auto make = []() -> Task<std::string> { co_return {}; };
  bool empty = false;
  auto body = [](decltype(make)& factory, bool& result) -> Task<void> {
    result = (co_await factory()).empty();
  };
  spawn(body(make, empty));
  EXPECT_TRUE(empty);
}

TEST(Task, ArgumentsAreDestroyedOnceWhenItEnds) {
  auto shared = std::make_shared<int>(1);
  auto body = [](std::shared_ptr<int> held, std::string text) -> Task<void> {
    *held += static_cast<int>(text.size());
    co_return;
  };
  spawn(body(shared, std::string(100, 'x')));
  EXPECT_EQ(*shared, 101);
  EXPECT_EQ(shared.use_count(), 1);
}

TEST(Spawn, RunsUntilTheFirstSuspensionBeforeItReturns) {
  Event gate;
  std::vector<int> steps;
  auto body = [](Event& event, std::vector<int>& trace) -> Task<void> {
    trace.push_back(1);
    co_await event;
    trace.push_back(3);
  };
  spawn(body(gate, steps));
  steps.push_back(2);
  gate.set();
  EXPECT_EQ(steps, (std::vector<int>{1, 2, 3}));
}

TEST(Spawn, FromWithinACoroutineRunsTheOtherFirst) {
  std::vector<int> steps;
  auto inner = [](std::vector<int>& trace) -> Task<void> { trace.push_back(co_await one()); };
  auto outer = [](decltype(inner)& other, std::vector<int>& trace) -> Task<void> {
    spawn(other(trace));
    trace.push_back(2);
    trace.push_back(2 + co_await one());
  };
  spawn(outer(inner, steps));
  EXPECT_EQ(steps, (std::vector<int>{1, 2, 3}));
}

TEST(Event, ResumesAllWaitersInOrder) {
  Event event;
  std::vector<int> notes;
  for (int id = 0; id < 5; ++id) spawn(wait_and_note(event, id, notes));
  EXPECT_TRUE(notes.empty());
  event.set();
  EXPECT_EQ(notes, (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST(Event, SetBeforeTheWaitDoesNotSuspend) {
  Event event;
  event.set();
  EXPECT_TRUE(event.is_set());
  std::vector<int> notes;
  spawn(wait_and_note(event, 1, notes));
  EXPECT_EQ(notes, (std::vector<int>{1}));
}

TEST(Event, MayBeDestroyedByAWaiterWithinSet) {
  auto event = std::make_unique<Event>();
  Event& reference = *event;
  std::vector<int> notes;
  auto destroy = [](std::unique_ptr<Event>& owner) -> Task<void> {
    co_await *owner;
    owner.reset();
  };
  spawn(destroy(event));
  spawn(wait_and_note(reference, 1, notes));
  reference.set();
  EXPECT_EQ(event, nullptr);
  EXPECT_EQ(notes, (std::vector<int>{1}));
}

TEST(Event, SetWithinACoroutineRunsWaitersBeforeItGoesOn) {
  Event event;
  std::vector<int> notes;
  spawn(wait_and_note(event, 1, notes));
  auto setter = [](Event& gate, std::vector<int>& trace) -> Task<void> {
    gate.set();
    trace.push_back(2);
    co_return;
  };
  spawn(setter(event, notes));
  EXPECT_EQ(notes, (std::vector<int>{1, 2}));
}

// Keeps its waiter for the test to resume.
struct ManualAwaiter {
  std::coroutine_handle<>& waiter;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) { waiter = handle; }
  void await_resume() const noexcept {}
};

TEST(Resume, TasksEndEvenIfSomebodyResumesAHandleDirectly) {
  std::coroutine_handle<> waiter;
  int sum = 0;
  auto body = [](std::coroutine_handle<>& handle, int& result) -> Task<void> {
    co_await ManualAwaiter{handle};
    result += co_await one();
    result += co_await one();
  };
  spawn(body(waiter, sum));
  waiter.resume();
  EXPECT_EQ(sum, 2);
}

}  // namespace
}  // namespace cached::io
