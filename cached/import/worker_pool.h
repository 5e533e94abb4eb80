// WorkerPool: threads for calls that block, at sources and stores, with a bounded queue: whoever submits
// waits for room, so memory and descriptors of queued work are bounded too.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace cached::import {

class WorkerPool {
 public:
  // `name` of the threads: 15 characters count. `queue_limit` jobs may wait besides those that run.
  WorkerPool(const std::string& name, unsigned threads, size_t queue_limit);
  // Runs what was submitted to its end.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Waits for room and queues `job`. Any thread but the pool's own.
  void submit(std::function<void()> job);

 private:
  void work();

  const size_t queue_limit_;
  std::mutex mutex_;  // guards all below
  std::condition_variable work_;
  std::condition_variable room_;
  std::deque<std::function<void()>> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

// Something that one thread finishes and another waits for.
class Latch {
 public:
  explicit Latch(unsigned count = 1) : count_(count) {}
  void count_down();
  void wait();
  bool ready();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  unsigned count_;
};

}  // namespace cached::import
