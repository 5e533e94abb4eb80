// FetchGate: how many reads of the origin a shard has in flight, and in which order the next ones go.
//
// Foreground (somebody waits) goes before background (read-ahead); within each, first come first served. A
// background fetch that is still queued when a reader joins it is promoted. Owned by one shard's thread.
#pragma once

#include <algorithm>
#include <coroutine>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>

#include "cached/io/task.h"

namespace cached::readpath {

enum class Priority : uint8_t { kForeground, kBackground };

class FetchGate {
 public:
  // A place in the queue. Shared by the fetch that waits and by those who may promote it.
  struct Ticket {
    Priority priority = Priority::kForeground;
    std::coroutine_handle<> waiter;  // set while queued
  };

  explicit FetchGate(unsigned limit) : limit_(limit) {}

  // co_await gate.enter(ticket): returns when the fetch may start. Each enter() is followed by one leave().
  auto enter(std::shared_ptr<Ticket> ticket) {
    struct Awaiter {
      FetchGate& gate;
      std::shared_ptr<Ticket> ticket;
      bool await_ready() {
        if (gate.in_flight_ >= gate.limit_) return false;
        ++gate.in_flight_;
        return true;
      }
      void await_suspend(std::coroutine_handle<> waiter) {
        ticket->waiter = waiter;
        gate.queue_of(ticket->priority).push_back(ticket);
      }
      void await_resume() const noexcept {}
    };
    return Awaiter{*this, std::move(ticket)};
  }

  // A fetch is through: the next in line starts, within this call.
  void leave() {
    for (std::deque<std::shared_ptr<Ticket>>* queue : {&foreground_, &background_}) {
      if (queue->empty()) continue;
      const std::shared_ptr<Ticket> next = std::move(queue->front());
      queue->pop_front();
      io::resume(std::exchange(next->waiter, {}));  // takes over the place of the one that left
      return;
    }
    --in_flight_;
  }

  // Somebody waits for this fetch now.
  void promote(const std::shared_ptr<Ticket>& ticket) {
    if (ticket->priority == Priority::kForeground) return;
    ticket->priority = Priority::kForeground;
    if (!ticket->waiter) return;
    std::erase(background_, ticket);
    foreground_.push_back(ticket);
  }

 private:
  std::deque<std::shared_ptr<Ticket>>& queue_of(Priority priority) {
    return priority == Priority::kForeground ? foreground_ : background_;
  }

  const unsigned limit_;
  unsigned in_flight_ = 0;
  std::deque<std::shared_ptr<Ticket>> foreground_;
  std::deque<std::shared_ptr<Ticket>> background_;
};

}  // namespace cached::readpath
