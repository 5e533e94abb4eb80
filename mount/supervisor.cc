#include "mount/supervisor.h"

#include <signal.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/clock.h"

namespace cached::mount {

namespace {

constexpr time_t kFirstPauseS = 1;
constexpr time_t kLongestPauseS = 30;
constexpr uint64_t kSettledNs =
    60 * kNanosecondsPerSecond;  // who served for so long did not die of its start

sigset_t supervised_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  return signals;
}

// Waits for the child's end; signals that end us go on to it, and `*told_to_end` says that one came.
int wait_for_child(pid_t child, bool* told_to_end) {
  const sigset_t signals = supervised_signals();
  for (;;) {
    int status = 0;
    if (::waitpid(child, &status, WNOHANG) == child) return status;
    const int signal = ::sigwaitinfo(&signals, nullptr);
    if (signal <= 0 || signal == SIGCHLD) continue;
    *told_to_end = true;
    ::kill(child, SIGTERM);
  }
}

// False: a signal came that ends us.
bool pause_s(time_t duration_s) {
  sigset_t signals = supervised_signals();
  sigdelset(&signals, SIGCHLD);
  const timespec duration{duration_s, 0};
  return ::sigtimedwait(&signals, nullptr, &duration) < 0;
}

}  // namespace

bool mount_is_dead(const std::string& mountpoint) {
  // Not stat(), which the kernel may answer from what it remembers.
  struct statfs attributes {};
  return ::statfs(mountpoint.c_str(), &attributes) != 0 && errno == ENOTCONN;
}

int supervise(const std::string& mountpoint, UniqueFd pipe, const std::function<int(StartReport&)>& body) {
  const sigset_t signals = supervised_signals();
  sigset_t before;
  ::sigprocmask(SIG_BLOCK, &signals, &before);
  bool told_to_end = false;
  for (time_t next_pause_s = kFirstPauseS;;) {
    const uint64_t started_ns = system_clock().monotonic_ns();
    const pid_t child = ::fork();
    if (child < 0) return kExitFailure;
    if (child == 0) {
      ::sigprocmask(SIG_SETMASK, &before, nullptr);
      StartReport report(std::move(pipe));
      return body(report);
    }
    // Only the first one's start is waited for, and it alone holds the pipe and the caller's output now.
    pipe.reset();
    detach_from_terminal();
    const int status = wait_for_child(child, &told_to_end);
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : kExitFailure;
    if (told_to_end || !mount_is_dead(mountpoint)) return code;
    if (system_clock().monotonic_ns() - started_ns > kSettledNs) next_pause_s = kFirstPauseS;
    if (!pause_s(next_pause_s) || !mount_is_dead(mountpoint)) return code;
    next_pause_s = std::min(2 * next_pause_s, kLongestPauseS);
  }
}

}  // namespace cached::mount
