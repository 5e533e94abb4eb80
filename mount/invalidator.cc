#include "mount/invalidator.h"

#include <pthread.h>

#include <utility>

namespace cached::mount {

namespace {

// A file that changes faster than its pages can be dropped is answered with pages that stay marked as stale;
// its READs are refused until it settles.
constexpr unsigned kMaximumRounds = 8;
// Between dropping the pages and serving new ones. A read() that was copying old pages now misses the next
// one and asks for it; it must do so, and be refused, before somebody else has loaded the new version's page
// in its place.
constexpr std::chrono::milliseconds kGrace{20};
// The same where the bytes are very likely the same and no READ is refused.
constexpr std::chrono::milliseconds kShortGrace{1};

}  // namespace

void Invalidator::start(Notify notify) {
  notify_ = std::move(notify);
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "invalidator");
    run();
  });
}

void Invalidator::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

bool Invalidator::wait_until_idle(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, limit, [this] { return jobs_.empty() && !busy_; });
}

void Invalidator::enqueue(Inode* inode, Scope scope, std::function<void()> then) {
  inodes_.retain(inode);
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back({inode, scope, std::move(then)});
  }
  wake_.notify_one();
}

void Invalidator::drop_pages(Inode* inode, std::function<void()> then) {
  enqueue(inode, Scope::kPages, std::move(then));
}

void Invalidator::expire_attributes(Inode* inode, std::chrono::milliseconds limit) {
  auto done = std::make_shared<std::promise<void>>();
  const std::future<void> expired = done->get_future();
  enqueue(inode, Scope::kAttributes, [done] { done->set_value(); });
  if (limit.count() > 0) expired.wait_for(limit);
}

void Invalidator::drop_pages_now(Inode* inode) {
  for (unsigned round = 0; round < kMaximumRounds && inode->pages_stale(); ++round) {
    const bool refusing = inode->refusing();
    const shm::ObjectId object = inode->begin_invalidation();
    notify_(inodes_.nodeid(inode), Scope::kPages);
    page_invalidations_.fetch_add(1, std::memory_order_relaxed);
    // A page that a reader is copying from at that moment has a reference more, and the kernel leaves it in
    // the cache without a word. So the pages are dropped again when such readers have had time to end.
    std::this_thread::sleep_for(refusing ? kGrace : kShortGrace);
    notify_(inodes_.nodeid(inode), Scope::kPages);
    if (refusing) refusals_.begin_settling(*inode);
    inode->end_invalidation(object);
  }
}

void Invalidator::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    const Job job = std::move(jobs_.front());
    jobs_.pop_front();
    busy_ = true;
    lock.unlock();
    if (job.scope == Scope::kPages) {
      drop_pages_now(job.inode);
    } else {
      notify_(inodes_.nodeid(job.inode), Scope::kAttributes);
    }
    if (job.then) job.then();
    inodes_.release(job.inode);
    lock.lock();
    busy_ = false;
    if (jobs_.empty()) idle_.notify_all();
  }
}

}  // namespace cached::mount
