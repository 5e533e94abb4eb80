// Breaks the kernel's connection to a mount process that was killed and cannot end.
//
// A thread of ours that tells the kernel to drop pages waits inside the kernel for each page's READ. Those
// are answered by other threads of the process; if it is killed (SIGKILL, the OOM killer) nobody answers them
// any more. The waiting thread cannot be interrupted, so it keeps the process from ending and the
// connection's descriptor open, and only the end of the connection would end its wait: without help all three
// stay for ever, and so does every program that reads such a page.
//
// The help is a child that sleeps until the thread that leads the process has died, which the kernel tells by
// a robust mutex that this thread holds in shared memory: no signal (there is none before a process has ended
// as a whole) and no polling. If the process has then not ended within a second, the child breaks the
// connection.
//
// The child is forked before there are threads, closes all descriptors and costs a few hundred KiB.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/status.h"

namespace cached::mount {

class DeathWatch {
 public:
  // Starts the child. To be called once, on the thread that leads the process, before there are others.
  // `mountpoint` is absolute.
  static Result<DeathWatch> start(const std::string& mountpoint);
  // Says which file system is mounted there; until then there is no connection to break. Any thread.
  void mounted(dev_t device);
  // What mounted() said; 0 before. Any thread.
  dev_t device() const;

 private:
  struct Shared;
  explicit DeathWatch(Shared* shared) : shared_(shared) {}
  Shared* shared_;  // with the child; unmapped by the process's end
};

}  // namespace cached::mount
