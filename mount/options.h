// The command line of cached-mount, in both of its forms:
//
//   cached-mount VOLUME MOUNTPOINT [-o options] [-f]           -f: stay in the foreground
//   mount.cached VOLUME MOUNTPOINT [-sfnv] [-o options]        as mount(8) calls it; -f: only pretend
//
// VOLUME may carry the prefix "cached:", which is how the mount shows in /proc/mounts; with it in fstab
// `mount -a` recognises what is mounted already.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "shm/client.h"

namespace cached::mount {

inline constexpr unsigned kMaximumThreads = shm::kMaximumQueues;

struct Options {
  std::string volume;
  std::string mountpoint;  // as given
  std::string socket = shm::kDefaultSocket;
  uint64_t daemon_timeout_ms = 30'000;
  std::string
      subdirectory;  // the directory of the volume to show, without slashes at its ends; empty: all of it
  uint64_t snapshot = 0;  // 0: the current one
  unsigned threads = 0;
  uint64_t read_ahead_bytes = 1024 * 1024;
  uint64_t attribute_timeout_ns = 1'000'000'000;
  uint64_t entry_timeout_ns = 1'000'000'000;
  uint64_t negative_timeout_ns = 1'000'000'000;
  bool allow_other = false;
  std::string log_level = "info";
  std::string log_file;
  std::vector<std::string>
      kernel_flags;  // generic mount options that the kernel is told: nosuid, noexec, ...
  bool foreground = false;
  bool pretend = false;  // mount -f: check the command line and mount nothing
  bool show_help = false;
  bool show_version = false;
};

// What the defaults depend on.
struct Machine {
  unsigned cores = 1;
  bool root = false;
};

// Parses argv[1...]; `program` is argv[0]. An error is EINVAL with one line for the user.
Result<Options> parse_options(const std::string& program, const std::vector<std::string>& arguments,
                              const Machine& machine);

// The text of --help.
std::string help_text();

}  // namespace cached::mount
