// The log's sinks: see log_sinks.h.
#include "base/log_sinks.h"

#include <fcntl.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <mutex>

#include "base/unique_fd.h"

namespace cached::log_sinks {
namespace {

std::atomic<uint64_t> failed{0};

// syslog's numbers.
int priority_of(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::critical:
      return 2;
    case spdlog::level::err:
      return 3;
    case spdlog::level::warn:
      return 4;
    case spdlog::level::info:
      return 6;
    default:
      return 7;
  }
}

std::string json_text(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte < 32) {
      char escaped[7];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", byte);
      quoted += escaped;
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::string_view view_of(const spdlog::string_view_t& text) {
  return {text.data(), text.size()};
}

std::string json_line(const spdlog::details::log_msg& message) {
  const auto since_epoch = message.time.time_since_epoch();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(since_epoch).count();
  const std::time_t seconds = ms / 1000;
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  char time[32];
  const size_t length = std::strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(time + length, sizeof time - length, ".%03dZ", static_cast<int>(ms % 1000));
  return "{\"time\":\"" + std::string(time) + "\",\"level\":\"" +
         std::string(view_of(spdlog::level::to_string_view(message.level))) +
         "\",\"program\":" + json_text(view_of(message.logger_name)) +
         ",\"pid\":" + std::to_string(::getpid()) + ",\"thread\":" + std::to_string(message.thread_id) +
         ",\"message\":" + json_text(view_of(message.payload)) + "}\n";
}

// Lines for a descriptor.
class LineSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit LineSink(LogFormat format) : format_(format) {}

 protected:
  std::string line_of(const spdlog::details::log_msg& message) {
    if (format_ == LogFormat::kJson) return json_line(message);
    spdlog::memory_buf_t buffer;
    formatter_->format(message, buffer);
    return {buffer.data(), buffer.size()};
  }
  // A line that is written in part is torn: the next one ends it first.
  void write_line(int fd, std::string line) {
    if (torn_) line.insert(0, 1, '\n');
    const ssize_t written = ::write(fd, line.data(), line.size());
    if (written == static_cast<ssize_t>(line.size())) {
      torn_ = false;
      return;
    }
    torn_ = torn_ || written > 0;
    failed.fetch_add(1, std::memory_order_relaxed);
  }
  void flush_() override {}

 private:
  const LogFormat format_;
  bool torn_ = false;
};

class StandardErrorSink final : public LineSink {
 public:
  using LineSink::LineSink;

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    write_line(STDERR_FILENO, line_of(message));
  }
};

class FileSink final : public LineSink {
 public:
  FileSink(std::string path, uint64_t rotate_bytes, unsigned rotate_files, LogFormat format)
      : LineSink(format), path_(std::move(path)), rotate_bytes_(rotate_bytes), rotate_files_(rotate_files) {}

  Status open() {
    UniqueFd opened(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
    struct stat attributes {};
    if (!opened.valid() || ::fstat(opened.get(), &attributes) != 0) {
      return Status::from_errno("cannot open the log file " + path_);
    }
    fd_ = std::move(opened);
    size_bytes_ = static_cast<uint64_t>(attributes.st_size);
    regular_ = S_ISREG(attributes.st_mode);
    return Status();
  }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    std::string line = line_of(message);
    if (regular_ && rotate_files_ > 0 && size_bytes_ > 0 && size_bytes_ + line.size() > rotate_bytes_)
      rotate();
    size_bytes_ += line.size();
    write_line(fd_.get(), std::move(line));
  }

  // If the new file cannot be made, the old one goes on under its new name until it has grown as much again.
  void rotate() {
    const auto name = [this](unsigned number) { return path_ + "." + std::to_string(number); };
    for (unsigned number = rotate_files_; number > 1; --number) {
      static_cast<void>(std::rename(name(number - 1).c_str(), name(number).c_str()));
    }
    static_cast<void>(std::rename(path_.c_str(), name(1).c_str()));
    size_bytes_ = 0;
    static_cast<void>(open());
  }

  const std::string path_;
  const uint64_t rotate_bytes_;
  const unsigned rotate_files_;
  UniqueFd fd_;
  uint64_t size_bytes_ = 0;
  bool regular_ = false;
};

class JournalSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  JournalSink(std::string program, UniqueFd socket)
      : program_(std::move(program)), socket_(std::move(socket)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    std::string packet = "PRIORITY=" + std::to_string(priority_of(message.level)) +
                         "\nSYSLOG_IDENTIFIER=" + program_ + "\nSYSLOG_PID=" + std::to_string(::getpid()) +
                         "\nTID=" + std::to_string(message.thread_id) + "\nMESSAGE=";
    for (const char c : view_of(message.payload)) packet += c == '\n' ? ' ' : c;
    packet += '\n';
    if (::send(socket_.get(), packet.data(), packet.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
      failed.fetch_add(1, std::memory_order_relaxed);
    }
  }
  void flush_() override {}

  const std::string program_;
  const UniqueFd socket_;
};

}  // namespace

bool stderr_is_journal() {
  const char* const stream = std::getenv("JOURNAL_STREAM");
  struct stat attributes {};
  unsigned long device = 0;
  unsigned long inode = 0;
  return stream != nullptr && std::sscanf(stream, "%lu:%lu", &device, &inode) == 2 &&
         ::fstat(STDERR_FILENO, &attributes) == 0 && attributes.st_dev == device &&
         attributes.st_ino == inode;
}

spdlog::sink_ptr standard_error(LogFormat format) {
  return std::make_shared<StandardErrorSink>(format);
}

Result<spdlog::sink_ptr> journal(const std::string& program, const std::string& socket_path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof address.sun_path) {
    return Status(ENAMETOOLONG, "the journal's socket " + socket_path + " has too long a path");
  }
  std::memcpy(address.sun_path, socket_path.c_str(), socket_path.size() + 1);
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid() ||
      ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return Status::from_errno("cannot reach the journal at " + socket_path +
                              "; set log.target to \"stderr\" or \"file\"");
  }
  return spdlog::sink_ptr(std::make_shared<JournalSink>(program, std::move(socket)));
}

Result<spdlog::sink_ptr> file(const std::string& path, uint64_t rotate_bytes, unsigned rotate_files,
                              LogFormat format) {
  auto sink = std::make_shared<FileSink>(path, rotate_bytes, rotate_files, format);
  CACHED_RETURN_IF_ERROR(sink->open());
  return spdlog::sink_ptr(std::move(sink));
}

uint64_t failed_lines() {
  return failed.load(std::memory_order_relaxed);
}

}  // namespace cached::log_sinks
