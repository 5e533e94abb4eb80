#include "mount/worker.h"

#include <pthread.h>

#include "base/log.h"

namespace cached::mount {

// The thread's own pointer. Its destructor runs when the thread ends, also when libfuse cancels it: libfuse
// allows that only while the thread waits for a request.
struct Workers::ThreadSlot {
  Workers* owner = nullptr;
  Worker* worker = nullptr;
  ~ThreadSlot() {
    if (worker != nullptr) owner->retire(worker);
  }
};

Worker* Workers::current() {
  static thread_local ThreadSlot slot;
  if (slot.worker == nullptr) {
    slot.owner = this;
    slot.worker = create();
  }
  return slot.worker;
}

Worker* Workers::create() {
  Result<std::unique_ptr<shm::Channel>> channel = client_.open_channel();
  if (!channel.ok()) {
    log_error("no channel to the daemon for a worker thread: {}", channel.status().message());
    return nullptr;
  }
  pthread_setname_np(pthread_self(), "fuse-worker");
  auto worker = std::make_unique<Worker>();
  worker->channel = std::move(channel).value();
  const std::lock_guard lock(mutex_);
  workers_.insert(worker.get());
  return worker.release();
}

void Workers::retire(Worker* worker) {
  {
    const std::lock_guard lock(mutex_);
    workers_.erase(worker);
    for (unsigned i = 0; i < kOperations; ++i)
      retired_[i] += worker->counters.values[i].load(std::memory_order_relaxed);
  }
  delete worker;
}

std::array<uint64_t, kOperations> Workers::operations() {
  const std::lock_guard lock(mutex_);
  std::array<uint64_t, kOperations> sums = retired_;
  for (const Worker* worker : workers_) {
    for (unsigned i = 0; i < kOperations; ++i)
      sums[i] += worker->counters.values[i].load(std::memory_order_relaxed);
  }
  return sums;
}

uint64_t Workers::count() {
  const std::lock_guard lock(mutex_);
  return workers_.size();
}

}  // namespace cached::mount
