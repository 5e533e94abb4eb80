// The one thread that takes pages away from the kernel, and sends the replies that have to wait for it.
//
// Why a thread of its own. To invalidate a file's pages the kernel locks each of them; a page is locked while
// a READ for it is under way; that READ must be answered by one of our workers. A worker that invalidates may
// therefore wait for a READ that waits for a worker, at the latest when it is the last free one. And the
// reply that carries a file's new attributes must not be sent before the old version's pages are gone: the
// application would see the new size and old bytes. So the worker hands over the inode together with the
// reply, as a closure, and goes on to the next request; here the pages are dropped, which may take as long as
// the slowest READ of that file, and then the reply is sent. READs never wait for this thread: that is what
// makes the order sound. (expire_attributes() waits, but for a bounded time.)
//
// Invalidations of different files queue behind each other. They are rare: a file of a dir: volume was
// changed in place while its pages were in the kernel.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>

#include "mount/inode_table.h"
#include "mount/refusals.h"

namespace cached::mount {

class Invalidator {
 public:
  enum class Scope { kPages, kAttributes };
  // Tells the kernel; kPages drops attributes too. Called on the invalidator's thread.
  using Notify = std::function<void(uint64_t nodeid, Scope scope)>;

  // Both must outlive it.
  Invalidator(InodeTable& inodes, Refusals& refusals) : inodes_(inodes), refusals_(refusals) {}
  ~Invalidator() { stop(); }
  Invalidator(const Invalidator&) = delete;
  Invalidator& operator=(const Invalidator&) = delete;

  void start(Notify notify);
  // Finishes what is queued and ends the thread. The kernel's connection must be gone or served by then: see
  // above.
  void stop();

  // Waits until nothing is queued or under way; false after `limit`.
  bool wait_until_idle(std::chrono::milliseconds limit);

  // Drops the kernel's pages of `inode` until they are of one version, then runs `then` on the invalidator's
  // thread (may be empty). Any thread; the caller holds a reference, a job holds one of its own.
  void drop_pages(Inode* inode, std::function<void()> then);
  // Makes the kernel ask for the attributes of `inode` before it uses them again. Waits until that has
  // happened, but at most `limit`, because this may be called on a worker that has a READ to answer.
  void expire_attributes(Inode* inode, std::chrono::milliseconds limit);

  // Jobs done since start.
  uint64_t page_invalidations() const { return page_invalidations_.load(std::memory_order_relaxed); }

 private:
  struct Job {
    Inode* inode = nullptr;
    Scope scope = Scope::kPages;
    std::function<void()> then;
  };
  void enqueue(Inode* inode, Scope scope, std::function<void()> then);
  void run();
  void drop_pages_now(Inode* inode);

  InodeTable& inodes_;
  Refusals& refusals_;
  Notify notify_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  bool busy_ = false;
  std::atomic<uint64_t> page_invalidations_{0};
  std::thread thread_;
};

}  // namespace cached::mount
