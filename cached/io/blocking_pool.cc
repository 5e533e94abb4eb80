// The pool's threads: see blocking_pool.h.
#include "cached/io/blocking_pool.h"

#include <pthread.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/log.h"

namespace cached::io {
namespace {

constexpr size_t kThreadNameLength = 15;  // the kernel's limit

}  // namespace

BlockingPool::BlockingPool(std::string name, unsigned threads)
    : name_(name.substr(0, kThreadNameLength)), thread_limit_(std::max(1U, threads)) {}

BlockingPool::~BlockingPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  available_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void BlockingPool::submit(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    const bool wants_thread = queue_.size() >= idle_ && threads_.size() < thread_limit_;
    if (!wants_thread || start_thread() || !threads_.empty()) {
      queue_.push_back(std::move(work));
      available_.notify_one();
      return;
    }
  }
  work();
}

// With mutex_ held.
bool BlockingPool::start_thread() {
  try {
    threads_.emplace_back([this] { run_worker(); });
    return true;
  } catch (const std::system_error& error) {
    log_warning("pool {}: cannot start thread {}: {}; raise TasksMax or the limit of processes", name_,
                threads_.size() + 1, error.what());
    return false;
  }
}

void BlockingPool::run_worker() {
  pthread_setname_np(pthread_self(), name_.c_str());
  std::unique_lock lock(mutex_);
  while (true) {
    while (!queue_.empty()) {
      std::function<void()> work = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      work();
      work = nullptr;
      lock.lock();
    }
    if (stopping_) return;
    ++idle_;
    available_.wait(lock);
    --idle_;
  }
}

}  // namespace cached::io
