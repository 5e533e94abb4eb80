// RedisClient: asks one Redis server, everything pipelined, and hears from it which keys change.
//
// One thread owns both connections and sleeps in poll(). The first connection carries requests: whatever has
// been asked since the thread last looked goes out in one write, answers come back in order. The second one,
// if `tracking`, is subscribed to the invalidations of client-side caching (CLIENT TRACKING, broadcast, by
// prefix); it needs Redis 6.
//
// Trouble. A connection that breaks, or a server that is silent for `silence_ms`, starts, or has just become
// a replica that still loads, is left; the client connects again (50 ms to 1 s between attempts, the host's
// name is looked up each time, so a failover by name or address is followed) and sends again what was not
// answered: callers ask only questions, so asking twice is harmless. A request ends at its deadline at the
// latest, with ETIMEDOUT.
//
// Each new connection is greeted before any request uses it: authentication, database, scripts, and one
// command of the owner's whose answer `accept` judges, so that another server at the same address is not
// mistaken for the old one.
//
// Any thread may ask. Hooks run on the client's thread and must not block. The password is read from its file
// at each connect and appears nowhere else.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "cached/origin/call.h"
#include "cached/origin/failure_log.h"

struct redisContext;
struct redisReply;

namespace cached::origin {

struct RedisOptions {
  std::string host;  // or:
  std::string unix_socket;
  uint16_t port = 6379;
  uint32_t database = 0;
  std::string user;           // empty: the default user
  std::string password_file;  // empty: no password
  bool tracking = true;
  std::vector<std::string> prefixes;  // of keys whose changes are wanted
  std::vector<std::string> scripts;   // Lua, loaded into each server
  std::vector<std::string> greeting;  // a command whose answer accept() judges
  uint32_t silence_ms = 10'000;       // without an answer the server counts as dead
  uint32_t connect_timeout_ms = 3'000;
  std::string subject;  // begins log lines: "volume x: Redis at host:port"
};

struct RedisReply {
  enum class Kind : uint8_t { kNil, kInteger, kString, kArray };
  Kind kind = Kind::kNil;
  int64_t integer = 0;
  std::string text;
  std::vector<RedisReply> items;
  bool is_string() const { return kind == Kind::kString; }
  bool is_array() const { return kind == Kind::kArray; }
  bool is_nil() const { return kind == Kind::kNil; }
};

class RedisClient {
 public:
  enum class Tracking : uint8_t {
    kUp,          // every change is told
    kDown,        // changes may be missed
    kImpossible,  // the server tells nobody
  };
  struct Hooks {
    // Judges the answer to the greeting. An error refuses the server: nothing is asked of it, and it is tried
    // again.
    std::function<Status(const RedisReply&)> accept;
    // These keys have changed. Empty: any may have.
    std::function<void(std::vector<std::string>)> invalidated;
    // What is heard of changes from now on. At first it is kDown.
    std::function<void(Tracking)> tracking_changed;
  };
  struct Counters {
    std::atomic<uint64_t> commands{0};  // sent, repetitions included
    std::atomic<uint64_t> flushes{0};   // writes that carried them
    std::atomic<uint64_t> connects{0};
    std::atomic<uint64_t> timeouts{0};
  };

  // Begins to connect in the background.
  RedisClient(RedisOptions options, Hooks hooks);
  // Closes.
  ~RedisClient();
  RedisClient(const RedisClient&) = delete;
  RedisClient& operator=(const RedisClient&) = delete;

  // Runs script `number` with ARGV. An error that the server answers is EIO with its text.
  Call<RedisReply> run_script(size_t number, std::vector<std::string> arguments, uint64_t deadline_ns);
  Call<RedisReply> command(std::vector<std::string> arguments, uint64_t deadline_ns);
  // Ends the thread; what waits, and what is asked later, ends with ECANCELED. No hook runs any more.
  void close();

  // Why nothing can be asked now, one line; empty if it can. Any thread.
  std::string trouble() const;
  const Counters& counters() const { return counters_; }

 private:
  static constexpr size_t kNoScript = SIZE_MAX;
  struct Request {
    size_t script = kNoScript;
    std::vector<std::string> arguments;
    uint64_t deadline_ns = 0;
    uint64_t sent_at_ns = 0;
    Done<RedisReply> done;  // null once the caller has been answered
  };
  // A connection and what is expected of it.
  struct Link {
    enum class Phase : uint8_t { kDown, kConnecting, kGreeting, kReady };
    Phase phase = Phase::kDown;
    redisContext* context = nullptr;
    uint64_t retry_at_ns = 0;
    uint64_t backoff_ms = 0;
    uint64_t limit_ns = 0;  // while connecting and greeting
    size_t greetings_expected = 0;
    std::vector<RedisReply> greetings;
    std::vector<std::string> greeting_errors;  // by place; empty: none
  };

  Call<RedisReply> begin(Request request);
  void run();
  void take_inbox();
  void expire(uint64_t now_ns);
  void connect(Link* link, uint64_t now_ns);
  void connected(Link* link);
  void drop(Link* link, const std::string& why);
  void send_waiting(uint64_t now_ns);
  void send(const Request& request);
  bool say(Link* link, const std::vector<std::string>& arguments);
  void handle(Link* link, short events);
  // False: the link was dropped.
  bool take_reply(Link* link, const redisReply& reply);
  bool take_greeting(Link* link, const redisReply& reply);
  bool finish_main_greeting();
  bool finish_tracking_greeting();
  bool take_answer(const redisReply& reply);
  bool take_invalidation(const redisReply& reply);
  void set_tracking(Tracking tracking);
  // Leaves the tracking connection because the server cannot or must not tell changes.
  void give_up_tracking(const std::string& why);
  int poll_timeout_ms(uint64_t now_ns) const;
  Result<std::string> password() const;
  void note_trouble(const std::string& why);

  const RedisOptions options_;
  const Hooks hooks_;
  FailureLog log_;
  Counters counters_;
  UniqueFd wakeup_;

  // The client's thread only.
  Link main_;
  Link tracking_;
  Tracking tracking_state_ = Tracking::kDown;
  std::vector<std::string> script_ids_;
  std::deque<Request> waiting_;
  std::deque<Request> in_flight_;

  mutable std::mutex mutex_;  // guards all below
  std::deque<Request> inbox_;
  bool stopping_ = false;
  std::string trouble_ = "not connected yet";
  std::thread thread_;
};

}  // namespace cached::origin
