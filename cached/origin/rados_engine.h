// RadosEngine: what all operations of a RadosStore have in common: connecting, attempts, time-outs, retries,
// closing.
//
// An operation goes through these places, and is owned by the one that it is in:
//
//   run() ---> waiting_   the cluster is not connected yet; ends when it is, or at the operation's deadline
//     |           |
//     +---------> in_flight_   in librados; ends with its callback, always: attempts have a time-out of their
//     own ^           |      | |           |      +---> done, once
//     +---- delayed_   failed in a way that may pass; ends after a backoff
//
// One thread, the keeper, connects (librados only knows how to block), then moves operations out of delayed_.
// It sleeps without a time-out while there is nothing to do. close() empties all three places; operations in
// librados are cancelled, which makes their callbacks run soon.
//
// Which thread: run() any, without blocking; callbacks librados's finisher; the mutex guards places and
// state, is held briefly, and never while librados or a callback of an operation runs.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <rados/librados.hpp>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "cached/origin/failure_log.h"
#include "cached/origin/object_store.h"
#include "cached/origin/rados_cluster.h"
#include "cached/origin/rados_store.h"

namespace cached::origin {

class RadosEngine;

// How an operation ended.
struct RadosAnswer {
  Status status = {};    // what the cluster said to the last attempt, or why there was none
  int result = 0;        // if ok: what librados returned, 0 or more
  uint64_t version = 0;  // if ok: of the object
  // An earlier attempt timed out, so it may have been carried out, and this answer may be a consequence of
  // that.
  bool uncertain = false;
};

struct RadosOperation {
  ObjectName object;
  std::string verb;  // for messages: "read"
  // Begins an attempt; returns what librados returned at once. Called again for each attempt, after the last
  // one ended.
  std::function<int(librados::IoCtx& pool, librados::AioCompletion* completion)> begin;
  // Called once, at the end, on any thread; it may run another operation.
  std::function<void(RadosAnswer)> done;

  // The engine's own.
  RadosEngine* engine = nullptr;
  std::shared_ptr<librados::AioCompletion> completion;  // of the attempt in flight
  uint64_t begin_ns = 0;
  uint64_t backoff_ns = 0;  // the next one; 0: nothing failed yet
  bool uncertain = false;
};

class RadosEngine {
 public:
  // Starts the keeper, which begins to connect.
  RadosEngine(const RadosOptions& options, std::shared_ptr<RadosCluster> cluster);
  // After close().
  ~RadosEngine() = default;
  RadosEngine(const RadosEngine&) = delete;
  RadosEngine& operator=(const RadosEngine&) = delete;

  void run(std::shared_ptr<RadosOperation> operation);
  // See RadosStore and ObjectStore.
  Status wait_ready(uint32_t timeout_ms);
  Status list(Pool pool, const std::string& prefix, const std::function<bool(const std::string&)>& visit);
  void close();
  StoreState state() const;
  const std::string& description() const { return description_; }
  StoreCounters& counters() { return counters_; }

 private:
  using Operations = std::vector<std::shared_ptr<RadosOperation>>;

  // The keeper.
  void keep();
  bool connect_until_ready();
  Status open_pools();
  bool pause_connecting(uint64_t pause_ns);
  void note_connect_failure(const Status& failure);
  void note_ready(librados::IoCtx data, librados::IoCtx metadata);
  Operations take_waiting(bool all);
  void serve_delayed();

  Status list_pool(librados::IoCtx& pool, const std::string& prefix,
                   const std::function<bool(const std::string&)>& visit);

  // An operation's way.
  void dispatch(std::shared_ptr<RadosOperation> operation);
  void attempt(const std::shared_ptr<RadosOperation>& operation);
  static void on_completion(rados_completion_t completion, void* argument);
  std::shared_ptr<RadosOperation> take_in_flight(RadosOperation* operation);
  void settle(std::shared_ptr<RadosOperation> operation, int result, uint64_t version);
  bool retry_later(const std::shared_ptr<RadosOperation>& operation, int error);
  void finish(const std::shared_ptr<RadosOperation>& operation, RadosAnswer answer);
  void fail_all(const Operations& operations, const Status& why);
  void cancel_in_flight();
  void leave();

  librados::IoCtx& pool_of(const ObjectName& object) {
    return object.pool == Pool::kData ? data_ : metadata_;
  }
  uint64_t now_ns() const { return system_clock().monotonic_ns(); }
  uint64_t deadline_ns(const RadosOperation& operation) const { return operation.begin_ns + timeout_ns_; }
  Status failure(const RadosOperation& operation, int error) const;
  Status closed_status() const;

  const RadosOptions options_;
  const std::string description_;
  const uint64_t timeout_ns_;
  StoreCounters counters_;
  FailureLog failures_;

  mutable std::mutex mutex_;      // guards all below, unless said otherwise
  std::condition_variable work_;  // for the keeper: waiting_, delayed_ or closed_ changed
  std::condition_variable
      changed_;  // for wait_ready() and close(): the state changed, or nothing is unfinished
  std::shared_ptr<RadosCluster> cluster_;  // used by the keeper; given up by close()
  librados::IoCtx data_;                   // set before `ready_`, then constant until nothing is unfinished
  librados::IoCtx metadata_;
  bool ready_ = false;
  bool closed_ = false;
  Status connect_failure_;  // of the last attempt to connect
  std::deque<std::shared_ptr<RadosOperation>> waiting_;
  std::multimap<uint64_t, std::shared_ptr<RadosOperation>> delayed_;  // by the time of their next attempt
  std::unordered_map<RadosOperation*, std::shared_ptr<RadosOperation>> in_flight_;
  uint64_t unfinished_ = 0;  // operations and listings that close() waits for
  std::mutex close_mutex_;   // of close() alone
  std::thread keeper_;
};

}  // namespace cached::origin
