// Futexes on words of shared memory: sleeping until another process changes one, and waking who sleeps.
//
// Shared, not private: the two sides map the word at different addresses in different processes.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <ctime>

#include "base/clock.h"

namespace cached::shm {

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));

// Sleeps while `word` is `expected`, for at most `timeout_ns`. False: the time is over. True: woken, or the
// word had another value, or a signal came; the caller looks again in each case.
inline bool futex_wait(std::atomic<uint32_t>& word, uint32_t expected, uint64_t timeout_ns) {
  timespec timeout{};
  timeout.tv_sec = static_cast<time_t>(timeout_ns / kNanosecondsPerSecond);
  timeout.tv_nsec = static_cast<long>(timeout_ns % kNanosecondsPerSecond);
  const long woken =
      ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT, expected, &timeout, nullptr, 0);
  return woken == 0 || errno != ETIMEDOUT;
}

// Wakes up to `waiters` of those who sleep on `word`.
inline void futex_wake(std::atomic<uint32_t>& word, int waiters = INT_MAX) {
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, waiters, nullptr, nullptr, 0);
}

}  // namespace cached::shm
