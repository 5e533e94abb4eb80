// Reactor: one thread, one io_uring, many coroutines.
//
// A shard of the daemon is a reactor and what its thread owns. The loop submits what coroutines asked for,
// waits in the kernel when there is nothing to do (no spinning), and resumes coroutines whose operations
// completed. The ring is set up with SINGLE_ISSUER and DEFER_TASKRUN where the kernel has them (6.1), with
// less where it has not.
//
// Threads. post(), hop() and stop() from any thread; all else from the reactor's own thread (coroutines that
// run on it). Operations return what the kernel returned (>= 0, or -errno); a short result is the caller's to
// handle. Buffers, paths and iovecs given to an operation must live until it has been awaited to its end.
#pragma once

#include <liburing.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "cached/io/ring_registry.h"
#include "cached/io/task.h"

namespace cached::io {

class Reactor;

// One operation in the kernel: await it for its result, once. Made by the reactor's methods. Immovable; it
// must not be destroyed before it ended.
class Operation {
 public:
  // `prepare` is called at once with the entry to fill in (io_uring_prep_...).
  template <typename Prepare>
  Operation(Reactor& reactor, Prepare&& prepare) : reactor_(reactor) {
    prepare(&entry_);
  }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter);
  int await_resume() const noexcept { return result_; }

 private:
  friend class Reactor;
  friend class OperationList;
  Reactor& reactor_;
  io_uring_sqe entry_{};
  std::coroutine_handle<> waiter_;
  Operation* previous_ = nullptr;  // in the list that holds it
  Operation* next_ = nullptr;
  int result_ = 0;
};

// Operations in order of arrival, linked through themselves; an operation is in one list at most.
class OperationList {
 public:
  bool empty() const { return first_ == nullptr; }
  Operation* first() const { return first_; }
  static Operation* after(const Operation* operation) { return operation->next_; }
  void push_back(Operation* operation);
  void remove(Operation* operation);

 private:
  Operation* first_ = nullptr;
  Operation* last_ = nullptr;
};

class Reactor {
 public:
  struct Options {
    std::string name;  // the thread's name; its first 15 characters count
    // Entries of the submission queue. Twice as many operations may be in the kernel at a time; more wait in
    // order.
    unsigned queue_entries = 1024;
    const Clock* clock = &system_clock();
    // Sets the ring up as on the oldest kernel that will do (5.11), for tests.
    bool plain_ring = false;
  };

  // Makes the ring. ENOSYS/EPERM where io_uring is missing or disabled, with a message that says how to
  // enable it.
  static Result<std::unique_ptr<Reactor>> create(const Options& options);
  // Stops it if that was not done.
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // Starts the thread and its loop.
  void start();
  // Ends the loop and joins the thread. What was posted before is run, later posts are dropped. Operations in
  // the kernel are cancelled and waited for at the kernel's pace (a read that runs on a disk ends by itself);
  // whoever awaits them, or begins new ones, goes on with -ECANCELED. Poller and timers are not served any
  // more: coroutines that wait for those, for an Event, or to hop here stay suspended for ever and their
  // frames are not freed. Any other thread, once.
  void stop();

  // Runs `work` on the reactor's thread soon, in order of posting by one thread. Any thread.
  void post(std::function<void()> work);

  // co_await reactor.hop(): go on on this reactor's thread. Any thread that runs coroutines. At once if
  // already there.
  auto hop() {
    struct Awaiter {
      Reactor& reactor;
      bool await_ready() const noexcept { return reactor.on_own_thread(); }
      void await_suspend(std::coroutine_handle<> waiter) {
        reactor.post([waiter] { resume(waiter); });
      }
      void await_resume() const noexcept {}
    };
    return Awaiter{*this};
  }
  bool on_own_thread() const {
    return std::this_thread::get_id() == thread_id_.load(std::memory_order_relaxed);
  }

  // Called by the loop in every turn, before it thinks of sleeping: polls for work that arrives through
  // shared memory. Returns whether it found any. Set before start().
  void set_poller(std::function<bool()> poller) { poller_ = std::move(poller); }
  // Where the loop says that it is about to sleep (1) and is awake (0), for those who write shared memory and
  // must know whether to wake it; stored seq_cst, and the poller is asked once more between the 1 and the
  // sleep. May be null.
  void set_sleeping_flag(std::atomic<uint32_t>* flag) { sleeping_flag_ = flag; }

  Operation readv(int fd, const iovec* iovecs, unsigned count, uint64_t offset);
  Operation read(int fd, void* buffer, unsigned length, uint64_t offset);
  Operation writev(int fd, const iovec* iovecs, unsigned count, uint64_t offset);
  Operation fdatasync(int fd);
  // statx(fd, "", AT_EMPTY_PATH | flags, mask). The kernel runs it on a worker thread, so a slow source
  // blocks nobody.
  Operation statx(int fd, int flags, unsigned mask, struct statx* result);
  Operation poll_readable(int fd);
  // Does nothing; ends with 0 in a later turn of the loop.
  Operation nop();
  // Cancels all operations on `fd`; awaits nothing: each of them ends with -ECANCELED, or with its result if
  // it was faster or could not be stopped any more. Close `fd` after that.
  void cancel_fd(int fd);

  // Registers `fd` with the ring: operations on it cost the kernel less, and the ring holds the open file,
  // with its locks, until the last of its operations has ended, even if the process dies. At most kMaxFiles
  // (ring_registry.h); where there is no room, or the kernel refuses (logged once), operations on `fd` go on
  // as before. Unregister it before it is closed: its number may come back as another file.
  void register_file(int fd) { registry_.add_file(fd); }
  // Takes that back; nothing if it is not registered. The ring holds the file until the operations on it have
  // ended, and on kernels before 6.3 a second longer.
  void unregister_file(int fd) { registry_.remove_file(fd); }
  // Announces memory that transfers of registered files often use; see ring_registry.h. It must stay mapped
  // as long as the reactor lives. Where the kernel cannot register it, transfers go on as before.
  void register_buffers(BufferRange range) { registry_.add_buffers(std::move(range)); }
  const RingRegistry::Stats& registry_stats() const { return registry_.stats(); }

  // Suspends until `monotonic_ns` on the reactor's clock.
  auto sleep_until(uint64_t monotonic_ns) {
    struct Awaiter {
      Reactor& reactor;
      uint64_t when_ns;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiter) { reactor.add_timer(when_ns, waiter); }
      void await_resume() const noexcept {}
    };
    return Awaiter{*this, monotonic_ns};
  }

  const Clock& clock() const { return *options_.clock; }
  const std::string& name() const { return options_.name; }
  // Operations begun and not ended. Own thread.
  unsigned in_flight() const { return in_flight_; }

 private:
  friend class Operation;
  struct Timer {
    uint64_t when_ns;
    uint64_t order;  // first come first served among equals
    std::coroutine_handle<> waiter;
    bool operator>(const Timer& other) const {
      return when_ns != other.when_ns ? when_ns > other.when_ns : order > other.order;
    }
  };

  explicit Reactor(const Options& options) : options_(options) {}
  Status set_up();
  void run_loop();
  void enter_thread();
  void begin_draining();
  void cancel_all();
  bool finished() const;

  void run_posted();
  void run_timers();
  void add_timer(uint64_t when_ns, std::coroutine_handle<> waiter);
  bool poll() { return !draining_ && poller_ && poller_(); }
  void reap();
  void complete(uint64_t tag, int result);
  void end(Operation* operation, int result);
  void resume_ended();

  void submit_or_sleep();
  void announce(bool sleeping);
  uint64_t longest_sleep_ns() const;
  void wake_if_asleep();

  void begin(Operation* operation);
  void fill_queue();
  bool arm_wakeup();
  bool send_cancels();
  io_uring_sqe* next_entry();
  bool enter_kernel(uint64_t wait_ns);
  void handle_enter_error(int error);
  void fail_unsubmitted(int error);

  const Options options_;
  io_uring ring_{};
  RingRegistry registry_;
  bool ring_ready_ = false;
  bool ring_disabled_ = false;  // until the loop's thread enables it and so becomes the one that may submit
  unsigned kernel_limit_ = 0;   // operations in the kernel at most, so that their completions have room
  UniqueFd wakeup_;             // eventfd: posts to a sleeping loop
  uint64_t wakeup_value_ = 0;
  bool wakeup_armed_ = false;
  std::thread thread_;
  std::atomic<std::thread::id> thread_id_{};
  std::mutex posted_mutex_;  // guards posted_, and held while a poster touches anything of the reactor
  std::vector<std::function<void()>> posted_;
  std::vector<std::function<void()>> running_posted_;  // the loop's turn of posted_
  std::atomic<bool> has_posted_{false};
  std::atomic<bool> asleep_{false};
  std::atomic<bool> stopping_{false};
  bool draining_ = false;      // the loop has seen stopping_
  std::vector<Timer> timers_;  // a heap, earliest first
  std::vector<Timer> due_timers_;
  uint64_t next_timer_order_ = 0;
  OperationList waiting_;          // for a place in the kernel
  OperationList in_kernel_;        // or in the submission queue
  OperationList ended_;            // without the kernel, to be resumed by the loop
  std::vector<uint64_t> cancels_;  // tags of operations to cancel
  unsigned in_kernel_count_ = 0;
  unsigned in_flight_ = 0;
  int last_enter_error_ = 0;  // to log each one once
  std::function<bool()> poller_;
  std::atomic<uint32_t>* sleeping_flag_ = nullptr;
};

}  // namespace cached::io
