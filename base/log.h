// The process's log: one spdlog logger, leveled, written to stderr (journald adds time and unit) or to a
// file.
//
//   log_info("volume {}: scanned {} files", name, count);
//
// Log never on a hit path. Text that comes from outside (names, paths) goes through printable().
#pragma once

#include <spdlog/spdlog.h>

#include <string>
#include <string_view>

#include "base/status.h"

namespace cached {

// Sets up the log of this process. `level` is trace, debug, info, warning, error or off; `file` is a path to
// append to, or empty for stderr. Call once, before other threads start. EINVAL for an unknown level, errno
// of the open otherwise.
Status init_log(const std::string& program, const std::string& level, const std::string& file);

// `text` with control characters and bytes above 126 written as \xNN, cut at 256 characters.
std::string printable(std::string_view text);

template <typename... Args>
void log_debug(spdlog::format_string_t<Args...> format, Args&&... args) {
  spdlog::debug(format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_info(spdlog::format_string_t<Args...> format, Args&&... args) {
  spdlog::info(format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_warning(spdlog::format_string_t<Args...> format, Args&&... args) {
  spdlog::warn(format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_error(spdlog::format_string_t<Args...> format, Args&&... args) {
  spdlog::error(format, std::forward<Args>(args)...);
}

}  // namespace cached
