// The process's log: one line a message, leveled, to journald, a file or stderr. (spdlog stays in log.cc: its
// headers would cost every user of this one seconds to compile.)
//
//   log_info("volume {}: scanned {} files", name, count);
//
// Log never on a hit path. Text that comes from outside (names, paths) goes through printable().
//
// Nothing that happens to the log stops its caller: a line that cannot be written (a full disk, a journal
// that does not answer) is counted and dropped. Of messages of one kind, that is of one format string, so
// many are written in ten seconds; the rest is counted, and the next line of the kind that is written says
// how many were left out.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace cached {

enum class LogTarget : uint8_t {
  kAuto,  // the journal if stderr leads there (as systemd sets it up), else stderr
  kJournal,
  kStderr,
  kFile,
};
enum class LogFormat : uint8_t { kText, kJson };  // of lines in a file or on stderr; the journal has fields

struct LogOptions {
  std::string program;         // who logs
  std::string level = "info";  // trace, debug, info, warning, error or off
  LogTarget target = LogTarget::kAuto;
  LogFormat format = LogFormat::kText;
  std::string file;  // for kFile: its path; lines are appended
  uint64_t rotate_bytes =
      64ULL << 20;            // before the file outgrows this it becomes FILE.1, FILE.1 becomes FILE.2 ...
  unsigned rotate_files = 4;  // ... up to this number, and the last one goes; 0: the file grows
  unsigned lines_per_kind = 100;  // in ten seconds; 0: no limit
  std::string journal_socket = "/run/systemd/journal/socket";
};

// Sets up the log of this process. Call once, before other threads start. EINVAL for an unknown level; errno
// if the file or the journal cannot be opened.
Status init_log(const LogOptions& options);
// Any thread, at any time. EINVAL for an unknown level.
Status set_log_level(const std::string& level);

// Lines that are in no log, since the start.
struct LogLosses {
  uint64_t limited = 0;  // too many of their kind
  uint64_t failed = 0;   // could not be written
};
LogLosses log_losses();

// `text` with control characters and bytes above 126 written as \xNN, cut at 256 characters.
std::string printable(std::string_view text);

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

namespace log_detail {

// Writes `text` unless there are too many of its kind. `format` names the kind.
void write(LogLevel level, std::string_view format, std::string_view text);
bool enabled(LogLevel level);

template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (!enabled(level)) return;
  const fmt::string_view kind = format;
  write(level, {kind.data(), kind.size()}, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace log_detail

template <typename... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log_detail::log(LogLevel::kDebug, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_detail::log(LogLevel::kInfo, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_detail::log(LogLevel::kWarning, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_detail::log(LogLevel::kError, format, std::forward<Args>(args)...);
}

}  // namespace cached
