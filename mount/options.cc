#include "mount/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "base/units.h"

namespace cached::mount {

namespace {

constexpr double kMaximumSeconds = 1e9;
constexpr uint64_t kMaximumReadAheadBytes = kGiB;

// Generic options that the kernel hears of.
constexpr std::array kKernelFlags = {"nosuid",  "suid",  "nodev", "dev",   "noexec", "exec",
                                     "noatime", "atime", "sync",  "async", "dirsync"};
// Generic options that say nothing to a read-only FUSE mount, or something to mount(8) alone. `rw` is what
// mount(8) passes when nothing was asked for.
constexpr std::array kIgnoredFlags = {
    "ro",         "rw",         "defaults",    "auto",       "noauto",
    "nofail",     "_netdev",    "user",        "nouser",     "users",
    "nousers",    "owner",      "noowner",     "group",      "nogroup",
    "relatime",   "norelatime", "strictatime", "silent",     "loud",
    "nodiratime", "diratime",   "lazytime",    "nolazytime", "nostrictatime",
    "mand",       "nomand",     "iversion",    "noiversion", "default_permissions"};
constexpr std::array kIgnoredPrefixes = {"x-", "X-", "comment=", "user="};
constexpr std::array kKernelPrefixes = {"context=", "fscontext=", "defcontext=", "rootcontext="};

Status invalid(std::string message) {
  return Status(EINVAL, std::move(message));
}

bool has_prefix(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

template <typename List>
bool contains(const List& list, std::string_view text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

template <typename List>
bool has_any_prefix(const List& list, std::string_view text) {
  return std::any_of(list.begin(), list.end(),
                     [text](const char* prefix) { return has_prefix(text, prefix); });
}

Status parse_seconds(const std::string& key, const std::string& value, uint64_t unit_per_second,
                     uint64_t* result) {
  char* end = nullptr;
  const double seconds = std::strtod(value.c_str(), &end);
  if (value.empty() || *end != '\0' || !std::isfinite(seconds) || seconds < 0 || seconds > kMaximumSeconds) {
    return invalid("option " + key + "=" + value + ": not a number of seconds");
  }
  *result = static_cast<uint64_t>(std::llround(seconds * static_cast<double>(unit_per_second)));
  return Status();
}

Status parse_threads(const std::string& value, unsigned* threads) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < 1 || number > kMaximumThreads) {
    return invalid("option threads=" + value + ": not a number from 1 to " + std::to_string(kMaximumThreads));
  }
  *threads = number;
  return Status();
}

Status parse_snapshot(const std::string& value, uint64_t* snapshot) {
  const char* const last = value.data() + value.size();
  const auto [end, error] = std::from_chars(value.data(), last, *snapshot);
  if (error == std::errc() && end == last && *snapshot != 0) return Status();
  return invalid("option snapshot=" + value +
                 ": not a snapshot's number, from 1 on; `cachedctl volume snapshots` lists them");
}

Status parse_subdirectory(const std::string& value, std::string* path) {
  path->clear();
  for (size_t begin = 0; begin <= value.size();) {
    const size_t slash = std::min(value.find('/', begin), value.size());
    const std::string name = value.substr(begin, slash - begin);
    if (name == "." || name == "..")
      return invalid("option subdir=" + value + ": a path from the volume's root without \"" + name + "\"");
    if (!name.empty()) *path += (path->empty() ? "" : "/") + name;
    begin = slash + 1;
  }
  if (!path->empty()) return Status();
  return invalid("option subdir needs a directory of the volume, such as subdir=speech/train");
}

Status parse_read_ahead(const std::string& value, uint64_t* size_bytes) {
  const Result<uint64_t> size = parse_size(value);
  if (!size.ok() || *size > kMaximumReadAheadBytes) {
    return invalid("option read_ahead=" + value + ": not a size up to 1GiB, such as 1MiB");
  }
  *size_bytes = *size;
  return Status();
}

class Parser {
 public:
  Parser(const std::string& program, const std::vector<std::string>& arguments, const Machine& machine)
      : arguments_(arguments), machine_(machine) {
    const std::string name = program.substr(program.find_last_of('/') + 1);
    mount_helper_ = has_prefix(name, "mount.");
  }

  Result<Options> parse() {
    while (next_ < arguments_.size()) CACHED_RETURN_IF_ERROR(parse_argument(arguments_[next_++]));
    if (options_.show_help || options_.show_version) return options_;
    // -s may come after -o: whether an unknown option matters is known only now.
    if (!unknown_.empty() && !sloppy_) return invalid("unknown option " + unknown_);
    if (positional_.size() != 2) return invalid("usage: cached-mount VOLUME MOUNTPOINT [-o options] [-f]");
    options_.volume = has_prefix(positional_[0], "cached:") ? positional_[0].substr(7) : positional_[0];
    options_.mountpoint = positional_[1];
    if (options_.volume.empty()) return invalid("the volume's name is empty");
    if (options_.mountpoint.empty()) return invalid("the mount point's name is empty");
    apply_defaults();
    return options_;
  }

 private:
  void apply_defaults() {
    if (options_.threads == 0) options_.threads = std::min(16U, std::max(4U, machine_.cores));
    if (machine_.root) options_.allow_other = true;
    if (!negative_given_) options_.negative_timeout_ns = options_.entry_timeout_ns;
  }

  Status parse_argument(const std::string& argument) {
    if (only_positional_ || argument.size() < 2 || argument[0] != '-') {
      positional_.push_back(argument);
      return Status();
    }
    if (argument == "--") {
      only_positional_ = true;
      return Status();
    }
    if (has_prefix(argument, "--")) return parse_long(argument);
    return parse_letters(argument);
  }

  Status parse_long(const std::string& argument) {
    if (argument == "--help") {
      options_.show_help = true;
    } else if (argument == "--version") {
      options_.show_version = true;
    } else if (argument == "--foreground") {
      options_.foreground = true;
    } else {
      return invalid("unknown argument " + argument + "; see --help");
    }
    return Status();
  }

  // "-nv", "-o ro", "-oro": letters without a value may be joined, one with a value takes the rest or the
  // next argument.
  Status parse_letters(const std::string& argument) {
    for (size_t i = 1; i < argument.size(); ++i) {
      const char letter = argument[i];
      if (letter == 'o' || (mount_helper_ && (letter == 't' || letter == 'N'))) {
        std::string value = argument.substr(i + 1);
        if (value.empty()) {
          if (next_ >= arguments_.size())
            return invalid(std::string("argument -") + letter + " needs a value");
          value = arguments_[next_++];
        }
        return letter == 'o' ? parse_list(value) : Status();
      }
      CACHED_RETURN_IF_ERROR(parse_letter(letter));
    }
    return Status();
  }

  Status parse_letter(char letter) {
    if (letter == 'h') {
      options_.show_help = true;
    } else if (letter == 'V') {
      options_.show_version = true;
    } else if (letter == 'f') {
      (mount_helper_ ? options_.pretend : options_.foreground) = true;
    } else if (letter == 's' && mount_helper_) {
      sloppy_ = true;
    } else if ((letter == 'n' || letter == 'v') && mount_helper_) {
      // No mtab has been written for a long time, and there is nothing to be verbose about.
    } else {
      return invalid(std::string("unknown argument -") + letter + "; see --help");
    }
    return Status();
  }

  Status parse_list(const std::string& list) {
    for (size_t begin = 0; begin <= list.size();) {
      const size_t comma = std::min(list.find(',', begin), list.size());
      if (comma > begin) CACHED_RETURN_IF_ERROR(parse_option(list.substr(begin, comma - begin)));
      begin = comma + 1;
    }
    return Status();
  }

  Status parse_option(const std::string& option) {
    if (contains(kKernelFlags, option) || has_any_prefix(kKernelPrefixes, option)) {
      options_.kernel_flags.push_back(option);
      return Status();
    }
    if (contains(kIgnoredFlags, option) || has_any_prefix(kIgnoredPrefixes, option)) return Status();
    if (option == "allow_other") {
      options_.allow_other = true;
      return Status();
    }
    if (option == "remount")
      return invalid("option remount: a cached mount cannot be remounted; unmount and mount it");
    const size_t equals = option.find('=');
    const std::string key = option.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : option.substr(equals + 1);
    if (const std::optional<Status> status = parse_own(key, value)) return *status;
    if (unknown_.empty()) unknown_ = option;
    return Status();
  }

  // Nothing if the key is not one of ours.
  std::optional<Status> parse_own(const std::string& key, const std::string& value) {
    constexpr uint64_t kNs = 1'000'000'000;
    if (key == "attr_timeout") return parse_seconds(key, value, kNs, &options_.attribute_timeout_ns);
    if (key == "entry_timeout") return parse_seconds(key, value, kNs, &options_.entry_timeout_ns);
    if (key == "negative_timeout") {
      negative_given_ = true;
      return parse_seconds(key, value, kNs, &options_.negative_timeout_ns);
    }
    if (key == "daemon_timeout") return parse_seconds(key, value, 1000, &options_.daemon_timeout_ms);
    if (key == "threads") return parse_threads(value, &options_.threads);
    if (key == "read_ahead") return parse_read_ahead(value, &options_.read_ahead_bytes);
    if (key == "snapshot") return parse_snapshot(value, &options_.snapshot);
    if (key == "subdir") return parse_subdirectory(value, &options_.subdirectory);
    if (key == "socket") return parse_text(key, value, &options_.socket);
    if (key == "log_level") return parse_text(key, value, &options_.log_level);
    if (key == "log_file") return parse_text(key, value, &options_.log_file);
    return std::nullopt;
  }

  static Status parse_text(const std::string& key, const std::string& value, std::string* text) {
    if (value.empty()) return invalid("option " + key + " needs a value");
    *text = value;
    return Status();
  }

  const std::vector<std::string>& arguments_;
  const Machine machine_;
  Options options_;
  std::vector<std::string> positional_;
  std::string unknown_;  // the first option that nobody knows
  size_t next_ = 0;
  bool only_positional_ = false;
  bool mount_helper_ = false;
  bool sloppy_ = false;
  bool negative_given_ = false;
};

}  // namespace

Result<Options> parse_options(const std::string& program, const std::vector<std::string>& arguments,
                              const Machine& machine) {
  return Parser(program, arguments, machine).parse();
}

std::string help_text() {
  return R"(usage: cached-mount VOLUME MOUNTPOINT [-o option,...] [-f]
       mount -t cached VOLUME MOUNTPOINT [-o option,...]

Mounts a volume of the node's cache daemon, read-only.

  -f, --foreground      stay in the foreground
  -V, --version         print the version
  -h, --help            print this text

options:
  socket=PATH           the daemon's socket (/run/cached/cached.sock)
  daemon_timeout=SEC    how long a call waits for a daemon that is away (30)
  threads=N             worker threads (one a core, 4 to 16)
  attr_timeout=SEC      how stale attributes may be (1.0)
  entry_timeout=SEC     how stale names may be (1.0)
  negative_timeout=SEC  how stale the absence of a name may be (as entry_timeout)
  read_ahead=SIZE       the kernel's read-ahead (1MiB)
  subdir=PATH           show this directory of the volume instead of all of it
  snapshot=N            this snapshot of a data set (the current one, and its successors)
  allow_other           let other users in (always so when mounted by root)
  log_level=LEVEL       trace, debug, info, warning, error or off (info)
  log_file=PATH         append the log to a file
and the generic ones: nosuid, nodev, noexec, noatime, _netdev, nofail, x-*, ...
)";
}

}  // namespace cached::mount
