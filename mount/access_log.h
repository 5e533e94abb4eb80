// `.accesslog`: every operation of the mount as it ends, one line each, for whoever has the file open:
//
//   2026.11.30 15:11:00.123456 [uid:1000,gid:1000,pid:4711] read (281474976710677,131072,0): OK <0.000012>
//
// While nobody has it open, an operation costs one load of a counter. While somebody has, it is described
// when it begins (AccessScope), its error is noted when it is replied to, and its line is handed to every
// reader when it has ended, on whichever thread that is. Operations on the virtual files themselves are left
// out, or reading the log would fill it. So are forgets, which nobody asked for.
//
// A read of the file waits until there is a line. The request is parked, not a thread: the next line, an
// interrupt or the mount's end replies to it. A reader that is slow loses lines, and is told how many.
//
// Locks. libfuse calls an interrupt's handler with the request's lock held, and registering one takes that
// lock: so nothing here registers while it holds mutex_.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "mount/fuse.h"
#include "mount/stats.h"

namespace cached::mount {

// An operation under way that is going to be logged.
struct AccessRecord {
  Operation operation{};
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;
  std::string arguments;
  int64_t began_at_ns = 0;  // realtime
  uint64_t started_ns = 0;  // monotonic
  int error = 0;
};

class AccessLog {
 public:
  class Reader;

  AccessLog();
  ~AccessLog();

  // Whether anybody reads. Any thread.
  bool active() const { return readers_active_.load(std::memory_order_relaxed); }
  // Begins the record of the operation that the calling thread is about to run.
  static void begin(fuse_req_t request, Operation operation, std::string arguments);
  // Notes how the calling thread's operation is replied to; nothing without a record.
  static void note_error(int error);
  // Takes the record off the thread, because another one is going to reply; null: there is none.
  static std::shared_ptr<AccessRecord> take();
  static void resume(std::shared_ptr<AccessRecord> record);
  // The calling thread's operation has been replied to: hands its line to the readers. Nothing without a
  // record.
  void end();

  // One open of the file; null if there are too many. Given back with close().
  Reader* open();
  void close(Reader* reader);
  // Replies to a read with what there is, now or when there is something.
  void read(fuse_req_t request, Reader* reader, size_t size);
  // Replies to all who wait: the end of the file. Before the session ends; nothing is logged after it.
  void shut_down();
  // Lines that readers were too slow for.
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kMaximumReaders = 16;

  void hand_out(const std::string& line);

  std::atomic<bool> readers_active_{false};
  std::atomic<uint64_t> dropped_{0};
  std::mutex mutex_;  // guards readers_ and what they hold
  bool shut_down_ = false;
  std::vector<std::unique_ptr<Reader>> readers_;
};

// The line of a record that has ended at `ended_ns` (monotonic).
std::string access_line(const AccessRecord& record, uint64_t ended_ns);

// fuse_reply_err(), noted.
inline void reply_error(fuse_req_t request, int error) {
  AccessLog::note_error(error);
  fuse_reply_err(request, error);
}

}  // namespace cached::mount
