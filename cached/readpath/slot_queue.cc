// Order among those who wait for slots: see slot_queue.h.
#include "cached/readpath/slot_queue.h"

#include "base/clock.h"

namespace cached::readpath {

bool SlotQueue::try_take(const std::vector<uint32_t>& lengths, std::vector<memory_tier::SlotId>* slots) {
  for (const uint32_t length : lengths) {
    const std::optional<memory_tier::SlotId> slot = tier_.allocate(length);
    if (!slot) {
      for (const memory_tier::SlotId taken : *slots) tier_.abandon(taken);
      slots->clear();
      return false;
    }
    slots->push_back(*slot);
  }
  return true;
}

io::Task<std::vector<memory_tier::SlotId>> SlotQueue::take(std::vector<uint32_t> lengths, uint64_t wait_ns) {
  std::vector<memory_tier::SlotId> slots;
  if (waiting_.empty() && try_take(lengths, &slots)) co_return slots;
  if (wait_ns == 0) co_return slots;
  Waiter waiter{&lengths, reactor_.clock().monotonic_ns() + wait_ns, {}, {}};
  struct Suspend {
    SlotQueue& queue;
    Waiter& waiter;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
      waiter.handle = handle;
      queue.waiting_.push_back(&waiter);
      if (std::exchange(queue.ticking_, true)) return;
      io::spawn(queue.tick());
    }
    void await_resume() const noexcept {}
  };
  co_await Suspend{*this, waiter};
  co_return std::move(waiter.slots);
}

void SlotQueue::serve() {
  while (!waiting_.empty()) {
    Waiter* const head = waiting_.front();
    const bool served = try_take(*head->lengths, &head->slots);
    if (!served && reactor_.clock().monotonic_ns() < head->deadline_ns) return;
    waiting_.pop_front();
    io::resume(head->handle);
  }
}

void SlotQueue::notify() {
  if (waiting_.empty() || notified_) return;
  // Not within the caller, who may be in the middle of changing the tier.
  notified_ = true;
  reactor_.post([this] {
    notified_ = false;
    serve();
  });
}

io::Task<void> SlotQueue::tick() {
  while (!waiting_.empty()) {
    co_await reactor_.sleep_until(reactor_.clock().monotonic_ns() + kNanosecondsPerMillisecond);
    serve();
  }
  ticking_ = false;
}

}  // namespace cached::readpath
