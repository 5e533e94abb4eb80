// Threads for blocking work: see worker_pool.h.
#include "cached/import/worker_pool.h"

#include <pthread.h>

namespace cached::import {

WorkerPool::WorkerPool(const std::string& name, unsigned threads, size_t queue_limit)
    : queue_limit_(queue_limit) {
  for (unsigned i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { work(); });
    ::pthread_setname_np(threads_.back().native_handle(), name.substr(0, 15).c_str());
  }
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::submit(std::function<void()> job) {
  std::unique_lock lock(mutex_);
  room_.wait(lock, [this] { return queue_.size() < queue_limit_; });
  queue_.push_back(std::move(job));
  work_.notify_one();
}

void WorkerPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const std::function<void()> job = std::move(queue_.front());
    queue_.pop_front();
    room_.notify_one();
    lock.unlock();
    job();
    lock.lock();
  }
}

void Latch::count_down() {
  const std::lock_guard lock(mutex_);
  if (--count_ == 0) changed_.notify_all();  // under the lock: the waiter may free this object
}

void Latch::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return count_ == 0; });
}

bool Latch::ready() {
  const std::lock_guard lock(mutex_);
  return count_ == 0;
}

}  // namespace cached::import
