// Order of things. Signals are blocked before the first thread exists, so that only the one that waits for
// them gets them. The client attaches before anything is mounted: a failure up to there leaves nothing
// behind. After mount() a thread of its own looks at the mount point, which waits until the kernel and
// libfuse have agreed on the connection; then the mount works, its read-ahead can be set (the kernel would
// overwrite it before), and success is reported.
//
// The end. libfuse's loop returns when the file system was unmounted or when it was told to exit; the workers
// are joined by then, and with them their channels. The invalidator may be inside the kernel, waiting for
// pages whose READs nobody answers any more: if it does not come to rest the connection is broken, while the
// mount is still there to break it through. Then comes unmounting. For a process that is killed a child does
// the same (death_watch.h).
#include "mount/session.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "mount/death_watch.h"
#include "mount/fuse.h"
#include "mount/kernel_tuning.h"
#include "mount/operations.h"
#include "mount/supervisor.h"

namespace cached::mount {

namespace {

constexpr unsigned kMaximumReadMountOption = 1024 * 1024;
constexpr std::chrono::milliseconds kKickInterval{50};
// A worker that waits for the daemon keeps the process from ending. After this the connection is broken and
// the process ends as it is.
constexpr std::chrono::seconds kShutdownLimit{10};
constexpr std::chrono::milliseconds kInvalidatorPatience{500};
constexpr int kWakeSignal = SIGUSR2;

// libfuse speaks through one callback of the process. Until the mount works its last line is kept for the
// report.
std::mutex fuse_message_mutex;
std::string fuse_message;
bool mounted = false;

void take_fuse_message(fuse_log_level level, const char* format, va_list arguments) {
  char line[512];
  std::vsnprintf(line, sizeof(line), format, arguments);
  std::string message(line);
  while (!message.empty() && message.back() == '\n') message.pop_back();
  if (level > FUSE_LOG_WARNING) return;
  const std::lock_guard lock(fuse_message_mutex);
  if (mounted) {
    log_warning("{}", printable(message));
  } else {
    fuse_message = message;
  }
}

void note_mounted() {
  const std::lock_guard lock(fuse_message_mutex);
  mounted = true;
}

std::string last_fuse_message() {
  const std::lock_guard lock(fuse_message_mutex);
  return fuse_message.empty() ? "no reason given" : fuse_message;
}

sigset_t ending_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  return signals;
}

void block_signals() {
  const sigset_t signals = ending_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, nullptr);
  // Without SA_RESTART: it has to interrupt libfuse's wait for its workers.
  struct sigaction wake {};
  wake.sa_handler = [](int) {};
  sigaction(kWakeSignal, &wake, nullptr);
}

// Ends the loop when a signal comes, and the process when the loop does not end.
class SignalWatcher {
 public:
  SignalWatcher(fuse_session* session, std::string mountpoint, const DeathWatch& death_watch)
      : session_(session),
        mountpoint_(std::move(mountpoint)),
        death_watch_(death_watch),
        main_thread_(pthread_self()) {
    thread_ = std::thread([this] { watch(); });
  }
  ~SignalWatcher() {
    finished_ = true;
    request_end();
    thread_.join();
  }
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

  // As if SIGTERM had come.
  void request_end() { pthread_kill(thread_.native_handle(), SIGTERM); }
  // The loop has returned.
  void loop_ended() { finished_ = true; }

 private:
  void watch() {
    const sigset_t signals = ending_signals();
    int signal = 0;
    while (sigwait(&signals, &signal) != 0) {
    }
    if (finished_) return;
    log_info("ending on signal {}", signal);
    fuse_session_exit(session_);
    const auto limit = std::chrono::steady_clock::now() + kShutdownLimit;
    while (!finished_) {
      // The flag is looked at between two waits; a wake-up before the wait is lost, so there are several.
      pthread_kill(main_thread_, kWakeSignal);
      std::this_thread::sleep_for(kKickInterval);
      if (std::chrono::steady_clock::now() > limit) end_by_force();
    }
  }

  [[noreturn]] void end_by_force() {
    log_error("requests are still waiting for the daemon; breaking the connection");
    static_cast<void>(abort_connection(death_watch_.device(), mountpoint_));
    ::umount2(mountpoint_.c_str(), MNT_DETACH);
    std::_Exit(kExitFailure);
  }

  fuse_session* session_;
  const std::string mountpoint_;
  const DeathWatch& death_watch_;
  const pthread_t main_thread_;
  std::atomic<bool> finished_{false};
  std::thread thread_;
};

// Owns a fuse_session; unmounts it if it is mounted.
class FuseSession {
 public:
  FuseSession(const Options& options, Operations* operations) {
    std::string list = "ro,default_permissions,subtype=cached,fsname=cached:" + options.volume +
                       ",max_read=" + std::to_string(kMaximumReadMountOption);
    if (options.allow_other) list += ",allow_other";
    for (const std::string& flag : options.kernel_flags) list += "," + flag;
    std::string program = "cached-mount";
    std::string dash_o = "-o";
    char* arguments[] = {program.data(), dash_o.data(), list.data(), nullptr};
    fuse_args args = FUSE_ARGS_INIT(3, arguments);
    session_ = fuse_session_new(&args, &Operations::table(), sizeof(fuse_lowlevel_ops), operations);
    fuse_opt_free_args(&args);
  }
  ~FuseSession() {
    if (session_ == nullptr) return;
    unmount();
    fuse_session_destroy(session_);
  }
  FuseSession(const FuseSession&) = delete;
  FuseSession& operator=(const FuseSession&) = delete;

  fuse_session* get() const { return session_; }
  bool mount(const std::string& mountpoint) {
    mounted_ = fuse_session_mount(session_, mountpoint.c_str()) == 0;
    return mounted_;
  }
  void unmount() {
    if (std::exchange(mounted_, false)) fuse_session_unmount(session_);
  }
  // Serves until the end: 0, or an error of the connection.
  int serve(unsigned threads) {
    fuse_loop_config* config = fuse_loop_cfg_create();
    fuse_loop_cfg_set_clone_fd(config, 1);
    // Idle threads are never ended: libfuse's default, and each has a channel of ours.
    fuse_loop_cfg_set_max_threads(config, threads);
    const int result = fuse_session_loop_mt(session_, config);
    fuse_loop_cfg_destroy(config);
    return result;
  }

 private:
  fuse_session* session_ = nullptr;
  bool mounted_ = false;
};

// Looks at the new mount until it answers, tunes it and reports. Runs while the loop serves.
void complete_start(const Options& options, const std::string& mountpoint, DeathWatch& death_watch,
                    SignalWatcher& watcher, StartReport& report) {
  struct stat root {};
  if (::stat(mountpoint.c_str(), &root) != 0) {
    report.failed(Status::from_errno("the mount at " + mountpoint + " does not answer").message());
    watcher.request_end();
    return;
  }
  death_watch.mounted(root.st_dev);
  const Status tuned = set_read_ahead(root.st_dev, options.read_ahead_bytes);
  // Before the log's first line: a process that goes into the background prints nothing on success.
  report.ready();
  log_info("volume {} is mounted at {}", printable(options.volume), printable(mountpoint));
  if (!tuned.ok()) log_warning("the kernel's read-ahead stays as it is: {}", tuned.message());
}

// No worker answers any more: a call of the invalidator's that waits for a READ ends with the connection
// alone.
void break_if_stuck(Operations& operations, dev_t device, const std::string& mountpoint) {
  if (operations.invalidator().wait_until_idle(kInvalidatorPatience)) return;
  if (const Status status = abort_connection(device, mountpoint); !status.ok())
    log_warning("{}", status.message());
}

// The directory that becomes the mount's root.
Result<shm::InodeInfo> shown_root(const Options& options, shm::Client& client) {
  if (options.subdirectory.empty()) return client.root();
  Result<std::unique_ptr<shm::Channel>> channel = client.open_channel();
  if (!channel.ok()) return channel.status();
  Result<shm::InodeInfo> root = (*channel)->resolve(shm::Handle{}, options.subdirectory);
  const std::string what =
      "the directory " + printable(options.subdirectory) + " of volume " + options.volume;
  if (!root.ok()) return Status::from_errno(root.error_number(), what + " cannot be found");
  if (!S_ISDIR(root->mode)) return Status(ENOTDIR, what + " is not a directory");
  return root;
}

// In the background stderr leads nowhere: the journal, where there is one.
LogOptions log_options(const Options& options) {
  LogOptions log;
  log.program = "cached-mount";
  log.level = options.log_level;
  log.file = options.log_file;
  if (!options.log_file.empty()) {
    log.target = LogTarget::kFile;
  } else if (!options.foreground && ::access(log.journal_socket.c_str(), W_OK) == 0) {
    log.target = LogTarget::kJournal;
  }
  return log;
}

int serve_mount(const Options& options, const std::string& mountpoint, shm::Client& client,
                DeathWatch& death_watch, StartReport& report) {
  const Result<shm::InodeInfo> root = shown_root(options, client);
  if (!root.ok()) {
    report.failed(root.status().message());
    return kExitFailure;
  }
  Operations operations(client, *root, options);
  FuseSession session(options, &operations);
  // What a predecessor left that died: attached as we are, we take its place.
  if (mount_is_dead(mountpoint)) ::umount2(mountpoint.c_str(), MNT_DETACH);
  if (session.get() == nullptr || !session.mount(mountpoint)) {
    report.failed("cannot mount at " + mountpoint + ": " + last_fuse_message());
    return kExitFailure;
  }
  note_mounted();
  operations.start(session.get());
  SignalWatcher watcher(session.get(), mountpoint, death_watch);
  std::thread starter([&] { complete_start(options, mountpoint, death_watch, watcher, report); });
  const int result = session.serve(options.threads);
  watcher.loop_ended();
  operations.end_waiting();
  break_if_stuck(operations, death_watch.device(), mountpoint);
  session.unmount();
  operations.invalidator().stop();
  starter.join();
  log_info("volume {} is unmounted", printable(options.volume));
  if (result < 0) log_error("the connection to the kernel failed with error {}", -result);
  return result < 0 ? kExitFailure : 0;
}

}  // namespace

int run_session(const Options& options, const std::string& mountpoint, StartReport& report) {
  Result<DeathWatch> death_watch = DeathWatch::start(mountpoint);
  if (!death_watch.ok()) {
    report.failed("cannot start the watcher of the mount's process: " + death_watch.status().message());
    return kExitFailure;
  }
  if (const Status status = init_log(log_options(options)); !status.ok()) {
    report.failed(status.message());
    return kExitFailure;
  }
  fuse_set_log_func(take_fuse_message);
  block_signals();
  shm::ClientOptions client_options;
  client_options.socket = options.socket;
  client_options.volume = options.volume;
  client_options.label = mountpoint;
  client_options.snapshot = options.snapshot;
  client_options.channels = options.threads;
  client_options.daemon_timeout_ms = options.daemon_timeout_ms;
  Result<std::unique_ptr<shm::Client>> client = shm::Client::connect(client_options);
  if (!client.ok()) {
    report.failed(client.status().message());
    return kExitFailure;
  }
  const int code = serve_mount(options, mountpoint, **client, *death_watch, report);
  if (report.reported()) return code;
  report.failed("the mount at " + mountpoint + " ended before it answered");
  return kExitFailure;
}

}  // namespace cached::mount
