// JobThread: see job_thread.h.
#include "bench/job_thread.h"

#include <sys/time.h>

#include <algorithm>
#include <thread>

#include "base/clock.h"

namespace cached::bench {
namespace {

constexpr uint64_t kSampleNs = 500 * kNanosecondsPerMillisecond;  // fio's bwavgtime

uint64_t to_ns(const timeval& time) {
  return static_cast<uint64_t>(time.tv_sec) * kNanosecondsPerSecond +
         static_cast<uint64_t>(time.tv_usec) * 1000;
}

rusage usage_of_this_thread() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage;
}

// Only one thread writes a live counter: no atomic addition is needed.
void add_to(std::atomic<uint64_t>* counter, uint64_t value) {
  counter->store(counter->load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
}

// fio's letter of a running job.
char letter_of(const LoadKind& load) {
  const char letter = load.reads && load.writes ? 'M' : load.writes ? 'W' : 'R';
  return load.random ? static_cast<char>(letter - 'A' + 'a') : letter;
}

}  // namespace

JobContext::JobContext(const BenchOptions& job_options, Engine* job_engine, IoSource* job_source,
                       uint64_t job_seed, const std::vector<std::string>& job_paths,
                       std::vector<uint32_t> job_files, unsigned job_thread_count)
    : options(job_options),
      engine(job_engine),
      source(job_source),
      seed(job_seed),
      paths(job_paths),
      files(std::move(job_files)),
      thread_count(job_thread_count),
      verifies_at_end(options.verify != VerifyKind::kNone && options.load.writes &&
                      options.verify_after_writing),
      verifier(options.verify, options.verify_pattern, job_seed),
      written(job_thread_count, BeginVerification{job_source, verifies_at_end}) {}

void JobContext::fail(Status status) {
  stop = true;
  std::lock_guard lock(mutex);
  if (first_error.ok()) first_error = std::move(status);
}

void JobThread::run(std::barrier<>* start) {
  Result<std::unique_ptr<Worker>> worker = context_->engine->new_worker();
  if (worker.ok()) {
    prepare(worker->get());
  } else {
    context_->fail(worker.status());
  }
  // Everybody arrives, also who failed: nobody may wait for ever.
  start->arrive_and_wait();
  Status status;
  if (worker.ok()) {
    status = run_phases(worker->get());
  } else {
    context_->written.arrive_and_wait();
  }
  if (!status.ok()) context_->fail(std::move(status));
  live_.state = '_';
}

void JobThread::prepare(Worker* worker) {
  const unsigned depth = context_->engine->in_flight_per_worker();
  ios_.resize(depth);
  started_at_ns_.resize(depth);
  issued_at_ns_.resize(depth);
  finished_.resize(depth);
  for (unsigned slot = 0; slot < depth; ++slot) {
    free_slots_.push_back(slot);
    if (!context_->options.load.writes) continue;
    fill_random(context_->seed + (uint64_t{number_} << 32) + slot, worker->buffer(slot),
                context_->options.block_bytes);
  }
}

Status JobThread::run_phases(Worker* worker) {
  const BenchOptions& options = context_->options;
  checks_reads_ = context_->verifier.enabled() && !options.load.writes;
  begin_phase(options.ramp_ns, options.runtime_ns, letter_of(options.load));
  Status status = loop(worker);
  if (status.ok() && number_ == 0 && options.sync_at_end && options.load.writes) status = sync_files(worker);
  end_phase(options.load.reads, options.load.writes);
  if (!status.ok()) context_->fail(status);
  context_->written.arrive_and_wait();
  if (!context_->verifies_at_end || context_->stop) return Status();
  checks_reads_ = true;
  begin_phase(0, 0, 'V');
  status = loop(worker);
  end_phase(true, false);
  return status;
}

void JobThread::begin_phase(uint64_t ramp_ns, uint64_t runtime_ns, char letter) {
  phase_begun_ns_ = ended_at_ns_ = counting_from_ns_ = system_clock().monotonic_ns();
  ramp_end_ns_ = phase_begun_ns_ + ramp_ns;
  deadline_ns_ = runtime_ns == 0 ? UINT64_MAX : ramp_end_ns_ + runtime_ns;
  ramping_ = ramp_ns != 0;
  letter_ = letter;
  live_.state = ramping_ ? '/' : letter;
  usage_at_start_ = usage_of_this_thread();
  sampled_from_ns_ = counting_from_ns_;
  sample_at_ns_ = counting_from_ns_ + kSampleNs;
  for (unsigned direction = 0; direction < kDirections; ++direction) {
    submitted_bytes_[direction] = 0;
    sample_bytes_[direction] = stats_.direction[direction].bytes;
    sample_ios_[direction] = stats_.direction[direction].ios;
  }
}

void JobThread::end_phase(bool reads, bool writes) {
  for (const Direction direction : {kRead, kWrite}) {
    if (!(direction == kRead ? reads : writes)) continue;
    DirectionStats& stats = stats_.direction[direction];
    stats.begun_at_ns = std::min(stats.begun_at_ns, counting_from_ns_);
    stats.ended_at_ns = std::max(stats.ended_at_ns, ended_at_ns_);
  }
  stats_.thread_runtime_ns += ended_at_ns_ - counting_from_ns_;
  add_usage();
}

Status JobThread::loop(Worker* worker) {
  bool more = true;
  for (;;) {
    CACHED_RETURN_IF_ERROR(submit_what_is_due(worker, &more));
    if (free_slots_.size() == finished_.size()) {
      if (!more) return Status();
      sleep_until_due();
      if (system_clock().monotonic_ns() >= deadline_ns_ || context_->stop) return Status();
      continue;
    }
    unsigned count = 0;
    CACHED_RETURN_IF_ERROR(worker->reap(finished_.data(), &count));
    const uint64_t now_ns = system_clock().monotonic_ns();
    CACHED_RETURN_IF_ERROR(record(worker, count, now_ns));
    if (now_ns >= deadline_ns_ || context_->stop.load(std::memory_order_relaxed)) more = has_pending_ = false;
  }
}

// Starts I/Os until there is no free slot, none is due or none is left (*more becomes false).
Status JobThread::submit_what_is_due(Worker* worker, bool* more) {
  while (*more && !free_slots_.empty()) {
    if (!has_pending_ && !context_->source->next(&pending_)) {
      *more = false;
      break;
    }
    const uint64_t rate = context_->options.rate_bytes[pending_.direction];
    has_pending_ = rate != 0 && system_clock().monotonic_ns() < due_ns(pending_.direction);
    if (has_pending_) break;
    CACHED_RETURN_IF_ERROR(submit(worker, pending_));
  }
  return batch_.empty() ? Status() : commit(worker);
}

Status JobThread::submit(Worker* worker, const Io& io) {
  const unsigned slot = free_slots_.back();
  free_slots_.pop_back();
  batch_.push_back(slot);
  ios_[slot] = io;
  if (io.direction == kWrite && context_->verifier.enabled())
    context_->verifier.fill(io, worker->buffer(slot));
  submitted_bytes_[io.direction] += io.length;
  started_at_ns_[slot] = issued_at_ns_[slot] = system_clock().monotonic_ns();
  if (!ramping_) ++stats_.depths[depth_class(static_cast<unsigned>(finished_.size() - free_slots_.size()))];
  return worker->submit(slot, io);
}

Status JobThread::commit(Worker* worker) {
  if (!ramping_) ++stats_.submissions[batch_class(static_cast<unsigned>(batch_.size()))];
  if (!context_->engine->completes_in_submit()) {
    CACHED_RETURN_IF_ERROR(worker->commit());
    const uint64_t now_ns = system_clock().monotonic_ns();
    for (unsigned slot : batch_) {
      issued_at_ns_[slot] = now_ns;
      if (!ramping_) stats_.direction[ios_[slot].direction].submission.record(now_ns - started_at_ns_[slot]);
    }
  }
  batch_.clear();
  return Status();
}

// When the rate allows the next I/O of this direction: what was late may catch up.
uint64_t JobThread::due_ns(Direction direction) const {
  const double rate = static_cast<double>(context_->options.rate_bytes[direction]) /
                      static_cast<double>(context_->thread_count);
  const double seconds = static_cast<double>(submitted_bytes_[direction]) / rate;
  return phase_begun_ns_ + static_cast<uint64_t>(seconds * static_cast<double>(kNanosecondsPerSecond));
}

void JobThread::sleep_until_due() const {
  const uint64_t now_ns = system_clock().monotonic_ns();
  const uint64_t until_ns = std::min(due_ns(pending_.direction), deadline_ns_);
  if (now_ns < until_ns) std::this_thread::sleep_for(std::chrono::nanoseconds(until_ns - now_ns));
}

Status JobThread::record(Worker* worker, unsigned count_finished, uint64_t now_ns) {
  if (ramping_ && now_ns >= ramp_end_ns_) end_ramp(now_ns);
  ended_at_ns_ = now_ns;
  if (!ramping_) ++stats_.completions[batch_class(count_finished)];
  for (unsigned i = 0; i < count_finished; ++i) {
    const unsigned slot = finished_[i].slot;
    const Io& io = ios_[slot];
    free_slots_.push_back(slot);
    add_to(&live_.bytes[io.direction], finished_[i].bytes);
    add_to(&live_.ios[io.direction], 1);
    // What began in the ramp belongs to the ramp.
    if (!ramping_ && started_at_ns_[slot] >= counting_from_ns_) count(finished_[i], io, now_ns);
    if (!checks_reads_ || io.direction != kRead) continue;
    const std::string& path = context_->paths[io.file];
    if (finished_[i].bytes < io.length)
      return Status(EILSEQ, "verify: short read of file " + path + " offset " + std::to_string(io.offset));
    CACHED_RETURN_IF_ERROR(context_->verifier.check(io, worker->buffer(slot), path));
  }
  if (now_ns >= sample_at_ns_) take_sample(now_ns);
  return Status();
}

void JobThread::count(const FinishedIo& finished, const Io& io, uint64_t now_ns) {
  DirectionStats& stats = stats_.direction[io.direction];
  const uint64_t latency_ns = now_ns - started_at_ns_[finished.slot];
  stats.completion.record(now_ns - issued_at_ns_[finished.slot]);
  if (!context_->engine->completes_in_submit()) stats.submission_and_completion.record(latency_ns);
  ++stats_.latency_classes[latency_class(latency_ns)];
  ++stats.ios;
  stats.bytes += finished.bytes;
  if (!io.whole_file && finished.bytes < io.length) ++stats.short_ios;
}

void JobThread::end_ramp(uint64_t now_ns) {
  ramping_ = false;
  counting_from_ns_ = sampled_from_ns_ = now_ns;
  sample_at_ns_ = now_ns + kSampleNs;
  live_.state = letter_;
  usage_at_start_ = usage_of_this_thread();
}

void JobThread::take_sample(uint64_t now_ns) {
  const double seconds =
      static_cast<double>(now_ns - sampled_from_ns_) / static_cast<double>(kNanosecondsPerSecond);
  for (unsigned direction = 0; direction < kDirections && !ramping_; ++direction) {
    DirectionStats& stats = stats_.direction[direction];
    const uint64_t bytes = stats.bytes - sample_bytes_[direction];
    const uint64_t ios = stats.ios - sample_ios_[direction];
    sample_bytes_[direction] = stats.bytes;
    sample_ios_[direction] = stats.ios;
    if (ios == 0) continue;
    stats.kib_per_s.record(static_cast<double>(bytes) / 1024 / seconds);
    stats.iops.record(static_cast<double>(ios) / seconds);
  }
  sampled_from_ns_ = now_ns;
  sample_at_ns_ = now_ns + kSampleNs;
}

Status JobThread::sync_files(Worker* worker) {
  live_.state = 'F';
  for (uint32_t file : context_->files) {
    const uint64_t begin_ns = system_clock().monotonic_ns();
    CACHED_RETURN_IF_ERROR(worker->sync(file));
    ended_at_ns_ = system_clock().monotonic_ns();
    stats_.sync.record(ended_at_ns_ - begin_ns);
  }
  return Status();
}

void JobThread::add_usage() {
  const rusage usage = usage_of_this_thread();
  const rusage& before = usage_at_start_;
  stats_.user_cpu_ns += to_ns(usage.ru_utime) - to_ns(before.ru_utime);
  stats_.system_cpu_ns += to_ns(usage.ru_stime) - to_ns(before.ru_stime);
  stats_.context_switches +=
      static_cast<uint64_t>(usage.ru_nvcsw - before.ru_nvcsw + usage.ru_nivcsw - before.ru_nivcsw);
  stats_.major_faults += static_cast<uint64_t>(usage.ru_majflt - before.ru_majflt);
  stats_.minor_faults += static_cast<uint64_t>(usage.ru_minflt - before.ru_minflt);
}

}  // namespace cached::bench
