// Talking to Redis: see redis_client.h.
#include "cached/origin/redis_client.h"

#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <hiredis/sds.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "base/clock.h"
#include "base/log.h"

namespace cached::origin {
namespace {

constexpr size_t kMaximumInFlight = 1024;
constexpr uint64_t kFirstBackoffMs = 50;
constexpr uint64_t kLastBackoffMs = 1000;
constexpr uint64_t kTrackingRetryMs = 60'000;  // after the server said that it cannot
constexpr size_t kMaximumPasswordBytes = 4096;
constexpr const char* kInvalidations = "__redis__:invalidate";

struct ReplyDeleter {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};

std::string_view text_of(const redisReply& reply) {
  return {reply.str, reply.str == nullptr ? 0 : static_cast<size_t>(reply.len)};
}

// Nested errors (a script that returns one) become nil: nobody takes them for values.
RedisReply copy_of(const redisReply& reply) {
  RedisReply copy;
  if (reply.type == REDIS_REPLY_INTEGER) {
    copy.kind = RedisReply::Kind::kInteger;
    copy.integer = reply.integer;
  } else if (reply.type == REDIS_REPLY_STRING || reply.type == REDIS_REPLY_STATUS) {
    copy.kind = RedisReply::Kind::kString;
    copy.text = text_of(reply);
  } else if (reply.type == REDIS_REPLY_ARRAY) {
    copy.kind = RedisReply::Kind::kArray;
    copy.items.reserve(reply.elements);
    for (size_t i = 0; i < reply.elements; ++i) copy.items.push_back(copy_of(*reply.element[i]));
  }
  return copy;
}

// Errors of a server that is not what it was, or not yet: another connection may meet a better one.
bool passes(std::string_view error) {
  constexpr std::array<std::string_view, 7> kPassing = {"LOADING",  "MASTERDOWN", "NOSCRIPT",  "BUSY ",
                                                        "TRYAGAIN", "NOAUTH",     "UNKILLABLE"};
  return std::any_of(kPassing.begin(), kPassing.end(),
                     [error](std::string_view begin) { return error.starts_with(begin); });
}

// A peer that vanished without a word is noticed within about ten seconds.
void watch_peer(int fd) {
  const int on = 1;
  const int idle_s = 5;
  const int interval_s = 2;
  const int count = 3;
  const int unacknowledged_ms = 10'000;
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
  ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms, sizeof unacknowledged_ms);
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

uint64_t now_monotonic_ns() {
  return system_clock().monotonic_ns();
}

}  // namespace

RedisClient::RedisClient(RedisOptions options, Hooks hooks)
    : options_(std::move(options)),
      hooks_(std::move(hooks)),
      log_(options_.subject),
      wakeup_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  thread_ = std::thread([this] { run(); });
}

RedisClient::~RedisClient() {
  close();
}

void RedisClient::close() {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
  }
  ::eventfd_write(wakeup_.get(), 1);
  thread_.join();
  // Nobody else touches the queues now: begin() sees stopping_.
  for (std::deque<Request>* const queue : {&in_flight_, &waiting_, &inbox_}) {
    for (Request& request : *queue) {
      if (request.done) request.done(Status(ECANCELED, options_.subject + ": closed"));
    }
    queue->clear();
  }
}

std::string RedisClient::trouble() const {
  const std::lock_guard lock(mutex_);
  return trouble_;
}

void RedisClient::note_trouble(const std::string& why) {
  if (why.empty()) {
    log_.report_recovery();
  } else {
    log_.report_outage("the connection", why);
  }
  const std::lock_guard lock(mutex_);
  trouble_ = why;
}

// Asking. -----------------------------------------------------------------------------------------------

Call<RedisReply> RedisClient::begin(Request request) {
  const auto held = std::make_shared<Request>(std::move(request));
  return Call<RedisReply>([this, held](Done<RedisReply> done) {
    held->done = std::move(done);
    {
      const std::lock_guard lock(mutex_);
      if (!stopping_) {
        inbox_.push_back(std::move(*held));
        ::eventfd_write(wakeup_.get(), 1);
        return;
      }
    }
    held->done(Status(ECANCELED, options_.subject + ": closed"));
  });
}

Call<RedisReply> RedisClient::run_script(size_t number, std::vector<std::string> arguments,
                                         uint64_t deadline_ns) {
  Request request;
  request.script = number;
  request.arguments = std::move(arguments);
  request.deadline_ns = deadline_ns;
  return begin(std::move(request));
}

Call<RedisReply> RedisClient::command(std::vector<std::string> arguments, uint64_t deadline_ns) {
  Request request;
  request.arguments = std::move(arguments);
  request.deadline_ns = deadline_ns;
  return begin(std::move(request));
}

// The thread. -------------------------------------------------------------------------------------------

void RedisClient::take_inbox() {
  const std::lock_guard lock(mutex_);
  for (Request& request : inbox_) waiting_.push_back(std::move(request));
  inbox_.clear();
}

void RedisClient::expire(uint64_t now_ns) {
  const auto end = [&](Request& request) {
    ++counters_.timeouts;
    request.done(Status(ETIMEDOUT, options_.subject + ": no answer in time"));
    request.done = nullptr;
  };
  for (Request& request : in_flight_) {
    if (request.done && request.deadline_ns <= now_ns) end(request);
  }
  std::erase_if(waiting_, [&](Request& request) {
    if (request.deadline_ns > now_ns) return false;
    end(request);
    return true;
  });
}

int RedisClient::poll_timeout_ms(uint64_t now_ns) const {
  uint64_t next_ns = UINT64_MAX;
  for (const Request& request : in_flight_) {
    if (request.done) next_ns = std::min(next_ns, request.deadline_ns);
  }
  for (const Request& request : waiting_) next_ns = std::min(next_ns, request.deadline_ns);
  if (!in_flight_.empty()) {
    next_ns =
        std::min(next_ns, in_flight_.front().sent_at_ns + options_.silence_ms * kNanosecondsPerMillisecond);
  }
  for (const Link* const link : {&main_, &tracking_}) {
    if (link == &tracking_ && !options_.tracking) continue;
    if (link->phase == Link::Phase::kDown) next_ns = std::min(next_ns, link->retry_at_ns);
    if (link->phase == Link::Phase::kConnecting || link->phase == Link::Phase::kGreeting)
      next_ns = std::min(next_ns, link->limit_ns);
  }
  if (next_ns == UINT64_MAX) return -1;
  if (next_ns <= now_ns) return 0;
  return static_cast<int>(std::min<uint64_t>((next_ns - now_ns) / kNanosecondsPerMillisecond + 1, 3'600'000));
}

void RedisClient::run() {
  ::pthread_setname_np(::pthread_self(), "redis");
  std::vector<Link*> links{&main_};
  if (options_.tracking) links.push_back(&tracking_);
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) break;
    }
    take_inbox();
    uint64_t now_ns = now_monotonic_ns();
    expire(now_ns);
    if (!in_flight_.empty() &&
        now_ns >= in_flight_.front().sent_at_ns + options_.silence_ms * kNanosecondsPerMillisecond) {
      drop(&main_, "it is silent");
    }
    for (Link* const link : links) {
      const bool begun = link->phase == Link::Phase::kConnecting || link->phase == Link::Phase::kGreeting;
      if (begun && now_ns >= link->limit_ns) drop(link, "it does not answer");
      if (link->phase == Link::Phase::kDown && now_ns >= link->retry_at_ns) connect(link, now_ns);
    }
    send_waiting(now_ns);

    std::array<pollfd, 3> polled{{{wakeup_.get(), POLLIN, 0}, {-1, POLLIN, 0}, {-1, POLLIN, 0}}};
    for (size_t i = 0; i < links.size(); ++i) {
      if (links[i]->context == nullptr) continue;
      polled[i + 1].fd = links[i]->context->fd;
      const bool writes = links[i]->phase == Link::Phase::kConnecting || sdslen(links[i]->context->obuf) > 0;
      polled[i + 1].events = static_cast<short>(writes ? POLLIN | POLLOUT : POLLIN);
    }
    if (::poll(polled.data(), polled.size(), poll_timeout_ms(now_monotonic_ns())) < 0 && errno != EINTR)
      break;
    eventfd_t ignored = 0;
    if (polled[0].revents != 0) ::eventfd_read(wakeup_.get(), &ignored);
    for (size_t i = 0; i < links.size(); ++i) {
      if (polled[i + 1].revents != 0 && links[i]->context != nullptr) handle(links[i], polled[i + 1].revents);
    }
  }
  for (Link* const link : links) {
    if (link->context != nullptr) redisFree(link->context);
    link->context = nullptr;
  }
}

void RedisClient::connect(Link* link, uint64_t now_ns) {
  link->limit_ns = now_ns + options_.connect_timeout_ms * kNanosecondsPerMillisecond;
  link->context = options_.unix_socket.empty() ? redisConnectNonBlock(options_.host.c_str(), options_.port)
                                               : redisConnectUnixNonBlock(options_.unix_socket.c_str());
  link->phase = Link::Phase::kConnecting;
  if (link->context == nullptr) return drop(link, "out of memory");
  if (link->context->err != 0) return drop(link, link->context->errstr);
  ::fcntl(link->context->fd, F_SETFD, FD_CLOEXEC);
}

Result<std::string> RedisClient::password() const {
  const UniqueFd fd(::open(options_.password_file.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(kMaximumPasswordBytes, '\0');
  const ssize_t count = fd.valid() ? ::read(fd.get(), text.data(), text.size()) : -1;
  if (count < 0) return Status::from_errno("the password file " + options_.password_file + " cannot be read");
  text.resize(static_cast<size_t>(count));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

bool RedisClient::say(Link* link, const std::vector<std::string>& arguments) {
  std::vector<const char*> values;
  std::vector<size_t> lengths;
  for (const std::string& argument : arguments) {
    values.push_back(argument.data());
    lengths.push_back(argument.size());
  }
  return redisAppendCommandArgv(link->context, static_cast<int>(values.size()), values.data(),
                                lengths.data()) == REDIS_OK;
}

// The socket is connected: says what every connection begins with.
void RedisClient::connected(Link* link) {
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(link->context->fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return drop(link, std::strerror(error));
  if (options_.unix_socket.empty()) watch_peer(link->context->fd);
  std::vector<std::vector<std::string>> commands;
  if (!options_.password_file.empty()) {
    Result<std::string> secret = password();
    if (!secret.ok()) return drop(link, secret.status().message());
    commands.push_back({"AUTH"});
    if (!options_.user.empty()) commands.back().push_back(options_.user);
    commands.back().push_back(std::move(*secret));
  }
  if (link == &main_) {
    commands.push_back({"SELECT", std::to_string(options_.database)});
    commands.push_back({"INFO", "server"});
    for (const std::string& script : options_.scripts) commands.push_back({"SCRIPT", "LOAD", script});
    commands.push_back(options_.greeting);
  } else {
    commands.push_back({"CLIENT", "ID"});
  }
  link->phase = Link::Phase::kGreeting;
  link->greetings.clear();
  link->greeting_errors.clear();
  link->greetings_expected = commands.size();
  for (const auto& command : commands) {
    if (!say(link, command)) return drop(link, "out of memory");
  }
}

void RedisClient::drop(Link* link, const std::string& why) {
  if (link->context != nullptr) redisFree(link->context);
  link->context = nullptr;
  link->phase = Link::Phase::kDown;
  link->backoff_ms = std::clamp(link->backoff_ms * 2, kFirstBackoffMs, kLastBackoffMs);
  link->retry_at_ns = now_monotonic_ns() + link->backoff_ms * kNanosecondsPerMillisecond;
  if (link == &tracking_) {
    if (tracking_state_ == Tracking::kUp) set_tracking(Tracking::kDown);
    return;
  }
  note_trouble(why);
  // Whoever was answered by its deadline does not ask again; the others do, in their order.
  while (!in_flight_.empty()) {
    if (in_flight_.back().done) waiting_.push_front(std::move(in_flight_.back()));
    in_flight_.pop_back();
  }
}

void RedisClient::set_tracking(Tracking tracking) {
  if (tracking_state_ == tracking) return;
  tracking_state_ = tracking;
  hooks_.tracking_changed(tracking);
}

void RedisClient::give_up_tracking(const std::string& why) {
  log_.report("change notices", "the server gives none (" + printable(why) +
                                    "), so changes are seen within the mounts' attribute timeout; notices "
                                    "need Redis 6 and the right to "
                                    "CLIENT TRACKING");
  drop(&tracking_, why);
  tracking_.retry_at_ns = now_monotonic_ns() + kTrackingRetryMs * kNanosecondsPerMillisecond;
  set_tracking(Tracking::kImpossible);
}

void RedisClient::send(const Request& request) {
  if (request.script == kNoScript) {
    say(&main_, request.arguments);
    return;
  }
  std::vector<std::string> arguments{"EVALSHA", script_ids_[request.script], "0"};
  arguments.insert(arguments.end(), request.arguments.begin(), request.arguments.end());
  say(&main_, arguments);
}

void RedisClient::send_waiting(uint64_t now_ns) {
  if (main_.phase != Link::Phase::kReady || waiting_.empty()) return;
  bool sent = false;
  while (!waiting_.empty() && in_flight_.size() < kMaximumInFlight) {
    send(waiting_.front());
    waiting_.front().sent_at_ns = now_ns;
    in_flight_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    ++counters_.commands;
    sent = true;
  }
  if (!sent) return;
  ++counters_.flushes;
  int done = 0;
  if (redisBufferWrite(main_.context, &done) != REDIS_OK) drop(&main_, main_.context->errstr);
}

void RedisClient::handle(Link* link, short events) {
  if (link->phase == Link::Phase::kConnecting) {
    if ((events & (POLLOUT | POLLERR | POLLHUP)) == 0) return;
    connected(link);
    if (link->context == nullptr) return;
  }
  int done = 0;
  if (sdslen(link->context->obuf) > 0 && redisBufferWrite(link->context, &done) != REDIS_OK)
    return drop(link, link->context->errstr);
  if ((events & (POLLIN | POLLHUP | POLLERR)) == 0) return;
  if (redisBufferRead(link->context) != REDIS_OK) return drop(link, link->context->errstr);
  for (;;) {
    void* raw = nullptr;
    if (redisGetReplyFromReader(link->context, &raw) != REDIS_OK) return drop(link, link->context->errstr);
    const std::unique_ptr<redisReply, ReplyDeleter> reply(static_cast<redisReply*>(raw));
    if (reply == nullptr) return;
    if (!take_reply(link, *reply)) return;
  }
}

bool RedisClient::take_reply(Link* link, const redisReply& reply) {
  if (link->phase == Link::Phase::kGreeting) return take_greeting(link, reply);
  return link == &main_ ? take_answer(reply) : take_invalidation(reply);
}

bool RedisClient::take_greeting(Link* link, const redisReply& reply) {
  link->greetings.push_back(copy_of(reply));
  link->greeting_errors.emplace_back(reply.type == REDIS_REPLY_ERROR ? text_of(reply) : std::string_view());
  if (link->greetings.size() < link->greetings_expected) return true;
  return link == &main_ ? finish_main_greeting() : finish_tracking_greeting();
}

bool RedisClient::finish_main_greeting() {
  const size_t scripts = options_.scripts.size();
  const size_t info = main_.greetings.size() - scripts - 2;
  for (size_t i = 0; i < main_.greetings.size(); ++i) {
    // INFO may be forbidden; then the cluster is noticed by its answers.
    if (main_.greeting_errors[i].empty() || i == info) continue;
    drop(&main_, "it refuses the connection: " + printable(main_.greeting_errors[i]));
    return false;
  }
  if (main_.greetings[info].text.find("redis_mode:cluster") != std::string::npos) {
    drop(&main_, "it is a Redis Cluster, which is not supported; name a server that is none");
    return false;
  }
  script_ids_.clear();
  for (size_t i = 0; i < scripts; ++i) script_ids_.push_back(main_.greetings[info + 1 + i].text);
  const Status accepted = hooks_.accept(main_.greetings.back());
  if (!accepted.ok()) {
    drop(&main_, accepted.message());
    return false;
  }
  main_.phase = Link::Phase::kReady;
  main_.backoff_ms = 0;
  ++counters_.connects;
  note_trouble("");
  return true;
}

// CLIENT ID was answered: the connection's invalidations are sent to itself, as messages, which RESP2 can
// carry. What the two commands answer comes among the messages and is looked at there.
bool RedisClient::finish_tracking_greeting() {
  for (const std::string& error : tracking_.greeting_errors) {
    if (error.empty()) continue;
    if (passes(error)) {
      drop(&tracking_, error);
    } else {
      give_up_tracking(error);
    }
    return false;
  }
  std::vector<std::string> track{
      "CLIENT", "TRACKING", "ON", "REDIRECT", std::to_string(tracking_.greetings.back().integer), "BCAST"};
  for (const std::string& prefix : options_.prefixes) {
    track.push_back("PREFIX");
    track.push_back(prefix);
  }
  tracking_.phase = Link::Phase::kReady;
  if (!say(&tracking_, track) || !say(&tracking_, {"SUBSCRIBE", kInvalidations})) {
    drop(&tracking_, "out of memory");
    return false;
  }
  return true;
}

bool RedisClient::take_answer(const redisReply& reply) {
  if (in_flight_.empty()) {
    drop(&main_, "it answers what nobody asked");
    return false;
  }
  const std::string_view error = reply.type == REDIS_REPLY_ERROR ? text_of(reply) : std::string_view();
  if (!error.empty() && passes(error)) {
    drop(&main_, printable(error));
    return false;
  }
  Request request = std::move(in_flight_.front());
  in_flight_.pop_front();
  if (!request.done) return true;
  if (error.empty()) {
    request.done(copy_of(reply));
  } else {
    request.done(Status(EIO, "Redis answers: " + printable(error)));
  }
  return true;
}

bool RedisClient::take_invalidation(const redisReply& reply) {
  if (reply.type == REDIS_REPLY_ERROR) {
    give_up_tracking(std::string(text_of(reply)));
    return false;
  }
  if (reply.type != REDIS_REPLY_ARRAY || reply.elements != 3) return true;  // +OK of CLIENT TRACKING
  const std::string_view kind = text_of(*reply.element[0]);
  if (kind == "subscribe") {
    tracking_.backoff_ms = 0;
    set_tracking(Tracking::kUp);
  } else if (kind == "message") {
    const redisReply& keys = *reply.element[2];
    std::vector<std::string> changed;
    for (size_t i = 0; keys.type == REDIS_REPLY_ARRAY && i < keys.elements; ++i) {
      changed.emplace_back(text_of(*keys.element[i]));
    }
    hooks_.invalidated(std::move(changed));
  }
  return true;
}

}  // namespace cached::origin
