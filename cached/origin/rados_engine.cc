// Attempts, time-outs, retries, connecting and closing: see rados_engine.h.
#include "cached/origin/rados_engine.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/log.h"

namespace cached::origin {
namespace {

constexpr uint64_t kFirstBackoffNs = 100 * kNanosecondsPerMillisecond;
constexpr uint64_t kLongestBackoffNs = 4 * kNanosecondsPerSecond;
constexpr uint64_t kFirstConnectPauseNs = 200 * kNanosecondsPerMillisecond;
constexpr uint64_t kLongestConnectPauseNs = 10 * kNanosecondsPerSecond;
constexpr auto kCancelAgainAfter = std::chrono::milliseconds(50);
constexpr size_t kListPageNames = 1000;

// Errors that may be gone at the next attempt.
bool may_pass(int error) {
  switch (error) {
    case ETIMEDOUT:
    case EAGAIN:
    case EBUSY:
    case EINTR:
    case ENOTCONN:
    case ECONNRESET:
    case ECONNREFUSED:
    case ECONNABORTED:
      return true;
    default:
      return false;
  }
}

// Errors that are answers: the cluster is well, the object is not as the caller supposed.
bool is_answer(int error) {
  switch (error) {
    case ENOENT:
    case ENODATA:
    case EEXIST:
    case ERANGE:  // of assert_version, as EOVERFLOW
    case EOVERFLOW:
    case ECANCELED:
      return true;
    default:
      return false;
  }
}

std::string describe(const RadosOptions& options) {
  std::string text = "rados pool `" + options.pool + "`";
  if (!options.metadata_pool.empty() && options.metadata_pool != options.pool)
    text += " with `" + options.metadata_pool + "`";
  if (!options.rados_namespace.empty()) text += " namespace `" + options.rados_namespace + "`";
  return text;
}

std::string seconds_text(uint64_t ns) {
  return std::to_string((ns + kNanosecondsPerSecond / 2) / kNanosecondsPerSecond) + " s";
}

}  // namespace

RadosEngine::RadosEngine(const RadosOptions& options, std::shared_ptr<RadosCluster> cluster)
    : options_(options),
      description_(describe(options)),
      timeout_ns_(uint64_t{options.origin_timeout_ms} * kNanosecondsPerMillisecond),
      failures_(description_),
      cluster_(std::move(cluster)) {
  keeper_ = std::thread([this] { keep(); });
}

// The keeper.

void RadosEngine::keep() {
  pthread_setname_np(pthread_self(), "rados-keeper");
  if (connect_until_ready()) serve_delayed();
}

// False if the store was closed first.
bool RadosEngine::connect_until_ready() {
  uint64_t pause_ns = kFirstConnectPauseNs;
  while (true) {
    Status failure = cluster_->connect();
    if (failure.ok()) failure = open_pools();
    if (failure.ok()) return true;
    note_connect_failure(failure);
    if (!pause_connecting(pause_ns)) return false;
    pause_ns = std::min(pause_ns * 2, kLongestConnectPauseNs);
  }
}

Status RadosEngine::open_pools() {
  Result<librados::IoCtx> data = cluster_->open_pool(options_.pool, options_.rados_namespace);
  if (!data.ok()) return data.status();
  const std::string& name = options_.metadata_pool.empty() ? options_.pool : options_.metadata_pool;
  Result<librados::IoCtx> metadata = cluster_->open_pool(name, options_.rados_namespace);
  if (!metadata.ok()) return metadata.status();
  note_ready(*data, *metadata);
  return {};
}

void RadosEngine::note_ready(librados::IoCtx data, librados::IoCtx metadata) {
  bool failed_before = false;
  {
    const std::lock_guard lock(mutex_);
    data_ = std::move(data);
    metadata_ = std::move(metadata);
    ready_ = true;
    failed_before = !connect_failure_.ok();
    changed_.notify_all();
  }
  if (failed_before) log_info("{}: is ready", description_);
  for (const std::shared_ptr<RadosOperation>& operation : take_waiting(true)) dispatch(operation);
}

void RadosEngine::note_connect_failure(const Status& failure) {
  bool news = false;
  {
    const std::lock_guard lock(mutex_);
    news = failure.message() != connect_failure_.message();
    connect_failure_ = failure;
    changed_.notify_all();
  }
  if (news) log_error("{}: {}; trying again in the background", description_, failure.message());
  if (!may_pass(failure.error_number())) fail_all(take_waiting(true), failure);
}

// Waits until it is time to connect again; meanwhile ends operations that have waited long enough. False if
// the store was closed.
bool RadosEngine::pause_connecting(uint64_t pause_ns) {
  const uint64_t until_ns = now_ns() + pause_ns;
  while (true) {
    fail_all(take_waiting(false), connect_failure_);
    std::unique_lock lock(mutex_);
    if (closed_) return false;
    uint64_t wake_ns = until_ns;
    if (!waiting_.empty()) wake_ns = std::min(wake_ns, deadline_ns(*waiting_.front()));
    const uint64_t now = now_ns();
    if (now >= until_ns) return true;
    if (wake_ns > now) work_.wait_for(lock, std::chrono::nanoseconds(wake_ns - now));
  }
}

// Takes those whose deadline has come, or all, out of waiting_, which is in order of deadline.
RadosEngine::Operations RadosEngine::take_waiting(bool all) {
  Operations taken;
  const std::lock_guard lock(mutex_);
  while (!waiting_.empty() && (all || deadline_ns(*waiting_.front()) <= now_ns())) {
    taken.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  return taken;
}

void RadosEngine::serve_delayed() {
  std::unique_lock lock(mutex_);
  while (!closed_) {
    if (delayed_.empty()) {
      work_.wait(lock);
      continue;
    }
    const auto first = delayed_.begin();
    const uint64_t now = now_ns();
    if (first->first > now) {
      work_.wait_for(lock, std::chrono::nanoseconds(first->first - now));
      continue;
    }
    std::shared_ptr<RadosOperation> operation = std::move(first->second);
    delayed_.erase(first);
    lock.unlock();
    dispatch(std::move(operation));
    lock.lock();
  }
}

// An operation's way.

void RadosEngine::run(std::shared_ptr<RadosOperation> operation) {
  operation->engine = this;
  operation->begin_ns = now_ns();
  counters_.in_flight.fetch_add(1, std::memory_order_relaxed);
  {
    const std::lock_guard lock(mutex_);
    ++unfinished_;
  }
  dispatch(std::move(operation));
}

void RadosEngine::dispatch(std::shared_ptr<RadosOperation> operation) {
  Status why_not;
  bool closed = false;
  {
    const std::lock_guard lock(mutex_);
    closed = closed_;
    if (!closed && !ready_) {
      if (connect_failure_.ok() || may_pass(connect_failure_.error_number())) {
        waiting_.push_back(std::move(operation));
        work_.notify_one();
        return;
      }
      why_not = connect_failure_;
    }
  }
  if (closed) return finish(operation, RadosAnswer{.status = closed_status()});
  if (!why_not.ok()) return fail_all({operation}, why_not);
  attempt(operation);
}

void RadosEngine::attempt(const std::shared_ptr<RadosOperation>& operation) {
  // Kept here, since the attempt may end, and another begin, while begin() runs.
  const std::shared_ptr<librados::AioCompletion> completion(
      librados::Rados::aio_create_completion(operation.get(), &RadosEngine::on_completion),
      [](librados::AioCompletion* made) { made->release(); });
  {
    const std::lock_guard lock(mutex_);
    operation->completion = completion;
    in_flight_.emplace(operation.get(), operation);
  }
  const int result = operation->begin(pool_of(operation->object), completion.get());
  if (result >= 0) return;
  // There will be no callback.
  if (std::shared_ptr<RadosOperation> taken = take_in_flight(operation.get())) {
    settle(std::move(taken), result, 0);
  }
}

void RadosEngine::on_completion(rados_completion_t /*completion*/, void* argument) {
  auto* const waiting = static_cast<RadosOperation*>(argument);
  RadosEngine& engine = *waiting->engine;
  std::shared_ptr<RadosOperation> operation = engine.take_in_flight(waiting);
  const std::shared_ptr<librados::AioCompletion> completion = std::exchange(operation->completion, nullptr);
  engine.settle(std::move(operation), completion->get_return_value(), completion->get_version64());
}

std::shared_ptr<RadosOperation> RadosEngine::take_in_flight(RadosOperation* operation) {
  const std::lock_guard lock(mutex_);
  const auto node = in_flight_.extract(operation);
  return node.empty() ? nullptr : std::move(node.mapped());
}

void RadosEngine::settle(std::shared_ptr<RadosOperation> operation, int result, uint64_t version) {
  const bool failed_before = operation->backoff_ns != 0;
  if (result < 0 && may_pass(-result)) {
    if (retry_later(operation, -result)) return;
    failures_.report_outage(
        operation->object.name,
        "gave up after " + seconds_text(now_ns() - operation->begin_ns) + ": " + std::strerror(-result));
  } else if (failed_before && (result >= 0 || is_answer(-result))) {
    failures_.report_recovery();
  }
  RadosAnswer answer{.uncertain = operation->uncertain};
  if (result < 0) {
    answer.status = failure(*operation, -result);
    if (!is_answer(-result)) {
      counters_.errors.fetch_add(1, std::memory_order_relaxed);
      if (!may_pass(-result)) failures_.report(operation->object.name, answer.status.message());
    }
  } else {
    answer.result = result;
    answer.version = version;
  }
  finish(operation, std::move(answer));
}

// False if its time is over.
bool RadosEngine::retry_later(const std::shared_ptr<RadosOperation>& operation, int error) {
  const uint64_t backoff_ns = operation->backoff_ns == 0 ? kFirstBackoffNs : operation->backoff_ns;
  const uint64_t when_ns = now_ns() + backoff_ns;
  if (when_ns >= deadline_ns(*operation)) return false;
  operation->backoff_ns = std::min(backoff_ns * 2, kLongestBackoffNs);
  operation->uncertain |= error == ETIMEDOUT;
  counters_.retries.fetch_add(1, std::memory_order_relaxed);
  failures_.report_outage(operation->object.name,
                          std::string("cannot ") + operation->verb + " now: " + std::strerror(error) +
                              "; trying again until " + seconds_text(timeout_ns_) + " have passed");
  const std::lock_guard lock(mutex_);
  // Cancelled by close(), or too late for it to see the operation here.
  if (closed_) return false;
  delayed_.emplace(when_ns, operation);
  work_.notify_one();
  return true;
}

void RadosEngine::finish(const std::shared_ptr<RadosOperation>& operation, RadosAnswer answer) {
  counters_.in_flight.fetch_sub(1, std::memory_order_relaxed);
  operation->done(std::move(answer));
  // What the caller gave us goes before close() may return.
  operation->begin = nullptr;
  operation->done = nullptr;
  leave();
}

void RadosEngine::leave() {
  const std::lock_guard lock(mutex_);
  if (--unfinished_ == 0 && closed_) changed_.notify_all();
}

void RadosEngine::fail_all(const Operations& operations, const Status& why) {
  for (const std::shared_ptr<RadosOperation>& operation : operations) {
    counters_.errors.fetch_add(1, std::memory_order_relaxed);
    failures_.report_outage(operation->object.name, why.message());
    finish(operation, RadosAnswer{.status = why.with_context(description_)});
  }
}

Status RadosEngine::failure(const RadosOperation& operation, int error) const {
  std::string what =
      description_ + ": cannot " + operation.verb + " object `" + printable(operation.object.name) + "`";
  if (error == ENODATA) return Status(ENOENT, what + ": it has no such attribute");
  if (error == ETIMEDOUT) what += " in " + seconds_text(now_ns() - operation.begin_ns);
  return Status::from_errno(error, std::move(what));
}

Status RadosEngine::closed_status() const {
  return Status(ECANCELED, description_ + ": the store was closed");
}

// What callers ask besides.

StoreState RadosEngine::state() const {
  const std::lock_guard lock(mutex_);
  if (ready_) return {StoreState::Phase::kReady, {}};
  if (connect_failure_.ok()) return {StoreState::Phase::kConnecting, {}};
  return {StoreState::Phase::kFailed, connect_failure_.message()};
}

Status RadosEngine::wait_ready(uint32_t timeout_ms) {
  std::unique_lock lock(mutex_);
  const auto decided = [this] {
    return ready_ || closed_ || (!connect_failure_.ok() && !may_pass(connect_failure_.error_number()));
  };
  changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), decided);
  if (closed_) return closed_status();
  if (ready_) return {};
  if (!connect_failure_.ok()) return connect_failure_.with_context(description_);
  return Status(ETIMEDOUT, description_ + ": still connecting after " + std::to_string(timeout_ms) + " ms");
}

Status RadosEngine::list(Pool pool, const std::string& prefix,
                         const std::function<bool(const std::string&)>& visit) {
  CACHED_RETURN_IF_ERROR(wait_ready(options_.origin_timeout_ms));
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return closed_status();
    ++unfinished_;
  }
  const Status status = list_pool(pool == Pool::kData ? data_ : metadata_, prefix, visit);
  leave();
  return status;
}

Status RadosEngine::list_pool(librados::IoCtx& pool, const std::string& prefix,
                              const std::function<bool(const std::string&)>& visit) {
  librados::ObjectCursor at = pool.object_list_begin();
  const librados::ObjectCursor end = pool.object_list_end();
  uint64_t good_ns = now_ns();
  while (!pool.object_list_is_end(at)) {
    std::vector<librados::ObjectItem> page;
    // The cursor is moved in place: assigning one leaks what librados 16 keeps in it.
    const int result = pool.object_list(at, end, kListPageNames, {}, &page, &at);
    std::unique_lock lock(mutex_);
    if (closed_) return closed_status();
    if (result < 0) {
      if (!may_pass(-result) || now_ns() - good_ns + kFirstBackoffNs >= timeout_ns_)
        return Status::from_errno(-result, description_ + ": cannot list its objects");
      changed_.wait_for(lock, std::chrono::nanoseconds(kFirstBackoffNs), [this] { return closed_; });
      continue;
    }
    lock.unlock();
    for (const librados::ObjectItem& item : page) {
      if (item.oid.starts_with(prefix) && !visit(item.oid)) return {};
    }
    good_ns = now_ns();
  }
  return {};
}

// Closing.

void RadosEngine::close() {
  const std::lock_guard closing(close_mutex_);
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    work_.notify_one();
    changed_.notify_all();
  }
  if (keeper_.joinable()) keeper_.join();
  Operations idle = take_waiting(true);
  {
    const std::lock_guard lock(mutex_);
    for (auto& [when_ns, operation] : delayed_) idle.push_back(std::move(operation));
    delayed_.clear();
  }
  for (const std::shared_ptr<RadosOperation>& operation : idle) {
    finish(operation, RadosAnswer{.status = closed_status()});
  }
  cancel_in_flight();
  data_ = librados::IoCtx();
  metadata_ = librados::IoCtx();
  cluster_.reset();
}

// Returns when nothing is unfinished. Again and again, since an operation may just be on its way into
// librados.
void RadosEngine::cancel_in_flight() {
  std::unique_lock lock(mutex_);
  while (unfinished_ > 0) {
    std::vector<std::shared_ptr<librados::AioCompletion>> completions;
    for (const auto& [raw, operation] : in_flight_) completions.push_back(operation->completion);
    lock.unlock();
    for (const std::shared_ptr<librados::AioCompletion>& completion : completions) {
      data_.aio_cancel(completion.get());
    }
    completions.clear();
    lock.lock();
    changed_.wait_for(lock, kCancelAgainAfter, [this] { return unfinished_ == 0; });
  }
}

}  // namespace cached::origin
