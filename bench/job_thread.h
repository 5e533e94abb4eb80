// JobThread: one thread of a job: keeps the engine's depth in flight, times every I/O, counts what is not
// ramp.
#pragma once

#include <sys/resource.h>

#include <atomic>
#include <barrier>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "base/status.h"
#include "bench/engine.h"
#include "bench/io_source.h"
#include "bench/job_stats.h"
#include "bench/options.h"
#include "bench/verify.h"

namespace cached::bench {

// What a watcher may read while the thread runs.
struct LiveCounters {
  std::atomic<uint64_t> bytes[kDirections]{};
  std::atomic<uint64_t> ios[kDirections]{};
  std::atomic<char> state{'P'};  // a letter, as fio's --eta shows it
};

// What the threads of one job have in common.
struct JobContext {
  struct BeginVerification {
    IoSource* source;
    bool wanted;
    void operator()() noexcept {
      if (wanted) source->begin_verification();
    }
  };

  // `job_paths`: all that the engine has open, of which the job has `job_files`.
  JobContext(const BenchOptions& job_options, Engine* job_engine, IoSource* job_source, uint64_t job_seed,
             const std::vector<std::string>& job_paths, std::vector<uint32_t> job_files,
             unsigned job_thread_count);
  // The first error ends the job.
  void fail(Status status);

  const BenchOptions& options;
  Engine* const engine;
  IoSource* const source;
  const uint64_t seed;
  const std::vector<std::string>& paths;  // by the engine's numbers, for messages
  const std::vector<uint32_t> files;      // the engine's numbers of the job's own
  const unsigned thread_count;
  const bool verifies_at_end;
  const Verifier verifier;
  std::barrier<BeginVerification> written;  // all threads are through; what follows is the verification
  std::atomic<bool> stop{false};
  std::mutex mutex;
  Status first_error;  // guarded by mutex
};

class JobThread {
 public:
  JobThread(JobContext* context, unsigned number) : context_(context), number_(number) {}

  // Does it all. Meets the other threads of all jobs that begin together at `start`.
  void run(std::barrier<>* start);
  const JobStats& stats() const { return stats_; }
  const LiveCounters& live() const { return live_; }

 private:
  void prepare(Worker* worker);
  Status run_phases(Worker* worker);
  void begin_phase(uint64_t ramp_ns, uint64_t runtime_ns, char letter);
  void end_phase(bool reads, bool writes);
  Status loop(Worker* worker);
  Status submit_what_is_due(Worker* worker, bool* more);
  Status submit(Worker* worker, const Io& io);
  Status commit(Worker* worker);
  uint64_t due_ns(Direction direction) const;
  void sleep_until_due() const;
  Status record(Worker* worker, unsigned count, uint64_t now_ns);
  void count(const FinishedIo& finished, const Io& io, uint64_t now_ns);
  void end_ramp(uint64_t now_ns);
  void take_sample(uint64_t now_ns);
  Status sync_files(Worker* worker);
  void add_usage();

  JobContext* context_;
  const unsigned number_;
  std::vector<Io> ios_;  // of each slot, as are the next two
  std::vector<uint64_t> started_at_ns_;
  std::vector<uint64_t> issued_at_ns_;
  std::vector<FinishedIo> finished_;
  std::vector<unsigned> free_slots_;
  std::vector<unsigned> batch_;  // submitted and not committed
  Io pending_;                   // drawn, but not due yet
  bool has_pending_ = false;
  bool checks_reads_ = false;
  uint64_t submitted_bytes_[kDirections] = {0, 0};
  uint64_t phase_begun_ns_ = 0;
  uint64_t counting_from_ns_ = 0;
  uint64_t ramp_end_ns_ = 0;
  uint64_t deadline_ns_ = 0;
  uint64_t ended_at_ns_ = 0;
  bool ramping_ = false;
  char letter_ = 'P';
  rusage usage_at_start_{};
  uint64_t sample_at_ns_ = 0;
  uint64_t sampled_from_ns_ = 0;
  uint64_t sample_bytes_[kDirections] = {0, 0};
  uint64_t sample_ios_[kDirections] = {0, 0};
  JobStats stats_;
  LiveCounters live_;
};

}  // namespace cached::bench
