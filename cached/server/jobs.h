// Jobs: what the daemon does for an operator or a user in the background (warm, evict, pin), with progress
// that anybody may look at and that whoever started it may cancel.
//
// A Job is shared by the coroutines that do it, on shard 0, and the control thread, which reads its atomics.
// The table keeps what runs and the last that ended; it is bounded, for each user too, so that nobody keeps
// others from starting one. Any thread.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

#include "base/status.h"

namespace cached::server {

enum class JobKind : uint8_t { kWarm, kEvict, kPin };
enum class JobState : uint8_t { kRunning, kDone, kFailed, kCancelled };

class Job {
 public:
  Job(uint64_t number, JobKind kind, uid_t uid, std::string what);

  const uint64_t id;
  const JobKind kind;
  const uid_t uid;
  const std::string what;  // "data:/speech", for a person

  // Progress; what does not apply stays 0.
  std::atomic<uint64_t> files_total{0};  // found so far
  std::atomic<uint64_t> bytes_total{0};
  std::atomic<bool> total_known{false};
  std::atomic<uint64_t> files{0};  // through with
  std::atomic<uint64_t> bytes{0};
  std::atomic<uint64_t> fetched_bytes{0};  // from the origin, or for a pin from an SSD
  std::atomic<uint64_t> verified_bytes{0};
  std::atomic<uint64_t> blocks{0};        // evicted
  std::atomic<uint64_t> memory_bytes{0};  // evicted
  std::atomic<uint64_t> ssd_bytes{0};     // evicted
  std::atomic<uint64_t> refused{0};       // files and directories that the user may not read
  std::atomic<uint64_t> errors{0};
  std::atomic<bool> cancelled{false};  // asked to end

  // Something went wrong with one of its files; the first message is kept.
  void note_error(const std::string& message);
  // The end; once. A failure is what stopped the job as a whole.
  void end(JobState state, const std::string& failure = "");
  bool running() const { return state_.load() == JobState::kRunning; }
  nlohmann::json to_json() const;

 private:
  const uint64_t started_ns_;
  std::atomic<JobState> state_{JobState::kRunning};
  std::atomic<uint64_t> ended_ns_{0};
  mutable std::mutex mutex_;  // guards error_
  std::string error_;
};

class JobTable {
 public:
  static constexpr size_t kMaximumRunning = 32;
  static constexpr size_t kMaximumRunningPerUser = 4;  // operators excepted
  static constexpr size_t kEndedKept = 64;

  // A new job, running. EUSERS at the limits.
  Result<std::shared_ptr<Job>> add(JobKind kind, uid_t uid, bool from_operator, const std::string& what);
  // Null if it is not known (any more).
  std::shared_ptr<Job> find(uint64_t id) const;
  nlohmann::json to_json() const;
  // Asks all to end, and waits for it up to `wait_ms`.
  void cancel_all(unsigned wait_ms);

 private:
  mutable std::mutex mutex_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::shared_ptr<Job>> jobs_;
};

}  // namespace cached::server
