// Going into the background without leaving the user in the dark: the process that was called stays until the
// mount works or has failed, prints the one line that says why, and exits with the right code.
//
// The child is forked before anything else happens, because threads (the client's keeper, the invalidator) do
// not survive a fork. It reports through a pipe.
#pragma once

#include <functional>
#include <mutex>
#include <string>

#include "base/unique_fd.h"

namespace cached::mount {

inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

// stdin, stdout and stderr become /dev/null: whoever called us may wait for the end of their pipes.
void detach_from_terminal();

// Prints "cached-mount: MESSAGE" as one line on stderr.
void print_error(const std::string& message);

// Tells whoever waits how the start went. The first report counts. Any thread.
class StartReport {
 public:
  // Foreground: failures are printed, success is silent.
  StartReport() = default;
  // Background: to the waiting parent through `pipe`, which success also detaches from the terminal.
  explicit StartReport(UniqueFd pipe) : pipe_(std::move(pipe)), background_(true) {}

  void ready();
  void failed(const std::string& message);
  // Whether anything was reported.
  bool reported();

 private:
  std::mutex mutex_;
  UniqueFd pipe_;
  bool background_ = false;
  bool reported_ = false;
};

// Runs `body`, which mounts at `mountpoint`, in this process (foreground) or in a supervised child
// (supervisor.h), and returns the exit code for this process: in the background that of the start, as soon as
// it is known. In the foreground the start is also told to a service manager that asks for it (Type=notify).
int launch(bool foreground, const std::string& mountpoint, const std::function<int(StartReport&)>& body);

}  // namespace cached::mount
