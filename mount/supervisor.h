// Keeping a background mount alive: a process that does nothing but wait for the one that serves, and starts
// another when that one dies.
//
// A FUSE mount whose process is gone stays in the table of mounts and answers everything with ENOTCONN. The
// supervisor then starts a successor, which attaches to the daemon first, takes the dead mount away and
// mounts anew. A mount that was unmounted is not brought back. In the foreground there is no supervisor:
// whoever started the process watches it (systemd's Restart= for cached-mount@.service).
//
// The supervisor is forked before there are threads and costs a few hundred KiB. SIGTERM and SIGINT go on to
// the process that serves, and it ends with that one.
#pragma once

#include <functional>
#include <string>

#include "mount/launch.h"

namespace cached::mount {

// True if a mount is at `mountpoint` whose process is gone.
bool mount_is_dead(const std::string& mountpoint);

// Runs `body` in a child, with the report of its start passed on to `pipe`; again whenever it died and left
// its mount. Returns the exit code of the last one.
int supervise(const std::string& mountpoint, UniqueFd pipe, const std::function<int(StartReport&)>& body);

}  // namespace cached::mount
