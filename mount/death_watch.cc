#include "mount/death_watch.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <new>

#include "base/unique_fd.h"
#include "mount/kernel_tuning.h"

namespace cached::mount {

// The mutex is locked by the leading thread from start() to its end and never unlocked.
struct DeathWatch::Shared {
  pthread_mutex_t alive;
  std::atomic<uint64_t> device{0};
};

namespace {

static_assert(std::atomic<uint64_t>::is_always_lock_free, "it is shared between processes");

// An ordinary end takes a process with many threads some milliseconds.
constexpr int kEndPatienceMs = 1000;

Status make_robust(pthread_mutex_t* mutex) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  const int error = pthread_mutex_init(mutex, &attributes);
  pthread_mutexattr_destroy(&attributes);
  return error == 0 ? Status() : Status::from_errno(error, "a robust mutex in shared memory");
}

bool ends_within(int pidfd, int limit_ms) {
  pollfd entry{.fd = pidfd, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, limit_ms) != 0;
}

// A signal for the whole service or terminal is not for us: the process that we watch decides when to end.
void ignore_signals() {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) ::signal(signal, SIG_IGN);
}

// Until our parent has closed the pipe's other end, or died.
void wait_for_end_of(int pipe) {
  char byte;
  while (::read(pipe, &byte, 1) < 0 && errno == EINTR) {
  }
}

// Keeps only `fd`, as number 0: the others are our parent's, among them pipes whose end somebody waits for.
void keep_only(int fd) {
  ::dup2(fd, 0);
  ::syscall(SYS_close_range, 1U, ~0U, 0U);
}

}  // namespace

Result<DeathWatch> DeathWatch::start(const std::string& mountpoint) {
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (!pidfd.valid()) return Status::from_errno("pidfd_open");
  void* const memory =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Status::from_errno("mmap");
  Shared* const shared = new (memory) Shared;
  CACHED_RETURN_IF_ERROR(make_robust(&shared->alive));
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Status::from_errno("pipe2");
  const UniqueFd locked_reader(ends[0]);
  UniqueFd locked_writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return Status::from_errno("fork");
  if (child > 0) {
    // Locked by us alone, after the fork: a mutex that the child inherits as locked is a double lock to TSan.
    const int error = pthread_mutex_lock(&shared->alive);
    if (error != 0) return Status::from_errno(error, "a robust mutex in shared memory");
    return DeathWatch(shared);
  }

  ::prctl(PR_SET_NAME, "cached-watch");
  ignore_signals();
  locked_writer.reset();
  wait_for_end_of(locked_reader.get());
  keep_only(pidfd.get());
  static_cast<void>(::chdir("/"));
  const int locked = pthread_mutex_lock(&shared->alive);
  if (locked == EOWNERDEAD && !ends_within(0, kEndPatienceMs)) {
    const dev_t device = DeathWatch(shared).device();
    if (device != 0) static_cast<void>(abort_connection(device, mountpoint));
  }
  ::_exit(0);
}

void DeathWatch::mounted(dev_t device) {
  shared_->device.store(device, std::memory_order_release);
}

dev_t DeathWatch::device() const {
  return shared_->device.load(std::memory_order_acquire);
}

}  // namespace cached::mount
