// Setting up the log: see log.h.
#include "base/log.h"

#include <fcntl.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include <cstdio>

#include "base/log_level.h"

namespace cached {
namespace {

Result<spdlog::level::level_enum> parse_level(const std::string& level) {
  const auto parsed = spdlog::level::from_str(level);
  if (parsed != spdlog::level::off || level == "off") return parsed;
  return Status(EINVAL, "log level \"" + level + "\" is unknown; use trace, debug, info, warning, error or off");
}

}  // namespace

Status init_log(const std::string& program, const std::string& level, const std::string& file) {
  const Result<spdlog::level::level_enum> parsed = parse_level(level);
  if (!parsed.ok()) return parsed.status();
  std::shared_ptr<spdlog::logger> logger;
  if (file.empty()) {
    logger = std::make_shared<spdlog::logger>(program, std::make_shared<spdlog::sinks::stderr_sink_mt>());
  } else {
    const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0) return Status::from_errno("cannot open the log file " + file);
    ::close(fd);
    logger =
        std::make_shared<spdlog::logger>(program, std::make_shared<spdlog::sinks::basic_file_sink_mt>(file));
  }
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %n[%P] %l: %v");
  logger->set_level(*parsed);
  logger->flush_on(spdlog::level::info);
  // A full disk must stop nothing: a message that cannot be written is dropped.
  logger->set_error_handler([](const std::string&) {});
  spdlog::set_default_logger(std::move(logger));
  return Status();
}

Status set_log_level(const std::string& level) {
  const Result<spdlog::level::level_enum> parsed = parse_level(level);
  if (!parsed.ok()) return parsed.status();
  spdlog::set_level(*parsed);
  return Status();
}

std::string printable(std::string_view text) {
  constexpr size_t kMaximum = 256;
  std::string result;
  for (const char c : text.substr(0, kMaximum)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 32 && byte < 127) {
      result += c;
      continue;
    }
    char escaped[5];
    std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
    result += escaped;
  }
  if (text.size() > kMaximum) result += "...";
  return result;
}

}  // namespace cached
