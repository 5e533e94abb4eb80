// Runs a job list on an engine: see job.h.
#include "bench/job.h"

#include <sys/resource.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <deque>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "bench/io_source.h"

namespace cached::bench {
namespace {

uint64_t to_ns(const timeval& time) {
  return static_cast<uint64_t>(time.tv_sec) * kNanosecondsPerSecond +
         static_cast<uint64_t>(time.tv_usec) * 1000;
}

rusage usage_of_this_thread() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage;
}

// What the threads of a run have in common.
struct Shared {
  Engine* engine;
  const BenchOptions* options;
  std::barrier<>* start;
  double rate_bytes_of_thread;  // a second; 0: no limit
  std::atomic<bool> stop{false};
  std::mutex mutex;
  Status first_error;  // guarded by mutex

  void fail(Status status) {
    stop = true;
    std::lock_guard lock(mutex);
    if (first_error.ok()) first_error = std::move(status);
  }
};

// One thread of a run: keeps the engine's depth in flight until the source is empty or time is over.
class Thread {
 public:
  Thread(Shared* shared, IoSource* source) : shared_(shared), source_(source) {}

  void run() {
    Result<std::unique_ptr<Worker>> worker = shared_->engine->new_worker();
    if (!worker.ok()) shared_->fail(worker.status());
    // Everybody arrives, also who failed: nobody may wait for ever.
    shared_->start->arrive_and_wait();
    if (!worker.ok()) return;
    begin();
    Status status = loop(worker->get());
    if (!status.ok()) shared_->fail(std::move(status));
    end();
  }

  const RunResult& result() const { return result_; }
  uint64_t counting_from_ns() const { return counting_from_ns_; }
  uint64_t ended_at_ns() const { return ended_at_ns_; }

 private:
  void begin() {
    const unsigned depth = shared_->engine->in_flight_per_worker();
    started_at_ns_.resize(depth);
    finished_.resize(depth);
    for (unsigned slot = 0; slot < depth; ++slot) free_slots_.push_back(slot);
    started_ns_ = ended_at_ns_ = counting_from_ns_ = system_clock().monotonic_ns();
    ramp_end_ns_ = counting_from_ns_ + shared_->options->ramp_ns;
    const uint64_t runtime_ns = shared_->options->runtime_ns;
    deadline_ns_ = runtime_ns == 0 ? UINT64_MAX : ramp_end_ns_ + runtime_ns;
    ramping_ = shared_->options->ramp_ns != 0;
    usage_at_start_ = usage_of_this_thread();
  }

  Status loop(Worker* worker) {
    bool more = true;
    for (;;) {
      Io io;
      while (more && !free_slots_.empty() && is_due() && (more = source_->next(&io))) {
        const unsigned slot = free_slots_.back();
        free_slots_.pop_back();
        started_at_ns_[slot] = system_clock().monotonic_ns();
        submitted_bytes_ += io.length;
        CACHED_RETURN_IF_ERROR(worker->submit(slot, io));
      }
      if (free_slots_.size() == finished_.size()) {
        if (!more) return Status();
        sleep_until_due();
        continue;
      }
      unsigned count = 0;
      CACHED_RETURN_IF_ERROR(worker->reap(finished_.data(), &count));
      const uint64_t now_ns = system_clock().monotonic_ns();
      record(count, now_ns);
      if (now_ns >= deadline_ns_ || shared_->stop.load(std::memory_order_relaxed)) more = false;
    }
  }

  // When the rate allows the next I/O: what was late may catch up.
  uint64_t due_ns() const {
    const double rate = shared_->rate_bytes_of_thread;
    return started_ns_ +
           static_cast<uint64_t>(static_cast<double>(submitted_bytes_) / rate * kNanosecondsPerSecond);
  }
  bool is_due() const {
    return shared_->rate_bytes_of_thread == 0 || system_clock().monotonic_ns() >= due_ns();
  }
  void sleep_until_due() const {
    const uint64_t now_ns = system_clock().monotonic_ns();
    if (now_ns < due_ns()) std::this_thread::sleep_for(std::chrono::nanoseconds(due_ns() - now_ns));
  }

  void record(unsigned count, uint64_t now_ns) {
    if (ramping_ && now_ns >= ramp_end_ns_) {
      ramping_ = false;
      counting_from_ns_ = now_ns;
      usage_at_start_ = usage_of_this_thread();
    }
    for (unsigned i = 0; i < count; ++i) {
      const unsigned slot = finished_[i].slot;
      free_slots_.push_back(slot);
      // What began in the ramp belongs to the ramp.
      if (ramping_ || started_at_ns_[slot] < counting_from_ns_) continue;
      result_.latency_ns.record(now_ns - started_at_ns_[slot]);
      ++result_.ios;
      result_.bytes += finished_[i].bytes;
    }
    ended_at_ns_ = now_ns;
  }

  void end() {
    const rusage usage = usage_of_this_thread();
    result_.thread_runtime_ns = ended_at_ns_ - counting_from_ns_;
    result_.user_cpu_ns = to_ns(usage.ru_utime) - to_ns(usage_at_start_.ru_utime);
    result_.system_cpu_ns = to_ns(usage.ru_stime) - to_ns(usage_at_start_.ru_stime);
    result_.context_switches = static_cast<uint64_t>(usage.ru_nvcsw - usage_at_start_.ru_nvcsw) +
                               static_cast<uint64_t>(usage.ru_nivcsw - usage_at_start_.ru_nivcsw);
    result_.major_faults = static_cast<uint64_t>(usage.ru_majflt - usage_at_start_.ru_majflt);
    result_.minor_faults = static_cast<uint64_t>(usage.ru_minflt - usage_at_start_.ru_minflt);
  }

  Shared* shared_;
  IoSource* source_;
  std::vector<uint64_t> started_at_ns_;
  std::vector<FinishedIo> finished_;
  std::vector<unsigned> free_slots_;
  uint64_t started_ns_ = 0;
  uint64_t submitted_bytes_ = 0;
  uint64_t counting_from_ns_ = 0;
  uint64_t ramp_end_ns_ = 0;
  uint64_t deadline_ns_ = 0;
  uint64_t ended_at_ns_ = 0;
  bool ramping_ = false;
  rusage usage_at_start_{};
  RunResult result_;
};

void add(const RunResult& part, RunResult* sum) {
  sum->latency_ns.merge(part.latency_ns);
  sum->ios += part.ios;
  sum->bytes += part.bytes;
  sum->thread_runtime_ns += part.thread_runtime_ns;
  sum->user_cpu_ns += part.user_cpu_ns;
  sum->system_cpu_ns += part.system_cpu_ns;
  sum->context_switches += part.context_switches;
  sum->major_faults += part.major_faults;
  sum->minor_faults += part.minor_faults;
}

// A source for each job; smallfiles has one list for all jobs together.
Result<std::deque<IoSource>> make_sources(const BenchOptions& options, Engine* engine,
                                          const std::vector<std::string>& paths) {
  IoSource::Plan plan;
  plan.block_bytes = options.block_bytes;
  plan.size_bytes = options.size_bytes;
  plan.random = options.random;
  plan.endless = options.time_based;
  plan.seed = options.seed;
  plan.whole_files = options.workload == Workload::kSmallFiles;
  std::deque<IoSource> sources;
  if (plan.whole_files) {
    CACHED_RETURN_IF_ERROR(engine->remember_paths(paths));
    plan.random = !options.in_order;
    plan.file_bytes.resize(paths.size());
    sources.emplace_back(plan);
  } else {
    Result<std::vector<uint64_t>> sizes = engine->open_files(paths);
    if (!sizes.ok()) return sizes.status();
    plan.file_bytes = std::move(*sizes);
    for (unsigned job = 0; job < options.jobs; ++job, ++plan.seed) sources.emplace_back(plan);
  }
  if (sources.front().count() == 0) return Status(EINVAL, "nothing to read: all files are smaller than bs");
  return sources;
}

}  // namespace

Result<RunResult> run_jobs(const BenchOptions& options, Engine* engine,
                           const std::vector<std::string>& paths) {
  Result<std::deque<IoSource>> sources = make_sources(options, engine, paths);
  if (!sources.ok()) return sources.status();
  const unsigned threads_per_job = std::max(1U, options.depth / engine->in_flight_per_worker());
  const unsigned thread_count = options.jobs * threads_per_job;
  std::barrier<> start(thread_count);
  Shared shared{.engine = engine,
                .options = &options,
                .start = &start,
                .rate_bytes_of_thread = static_cast<double>(options.rate_bytes) / threads_per_job,
                .mutex = {},
                .first_error = {}};
  std::deque<Thread> threads;
  std::vector<std::thread> running;
  for (unsigned i = 0; i < thread_count; ++i) {
    Thread& thread = threads.emplace_back(&shared, &(*sources)[(i / threads_per_job) % sources->size()]);
    running.emplace_back([&thread] { thread.run(); });
  }
  for (std::thread& thread : running) thread.join();
  if (!shared.first_error.ok()) return shared.first_error;
  RunResult sum;
  uint64_t begun_at_ns = UINT64_MAX;
  uint64_t ended_at_ns = 0;
  for (const Thread& thread : threads) {
    add(thread.result(), &sum);
    begun_at_ns = std::min(begun_at_ns, thread.counting_from_ns());
    ended_at_ns = std::max(ended_at_ns, thread.ended_at_ns());
  }
  sum.runtime_ns = ended_at_ns - begun_at_ns;
  return sum;
}

}  // namespace cached::bench
