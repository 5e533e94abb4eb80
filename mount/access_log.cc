#include "mount/access_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <ctime>

#include "base/clock.h"
#include "base/log.h"

namespace cached::mount {

namespace {

constexpr size_t kBufferBytes = 1024 * 1024;  // of each reader

thread_local std::shared_ptr<AccessRecord> current;

}  // namespace

// What one open of the file holds.
class AccessLog::Reader {
 public:
  explicit Reader(AccessLog& log) : log_(log) {}

  // False: the line is lost, because the reader is too slow.
  bool append(const std::string& line) {
    if (buffer_.size() + line.size() > kBufferBytes) {
      ++lost_;
      return false;
    }
    if (lost_ > 0)
      buffer_ += fmt::format("# {} lines were lost, because they were not read fast enough\n", lost_);
    lost_ = 0;
    buffer_ += line;
    if (parked_ != nullptr) reply(std::exchange(parked_, nullptr), parked_size_);
    return true;
  }

  void read(fuse_req_t request, size_t size) {
    if (std::exchange(interrupted_, nullptr) == request) {
      fuse_reply_err(request, EINTR);
    } else if (!buffer_.empty() || log_.shut_down_) {
      reply(request, size);
    } else if (parked_ != nullptr) {
      fuse_reply_err(request, EAGAIN);  // one descriptor, read by two threads at once
    } else {
      parked_ = request;
      parked_size_ = size;
    }
  }

  void end() {
    if (parked_ != nullptr) reply(std::exchange(parked_, nullptr), 0);
  }

  static void on_interrupt(fuse_req_t request, void* data) {
    Reader& reader = *static_cast<Reader*>(data);
    const std::lock_guard lock(reader.log_.mutex_);
    if (reader.parked_ == request) {
      reader.parked_ = nullptr;
      fuse_reply_err(request, EINTR);
    } else {
      reader.interrupted_ = request;
    }
  }

 private:
  void reply(fuse_req_t request, size_t size) {
    const size_t bytes = std::min(size, buffer_.size());
    fuse_reply_buf(request, buffer_.data(), bytes);
    buffer_.erase(0, bytes);
  }

  AccessLog& log_;
  std::string buffer_;
  uint64_t lost_ = 0;
  fuse_req_t parked_ = nullptr;  // a read that waits
  size_t parked_size_ = 0;
  fuse_req_t interrupted_ = nullptr;  // before it was parked
};

AccessLog::AccessLog() = default;
AccessLog::~AccessLog() = default;

void AccessLog::begin(fuse_req_t request, Operation operation, std::string arguments) {
  const fuse_ctx& caller = *fuse_req_ctx(request);
  current = std::make_shared<AccessRecord>();
  current->operation = operation;
  current->uid = caller.uid;
  current->gid = caller.gid;
  current->pid = caller.pid;
  current->arguments = std::move(arguments);
  current->began_at_ns = system_clock().realtime_ns();
  current->started_ns = system_clock().monotonic_ns();
}

void AccessLog::note_error(int error) {
  if (current) current->error = error;
}

std::shared_ptr<AccessRecord> AccessLog::take() {
  return std::exchange(current, nullptr);
}

void AccessLog::resume(std::shared_ptr<AccessRecord> record) {
  current = std::move(record);
}

void AccessLog::end() {
  const std::shared_ptr<AccessRecord> record = take();
  if (record) hand_out(access_line(*record, system_clock().monotonic_ns()));
}

void AccessLog::hand_out(const std::string& line) {
  const std::lock_guard lock(mutex_);
  for (const std::unique_ptr<Reader>& reader : readers_) {
    if (!reader->append(line)) dropped_.fetch_add(1, std::memory_order_relaxed);
  }
}

AccessLog::Reader* AccessLog::open() {
  const std::lock_guard lock(mutex_);
  if (readers_.size() >= kMaximumReaders) return nullptr;
  readers_.push_back(std::make_unique<Reader>(*this));
  readers_active_ = true;
  return readers_.back().get();
}

void AccessLog::close(Reader* reader) {
  const std::lock_guard lock(mutex_);
  std::erase_if(readers_, [reader](const auto& held) { return held.get() == reader; });
  readers_active_ = !readers_.empty();
}

void AccessLog::read(fuse_req_t request, Reader* reader, size_t size) {
  fuse_req_interrupt_func(request, Reader::on_interrupt, reader);
  const std::lock_guard lock(mutex_);
  reader->read(request, size);
}

void AccessLog::shut_down() {
  const std::lock_guard lock(mutex_);
  shut_down_ = true;
  readers_active_ = false;
  for (const std::unique_ptr<Reader>& reader : readers_) reader->end();
}

std::string access_line(const AccessRecord& record, uint64_t ended_ns) {
  const std::time_t seconds = record.began_at_ns / 1'000'000'000;
  std::tm local{};
  ::localtime_r(&seconds, &local);
  char time[32];
  std::strftime(time, sizeof time, "%Y.%m.%d %H:%M:%S", &local);
  const uint64_t duration_us = (ended_ns - record.started_ns) / 1000;
  char error_text[128];
  const char* const outcome =
      record.error == 0 ? "OK" : ::strerror_r(record.error, error_text, sizeof error_text);
  return fmt::format("{}.{:06} [uid:{},gid:{},pid:{}] {} ({}): {} <{}.{:06}>\n", time,
                     record.began_at_ns / 1000 % 1'000'000, record.uid, record.gid, record.pid,
                     name_of(record.operation), record.arguments, outcome, duration_us / 1'000'000,
                     duration_us % 1'000'000);
}

}  // namespace cached::mount
