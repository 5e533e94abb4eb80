// The life of one mount: attach to the daemon, mount, serve, unmount.
#pragma once

#include <string>

#include "mount/launch.h"
#include "mount/options.h"

namespace cached::mount {

// Mounts options.volume at `mountpoint` (absolute, resolved) and serves it until it is unmounted or SIGTERM,
// SIGINT or SIGHUP comes. Reports once the mount answers, or why it does not; nothing stays mounted then.
// Returns the exit code.
int run_session(const Options& options, const std::string& mountpoint, StartReport& report);

}  // namespace cached::mount
