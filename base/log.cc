// Setting up the log, and what keeps it within limits: see log.h.
//
// Messages may come until the very end of the process, from threads and destructors that outlive main(). What
// they need is therefore never destroyed (the limiter), or known to be gone (spdlog's registry).
#include "base/log.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <functional>
#include <mutex>

#include "base/clock.h"
#include "base/log_sinks.h"

namespace cached {
namespace {

constexpr uint64_t kWindowNs = 10 * kNanosecondsPerSecond;

std::atomic<uint64_t> limited_lines{0};
std::atomic<bool> registry_gone{false};

// Counts messages by kind, for the kinds that came last.
class Limiter {
 public:
  void set_limit(unsigned lines_per_kind) { limit_.store(lines_per_kind, std::memory_order_relaxed); }

  // Whether one more of the kind may be written now; `*left_out`: how many of it were not, before this one.
  bool admit(uint64_t kind, uint64_t* left_out) {
    const unsigned limit = limit_.load(std::memory_order_relaxed);
    if (limit == 0) return true;
    const uint64_t now_ns = system_clock().monotonic_ns();
    const std::lock_guard lock(mutex_);
    Kind& entry = kinds_[kind % kinds_.size()];
    if (entry.kind != kind) entry = Kind{kind, now_ns};
    if (now_ns - entry.since_ns >= kWindowNs) {
      *left_out = entry.left_out;
      entry = Kind{kind, now_ns};
    }
    if (entry.written < limit) {
      ++entry.written;
      return true;
    }
    ++entry.left_out;
    return false;
  }

 private:
  struct Kind {
    uint64_t kind = 0;
    uint64_t since_ns = 0;
    uint64_t written = 0;
    uint64_t left_out = 0;
  };
  std::atomic<unsigned> limit_{0};
  std::mutex mutex_;
  std::array<Kind, 256> kinds_;  // by hash; of two that fall together the newer counts
};

Limiter& limiter() {
  static Limiter& the_limiter = *new Limiter;
  return the_limiter;
}

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

Result<spdlog::level::level_enum> parse_level(const std::string& level) {
  const auto parsed = spdlog::level::from_str(level);
  if (parsed != spdlog::level::off || level == "off") return parsed;
  return Status(EINVAL,
                "log level \"" + level + "\" is unknown; use trace, debug, info, warning, error or off");
}

Result<spdlog::sink_ptr> make_sink(const LogOptions& options) {
  const bool to_journal = options.target == LogTarget::kJournal ||
                          (options.target == LogTarget::kAuto && log_sinks::stderr_is_journal());
  if (to_journal) return log_sinks::journal(options.program, options.journal_socket);
  if (options.target == LogTarget::kFile) {
    return log_sinks::file(options.file, options.rotate_bytes, options.rotate_files, options.format);
  }
  return log_sinks::standard_error(options.format);
}

}  // namespace

Status init_log(const LogOptions& options) {
  const Result<spdlog::level::level_enum> level = parse_level(options.level);
  if (!level.ok()) return level.status();
  Result<spdlog::sink_ptr> sink = make_sink(options);
  if (!sink.ok()) return sink.status();
  auto logger = std::make_shared<spdlog::logger>(options.program, std::move(sink).value());
  if (options.format == LogFormat::kText) logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %n[%P] %l: %v");
  logger->set_level(*level);
  logger->set_error_handler([](const std::string&) {});
  spdlog::set_default_logger(std::move(logger));
  limiter().set_limit(options.lines_per_kind);
  // Made after spdlog's registry, so destroyed before it.
  struct EndMark {
    ~EndMark() { registry_gone = true; }
  };
  static EndMark end_mark;
  return Status();
}

Status set_log_level(const std::string& level) {
  const Result<spdlog::level::level_enum> parsed = parse_level(level);
  if (!parsed.ok()) return parsed.status();
  spdlog::default_logger_raw()->set_level(*parsed);
  return Status();
}

LogLosses log_losses() {
  return {limited_lines.load(std::memory_order_relaxed), log_sinks::failed_lines()};
}

namespace log_detail {

bool enabled(LogLevel level) {
  return !registry_gone.load(std::memory_order_relaxed) &&
         spdlog::default_logger_raw()->should_log(level_of(level));
}

void write(LogLevel level, std::string_view format, std::string_view text) {
  // A format that says nothing does not make a kind; its text does.
  const std::string_view kind = format == "{}" ? text : format;
  uint64_t left_out = 0;
  if (!limiter().admit(std::hash<std::string_view>{}(kind) | 1, &left_out)) {
    limited_lines.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  spdlog::logger& logger = *spdlog::default_logger_raw();
  if (left_out > 0) logger.log(level_of(level), "{} more like the next line were left out", left_out);
  logger.log(level_of(level), text);
}

}  // namespace log_detail

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
