// The table of jobs: see jobs.h.
#include "cached/server/jobs.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/clock.h"

namespace cached::server {
namespace {

using nlohmann::json;

const char* name_of(JobKind kind) {
  switch (kind) {
    case JobKind::kWarm:
      return "warm";
    case JobKind::kEvict:
      return "evict";
    case JobKind::kPin:
      return "pin";
  }
  return "?";
}

const char* name_of(JobState state) {
  switch (state) {
    case JobState::kRunning:
      return "running";
    case JobState::kDone:
      return "done";
    case JobState::kFailed:
      return "failed";
    case JobState::kCancelled:
      return "cancelled";
  }
  return "?";
}

}  // namespace

Job::Job(uint64_t number, JobKind job_kind, uid_t user, std::string text)
    : id(number),
      kind(job_kind),
      uid(user),
      what(std::move(text)),
      started_ns_(system_clock().monotonic_ns()) {}

void Job::note_error(const std::string& message) {
  ++errors;
  const std::lock_guard lock(mutex_);
  if (error_.empty()) error_ = message;
}

void Job::end(JobState state, const std::string& failure) {
  if (!failure.empty()) {
    const std::lock_guard lock(mutex_);
    error_ = failure;
  }
  ended_ns_ = system_clock().monotonic_ns();
  state_ = state;
}

json Job::to_json() const {
  const JobState state = state_.load();
  const uint64_t until_ns = state == JobState::kRunning ? system_clock().monotonic_ns() : ended_ns_.load();
  const double seconds =
      static_cast<double>(until_ns - started_ns_) / static_cast<double>(kNanosecondsPerSecond);
  const double rate = seconds > 0 ? static_cast<double>(bytes.load()) / seconds : 0;
  const uint64_t done = bytes;
  const uint64_t left = bytes_total.load() - std::min(bytes_total.load(), done);
  json answer{{"id", id},
              {"kind", name_of(kind)},
              {"what", what},
              {"uid", uid},
              {"state", name_of(state)},
              {"elapsed_s", seconds},
              {"files", files.load()},
              {"bytes", done},
              {"files_total", files_total.load()},
              {"bytes_total", bytes_total.load()},
              {"total_known", total_known.load()},
              {"fetched_bytes", fetched_bytes.load()},
              {"verified_bytes", verified_bytes.load()},
              {"evicted_blocks", blocks.load()},
              {"evicted_memory_bytes", memory_bytes.load()},
              {"evicted_ssd_bytes", ssd_bytes.load()},
              {"refused", refused.load()},
              {"errors", errors.load()},
              {"bytes_per_s", rate},
              {"remaining_s", nullptr}};
  if (state == JobState::kRunning && total_known && rate > 0)
    answer["remaining_s"] = static_cast<double>(left) / rate;
  const std::lock_guard lock(mutex_);
  answer["error"] = error_;
  return answer;
}

Result<std::shared_ptr<Job>> JobTable::add(JobKind kind, uid_t uid, bool from_operator,
                                           const std::string& what) {
  const std::lock_guard lock(mutex_);
  size_t running = 0;
  size_t of_user = 0;
  for (const auto& [id, job] : jobs_) {
    running += job->running() ? 1 : 0;
    of_user += job->running() && job->uid == uid ? 1 : 0;
  }
  if (running >= kMaximumRunning || (!from_operator && of_user >= kMaximumRunningPerUser)) {
    return Status(EUSERS, "too many jobs are running (" + std::to_string(running) + " in all, " +
                              std::to_string(of_user) + " of yours); `cachedctl jobs` lists them");
  }
  auto job = std::make_shared<Job>(next_id_++, kind, uid, what);
  jobs_.emplace(job->id, job);
  for (auto it = jobs_.begin(); it != jobs_.end() && jobs_.size() > running + 1 + kEndedKept;) {
    it = it->second->running() ? std::next(it) : jobs_.erase(it);
  }
  return job;
}

std::shared_ptr<Job> JobTable::find(uint64_t id) const {
  const std::lock_guard lock(mutex_);
  const auto found = jobs_.find(id);
  return found == jobs_.end() ? nullptr : found->second;
}

json JobTable::to_json() const {
  const std::lock_guard lock(mutex_);
  json list = json::array();
  for (const auto& [id, job] : jobs_) list.push_back(job->to_json());
  return list;
}

void JobTable::cancel_all(unsigned wait_ms) {
  const uint64_t until_ns = system_clock().monotonic_ns() + wait_ms * kNanosecondsPerMillisecond;
  for (;;) {
    bool running = false;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [id, job] : jobs_) {
        job->cancelled = true;
        running |= job->running();
      }
    }
    if (!running || system_clock().monotonic_ns() >= until_ns) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

}  // namespace cached::server
