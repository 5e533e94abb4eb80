// The reactor's loop and its ring: see reactor.h.
#include "cached/io/reactor.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <utility>

#include "base/log.h"

namespace cached::io {
namespace {

constexpr size_t kThreadNameLength = 15;  // the kernel's limit
// Tags of entries that are not operations; an operation's tag is its address.
constexpr uint64_t kWakeupTag = 1;
constexpr uint64_t kCancelTag = 2;
// Longest sleep where a timer exists: the kernel adds the time to its own clock without a look at overflow.
constexpr uint64_t kLongestTimedSleepNs = 3600 * kNanosecondsPerSecond;
constexpr uint64_t kForeverNs = UINT64_MAX;
// While stopping, cancellations are repeated: one may miss a read that is just being retried.
constexpr uint64_t kCancelAgainNs = 50 * kNanosecondsPerMillisecond;
constexpr auto kPauseAfterError = std::chrono::milliseconds(1);
constexpr unsigned kReapBatch = 64;
constexpr unsigned kCompletionsPerEntry = 4;

// From what the newest kernels offer down to what 5.11 has.
constexpr unsigned kPlainFlags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
constexpr unsigned kRunFlags =
    kPlainFlags | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
constexpr std::array<unsigned, 5> kFlagSteps = {
    kRunFlags | IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,  // 6.1
    kRunFlags | IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER,                               // 6.0
    kRunFlags,                                                                                      // 5.19
    kPlainFlags | IORING_SETUP_SUBMIT_ALL,                                                          // 5.18
    kPlainFlags};

Status setup_error(int error_number) {
  switch (error_number) {
    case ENOSYS:
      return Status(
          ENOSYS,
          "this kernel has no io_uring, or a container hides it; cached needs Linux 5.11 or later and a "
          "seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register");
    case EPERM:
      return Status(
          EPERM,
          "io_uring is disabled here; enable it with sysctl kernel.io_uring_disabled=0 (with 1, put the "
          "daemon's group into kernel.io_uring_group), and in a container allow it in the seccomp profile");
    case EINVAL:
      return Status(ENOSYS, "this kernel's io_uring is too old; cached needs Linux 5.11 or later");
    case ENOMEM:
      return Status(
          ENOMEM,
          "no memory for an io_uring; before Linux 5.12 it counts as locked memory: raise LimitMEMLOCK");
    default:
      return Status::from_errno(error_number, "cannot set up an io_uring");
  }
}

uint64_t tag_of(const Operation* operation) {
  return reinterpret_cast<uintptr_t>(operation);
}
Operation* operation_of(uint64_t tag) {
  return reinterpret_cast<Operation*>(static_cast<uintptr_t>(tag));
}

// In the queue, or with the kernel, which puts them there when it is entered.
bool completions_wait(const io_uring& ring) {
  const unsigned flags = __atomic_load_n(ring.sq.kflags, __ATOMIC_RELAXED);
  return io_uring_cq_ready(&ring) > 0 || (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

}  // namespace

void Operation::await_suspend(std::coroutine_handle<> waiter) {
  waiter_ = waiter;
  reactor_.begin(this);
}

void OperationList::push_back(Operation* operation) {
  operation->previous_ = last_;
  operation->next_ = nullptr;
  (last_ == nullptr ? first_ : last_->next_) = operation;
  last_ = operation;
}

void OperationList::remove(Operation* operation) {
  (operation->previous_ == nullptr ? first_ : operation->previous_->next_) = operation->next_;
  (operation->next_ == nullptr ? last_ : operation->next_->previous_) = operation->previous_;
}

// Making and ending it.

Result<std::unique_ptr<Reactor>> Reactor::create(const Options& options) {
  std::unique_ptr<Reactor> reactor(new Reactor(options));
  CACHED_RETURN_IF_ERROR(reactor->set_up().with_context("reactor " + options.name));
  return reactor;
}

Status Reactor::set_up() {
  const unsigned entries = std::max(1U, options_.queue_entries);
  int result = -EINVAL;
  for (size_t step = options_.plain_ring ? kFlagSteps.size() - 1 : 0; step < kFlagSteps.size(); ++step) {
    io_uring_params parameters{};
    parameters.flags = kFlagSteps[step];
    parameters.cq_entries = entries * kCompletionsPerEntry;
    result = io_uring_queue_init_params(entries, &ring_, &parameters);
    if (result != -EINVAL) break;  // an unknown flag
  }
  if (result < 0) return setup_error(-result);
  ring_ready_ = true;
  ring_disabled_ = (ring_.flags & IORING_SETUP_R_DISABLED) != 0;
  constexpr unsigned kNeeded = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;
  if ((ring_.features & kNeeded) != kNeeded) return setup_error(EINVAL);
  // The other half of the completion queue is for cancellations.
  kernel_limit_ = ring_.cq.ring_entries / 2;
  // Blocking, since a read of a non-blocking one would not wait in the ring.
  wakeup_.reset(eventfd(0, EFD_CLOEXEC));
  return wakeup_.valid() ? Status() : Status::from_errno("cannot make an eventfd");
}

Reactor::~Reactor() {
  if (thread_.joinable()) stop();
  if (ring_ready_) io_uring_queue_exit(&ring_);
}

void Reactor::start() {
  thread_ = std::thread([this] { run_loop(); });
}

void Reactor::stop() {
  {
    const std::lock_guard lock(posted_mutex_);
    stopping_ = true;
    wake_if_asleep();
  }
  if (thread_.joinable()) thread_.join();
}

void Reactor::post(std::function<void()> work) {
  // All of it under the lock: the work itself may lead to the end of the reactor, and stop() waits for the
  // lock.
  const std::lock_guard lock(posted_mutex_);
  if (stopping_) return;
  posted_.push_back(std::move(work));
  has_posted_ = true;
  wake_if_asleep();
}

// The other side is submit_or_sleep(): it sets asleep_, then looks for work. Both orders are sequentially
// consistent, so that either it sees the work or we see that it sleeps.
void Reactor::wake_if_asleep() {
  if (!asleep_ || !asleep_.exchange(false)) return;
  const uint64_t one = 1;
  // Cannot fail: the counter is read back to 0 long before it could overflow.
  [[maybe_unused]] const ssize_t written = ::write(wakeup_.get(), &one, sizeof one);
}

// The loop.

void Reactor::run_loop() {
  enter_thread();
  while (!finished()) {
    run_posted();
    if (stopping_ && !draining_) begin_draining();
    run_timers();
    reap();
    submit_or_sleep();
  }
  io_uring_unregister_ring_fd(&ring_);
}

void Reactor::enter_thread() {
  thread_id_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  pthread_setname_np(pthread_self(), options_.name.substr(0, kThreadNameLength).c_str());
  if (ring_disabled_) {
    // liburing 2.3 declares io_uring_enable_rings, but its shared library does not have it.
    const long result =
        syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    if (result < 0) log_error("reactor {}: cannot enable its io_uring: errno {}", name(), errno);
  }
  registry_.open(&ring_, name(), options_.plain_ring);
  // Spares the kernel a look-up in each call; before 5.18 there is no such thing.
  io_uring_register_ring_fd(&ring_);
}

bool Reactor::finished() const {
  return draining_ && in_flight_ == 0 && !wakeup_armed_ && !has_posted_;
}

void Reactor::begin_draining() {
  draining_ = true;
  while (Operation* operation = waiting_.first()) {
    waiting_.remove(operation);
    end(operation, -ECANCELED);
  }
  cancel_all();
}

void Reactor::cancel_all() {
  cancels_.clear();
  for (const Operation* operation = in_kernel_.first(); operation;
       operation = OperationList::after(operation)) {
    cancels_.push_back(tag_of(operation));
  }
  if (wakeup_armed_) cancels_.push_back(kWakeupTag);
}

void Reactor::run_posted() {
  if (!has_posted_) return;
  {
    const std::lock_guard lock(posted_mutex_);
    running_posted_.swap(posted_);
    has_posted_ = false;
  }
  for (std::function<void()>& entry : running_posted_) {
    const std::function<void()> work = std::exchange(entry, nullptr);  // freed as soon as it has run
    work();
  }
  running_posted_.clear();
}

void Reactor::add_timer(uint64_t when_ns, std::coroutine_handle<> waiter) {
  timers_.push_back(Timer{when_ns, next_timer_order_++, waiter});
  std::push_heap(timers_.begin(), timers_.end(), std::greater<>());
}

void Reactor::run_timers() {
  if (timers_.empty() || draining_) return;
  const uint64_t now_ns = clock().monotonic_ns();
  while (!timers_.empty() && timers_.front().when_ns <= now_ns) {
    std::pop_heap(timers_.begin(), timers_.end(), std::greater<>());
    due_timers_.push_back(timers_.back());
    timers_.pop_back();
  }
  for (const Timer& timer : due_timers_) resume(timer.waiter);
  due_timers_.clear();
}

// Completions.

void Reactor::reap() {
  resume_ended();
  struct Completion {
    uint64_t tag;
    int result;
  };
  std::array<io_uring_cqe*, kReapBatch> entries;
  std::array<Completion, kReapBatch> completions;
  unsigned total = 0;
  unsigned count = 0;
  do {
    count = io_uring_peek_batch_cqe(&ring_, entries.data(), kReapBatch);
    for (unsigned i = 0; i < count; ++i) completions[i] = Completion{entries[i]->user_data, entries[i]->res};
    io_uring_cq_advance(&ring_, count);
    for (unsigned i = 0; i < count; ++i) complete(completions[i].tag, completions[i].result);
    total += count;
  } while (count == kReapBatch && total < ring_.cq.ring_entries);
}

void Reactor::complete(uint64_t tag, int result) {
  if (tag == kCancelTag) return;
  if (tag == kWakeupTag) {
    wakeup_armed_ = false;
    return;
  }
  Operation* operation = operation_of(tag);
  in_kernel_.remove(operation);
  --in_kernel_count_;
  --in_flight_;
  operation->result_ = result;
  resume(operation->waiter_);
}

// Ends an operation that is in no list; its coroutine goes on from the loop, never from within the caller.
void Reactor::end(Operation* operation, int result) {
  operation->result_ = result;
  ended_.push_back(operation);
}

void Reactor::resume_ended() {
  OperationList ended = std::exchange(ended_, OperationList());
  while (Operation* operation = ended.first()) {
    ended.remove(operation);
    --in_flight_;
    resume(operation->waiter_);
  }
}

// Sleeping.

void Reactor::submit_or_sleep() {
  // Who sees that we sleep makes a system call to wake us; there is nothing to say while completions wait.
  bool polled = poll() || completions_wait(ring_);
  if (!polled) {
    announce(true);
    polled = poll();  // for those who wrote before they could see that we sleep
  }
  if (polled) announce(false);
  fill_queue();
  enter_kernel(polled ? 0 : longest_sleep_ns());
  if (!polled) announce(false);
}

void Reactor::announce(bool sleeping) {
  asleep_ = sleeping;
  if (sleeping_flag_ != nullptr) *sleeping_flag_ = sleeping ? 1 : 0;
}

// 0 where there is something to do.
uint64_t Reactor::longest_sleep_ns() const {
  if (has_posted_ || !ended_.empty() || stopping_ != draining_ || finished()) return 0;
  if (draining_) return kCancelAgainNs;
  if (timers_.empty()) return kForeverNs;
  const uint64_t now_ns = clock().monotonic_ns();
  const uint64_t when_ns = timers_.front().when_ns;
  return when_ns <= now_ns ? 0 : std::min(when_ns - now_ns, kLongestTimedSleepNs);
}

// Submitting. Coroutines only queue operations; the loop hands them to the kernel, all of a turn in one call.

void Reactor::begin(Operation* operation) {
  ++in_flight_;
  if (draining_) {
    end(operation, -ECANCELED);
  } else {
    waiting_.push_back(operation);
  }
}

void Reactor::fill_queue() {
  // Cancellations go first: a tag in there must not meet a new operation at the same address.
  if (!arm_wakeup() || !send_cancels()) return;
  while (in_kernel_count_ < kernel_limit_ && !waiting_.empty()) {
    io_uring_sqe* entry = next_entry();
    if (entry == nullptr) return;
    Operation* operation = waiting_.first();
    waiting_.remove(operation);
    *entry = operation->entry_;
    registry_.rewrite(entry);
    entry->user_data = tag_of(operation);
    in_kernel_.push_back(operation);
    ++in_kernel_count_;
  }
}

bool Reactor::arm_wakeup() {
  if (wakeup_armed_ || draining_) return true;
  io_uring_sqe* entry = next_entry();
  if (entry == nullptr) return false;
  io_uring_prep_read(entry, wakeup_.get(), &wakeup_value_, sizeof wakeup_value_, 0);
  entry->user_data = kWakeupTag;
  wakeup_armed_ = true;
  return true;
}

bool Reactor::send_cancels() {
  while (!cancels_.empty()) {
    io_uring_sqe* entry = next_entry();
    if (entry == nullptr) return false;
    io_uring_prep_cancel64(entry, cancels_.back(), 0);
    entry->user_data = kCancelTag;
    cancels_.pop_back();
  }
  return true;
}

// A free entry of the submission queue; null if the kernel takes nothing now.
io_uring_sqe* Reactor::next_entry() {
  if (io_uring_sqe* entry = io_uring_get_sqe(&ring_)) return entry;
  return enter_kernel(0) ? io_uring_get_sqe(&ring_) : nullptr;
}

// Submits what is queued and waits for a completion, `wait_ns` at most. False if the kernel took nothing.
bool Reactor::enter_kernel(uint64_t wait_ns) {
  int result = 0;
  if (wait_ns == 0) {
    result = io_uring_submit(&ring_);
  } else {
    __kernel_timespec time{};
    time.tv_sec = static_cast<int64_t>(wait_ns / kNanosecondsPerSecond);
    time.tv_nsec = static_cast<int64_t>(wait_ns % kNanosecondsPerSecond);
    io_uring_cqe* first = nullptr;
    result =
        io_uring_submit_and_wait_timeout(&ring_, &first, 1, wait_ns == kForeverNs ? nullptr : &time, nullptr);
  }
  if (result == -ETIME && draining_) cancel_all();
  if (result >= 0 || result == -ETIME || result == -EINTR) return true;
  handle_enter_error(-result);
  return false;
}

void Reactor::handle_enter_error(int error) {
  // Short of memory or of room for completions: what is queued stays there for the next turn.
  const bool passing = error == EAGAIN || error == EBUSY;
  if (!passing) {
    if (error != last_enter_error_) log_error("reactor {}: io_uring_enter failed: errno {}", name(), error);
    last_enter_error_ = error;
    fail_unsubmitted(error);
  }
  if (io_uring_cq_ready(&ring_) == 0) std::this_thread::sleep_for(kPauseAfterError);
}

// Takes everything back that the kernel has not seen; operations end with the error.
void Reactor::fail_unsubmitted(int error) {
  io_uring_sq& queue = ring_.sq;
  const unsigned head = *queue.khead;
  for (unsigned i = head; i != queue.sqe_tail; ++i) {
    const io_uring_sqe& entry = queue.sqes[i & queue.ring_mask];
    if (entry.user_data == kWakeupTag) {
      wakeup_armed_ = false;
    } else if (entry.user_data == kCancelTag) {
      cancels_.push_back(entry.addr);
    } else {
      Operation* operation = operation_of(entry.user_data);
      in_kernel_.remove(operation);
      --in_kernel_count_;
      end(operation, -error);
    }
  }
  queue.sqe_head = head;
  queue.sqe_tail = head;
  *queue.ktail = head;
}

// Operations.

Operation Reactor::readv(int fd, const iovec* iovecs, unsigned count, uint64_t offset) {
  return Operation(*this,
                   [&](io_uring_sqe* entry) { io_uring_prep_readv(entry, fd, iovecs, count, offset); });
}

Operation Reactor::read(int fd, void* buffer, unsigned length, uint64_t offset) {
  return Operation(*this,
                   [&](io_uring_sqe* entry) { io_uring_prep_read(entry, fd, buffer, length, offset); });
}

Operation Reactor::writev(int fd, const iovec* iovecs, unsigned count, uint64_t offset) {
  return Operation(*this,
                   [&](io_uring_sqe* entry) { io_uring_prep_writev(entry, fd, iovecs, count, offset); });
}

Operation Reactor::fdatasync(int fd) {
  return Operation(*this,
                   [&](io_uring_sqe* entry) { io_uring_prep_fsync(entry, fd, IORING_FSYNC_DATASYNC); });
}

Operation Reactor::statx(int fd, int flags, unsigned mask, struct statx* result) {
  return Operation(*this, [&](io_uring_sqe* entry) {
    io_uring_prep_statx(entry, fd, "", AT_EMPTY_PATH | flags, mask, result);
  });
}

Operation Reactor::poll_readable(int fd) {
  return Operation(*this, [&](io_uring_sqe* entry) { io_uring_prep_poll_add(entry, fd, POLLIN); });
}

Operation Reactor::nop() {
  return Operation(*this, [](io_uring_sqe* entry) { io_uring_prep_nop(entry); });
}

void Reactor::cancel_fd(int fd) {
  for (Operation* operation = waiting_.first(); operation != nullptr;) {
    Operation* const current = std::exchange(operation, OperationList::after(operation));
    if (current->entry_.fd != fd) continue;
    waiting_.remove(current);
    end(current, -ECANCELED);
  }
  for (const Operation* operation = in_kernel_.first(); operation;
       operation = OperationList::after(operation)) {
    if (operation->entry_.fd == fd) cancels_.push_back(tag_of(operation));
  }
}

}  // namespace cached::io
