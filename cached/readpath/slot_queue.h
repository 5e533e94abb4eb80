// SlotQueue: who gets slots next when memory is short.
//
// A request takes all the slots that it needs or none, and those who wait are served in order of arrival, so
// that no two requests can hold what the other waits for. A wait ends with slots, or at its deadline without:
// the caller then answers through the session's buffer, which needs no slot. Owned by one shard's thread.
#pragma once

#include <coroutine>
#include <cstdint>
#include <deque>
#include <vector>

#include "cached/io/reactor.h"
#include "cached/io/task.h"
#include "cached/memory_tier/memory_tier.h"

namespace cached::readpath {

class SlotQueue {
 public:
  SlotQueue(io::Reactor& reactor, memory_tier::MemoryTier& tier) : reactor_(reactor), tier_(tier) {}

  // Slots for all of `lengths`, or an empty vector: at once if `wait_ns` is 0, else after at most about that
  // long.
  io::Task<std::vector<memory_tier::SlotId>> take(std::vector<uint32_t> lengths, uint64_t wait_ns);

  // Slots may have become available (an unpin, an abandoned or published fill).
  void notify();

 private:
  struct Waiter {
    const std::vector<uint32_t>* lengths;
    uint64_t deadline_ns;
    std::vector<memory_tier::SlotId> slots;
    std::coroutine_handle<> handle;
  };

  bool try_take(const std::vector<uint32_t>& lengths, std::vector<memory_tier::SlotId>* slots);
  // Serves the head of the queue as far as slots go, drops who is past the deadline.
  void serve();
  // Looks again every millisecond while somebody waits: hazards clear without telling anybody.
  io::Task<void> tick();

  io::Reactor& reactor_;
  memory_tier::MemoryTier& tier_;
  std::deque<Waiter*> waiting_;
  bool ticking_ = false;
  bool notified_ = false;
};

}  // namespace cached::readpath
