#include "mount/launch.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/status.h"
#include "mount/supervisor.h"

namespace cached::mount {

namespace {

constexpr char kReady = 'R';
constexpr char kFailed = 'F';

// All that the pipe gives until its other end is closed.
std::string read_all(int fd) {
  std::string text;
  char buffer[512];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer, static_cast<size_t>(got));
  }
}

void write_all(int fd, const std::string& text) {
  for (size_t written = 0; written < text.size();) {
    const ssize_t put = ::write(fd, text.data() + written, text.size() - written);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return;
    written += static_cast<size_t>(put);
  }
}

// What sd_notify("READY=1") does, for a unit of Type=notify; nothing without a service manager that asks for
// it.
void notify_service_manager() {
  const char* const path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path == nullptr || std::strlen(path) >= sizeof address.sun_path) return;
  std::strcpy(address.sun_path, path);
  if (path[0] == '@') address.sun_path[0] = '\0';
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
  const std::string message = "READY=1";
  static_cast<void>(::sendto(socket.get(), message.data(), message.size(), MSG_NOSIGNAL,
                             reinterpret_cast<const sockaddr*>(&address), length));
}

int wait_for_start(int pipe, pid_t child) {
  const std::string report = read_all(pipe);
  if (!report.empty() && report[0] == kReady) return 0;
  if (!report.empty() && report[0] == kFailed) {
    print_error(report.substr(1));
  } else {
    print_error("the mount process ended before the mount was established");
  }
  ::waitpid(child, nullptr, 0);
  return kExitFailure;
}

}  // namespace

void detach_from_terminal() {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return;
  for (int fd = 0; fd <= 2; ++fd) ::dup2(null, fd);
  if (null > 2) ::close(null);
}

void print_error(const std::string& message) {
  std::string line = message;
  std::replace(line.begin(), line.end(), '\n', ' ');
  std::fprintf(stderr, "cached-mount: %s\n", line.c_str());
}

void StartReport::ready() {
  const std::lock_guard lock(mutex_);
  if (std::exchange(reported_, true)) return;
  if (!background_) {
    notify_service_manager();
    return;
  }
  detach_from_terminal();
  write_all(pipe_.get(), std::string(1, kReady));
  pipe_.reset();
}

void StartReport::failed(const std::string& message) {
  const std::lock_guard lock(mutex_);
  if (std::exchange(reported_, true)) return;
  if (!background_) {
    print_error(message);
    return;
  }
  write_all(pipe_.get(), kFailed + message);
  pipe_.reset();
}

bool StartReport::reported() {
  const std::lock_guard lock(mutex_);
  return reported_;
}

int launch(bool foreground, const std::string& mountpoint, const std::function<int(StartReport&)>& body) {
  if (foreground) {
    StartReport report;
    return body(report);
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    print_error(Status::from_errno("pipe").message());
    return kExitFailure;
  }
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) {
    print_error(Status::from_errno("fork").message());
    return kExitFailure;
  }
  if (child > 0) {
    writer.reset();
    return wait_for_start(reader.get(), child);
  }
  reader.reset();
  ::setsid();
  if (::chdir("/") != 0) return kExitFailure;
  return supervise(mountpoint, std::move(writer), body);
}

}  // namespace cached::mount
