// Client and its keeper: see client_impl.h.
#include "shm/client.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "shm/channel_impl.h"
#include "shm/client_impl.h"

namespace cached::shm {
namespace {

constexpr uint64_t kShortestBackoffMs = 50;
constexpr uint64_t kLongestBackoffMs = 1000;
constexpr uint64_t kLongestHandshakeMs = 5000;
// An attachment that lived this long was a good one: the next attempt is soon again.
constexpr uint64_t kGoodLifeNs = kNanosecondsPerSecond;
constexpr uint64_t kNoSecondWaitNs = 20 * kNanosecondsPerMillisecond;

Status check_options(const ClientOptions& options) {
  if (options.volume.empty() || options.volume.size() >= sizeof Hello::volume) {
    return Status(EINVAL, "the name of a volume has 1 to 127 bytes");
  }
  if (options.channels < 1 || options.channels > kMaximumQueues) {
    return Status(EINVAL, "a client has 1 to " + std::to_string(kMaximumQueues) + " channels");
  }
  if (!std::has_single_bit(options.queue_depth) || options.queue_depth < kMinimumQueueDepth ||
      options.queue_depth > kMaximumQueueDepth) {
    return Status(EINVAL, "the queue depth is a power of two from " + std::to_string(kMinimumQueueDepth) +
                              " to " + std::to_string(kMaximumQueueDepth));
  }
  if (options.buffer_bytes < kMinimumBufferBytes || options.buffer_bytes > kMaximumBufferBytes) {
    return Status(EINVAL, "a channel's buffer has " + std::to_string(kMinimumBufferBytes) + " to " +
                              std::to_string(kMaximumBufferBytes) + " bytes");
  }
  return Status();
}

// Runs `body` in a thread that takes none of the program's signals.
template <typename Body>
std::thread start_quiet_thread(Body body) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(body));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread.native_handle(), "cached-keeper");
  return thread;
}

}  // namespace

Client::Impl::Impl(const ClientOptions& options) : options_(options), queues_(options.channels) {}

Status Client::Impl::start() {
  CACHED_RETURN_IF_ERROR(check_options(options_));
  if (::getrandom(session_uuid_, sizeof session_uuid_, 0) != sizeof session_uuid_) {
    return Status::from_errno("no random bytes for a session's id");
  }
  stop_event_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_event_.valid()) return Status::from_errno("cannot make an eventfd");
  Result<std::shared_ptr<Attachment>> attached = attach();
  if (!attached.ok()) return attached.status();
  attachment_ = std::move(*attached);
  keeper_ = start_quiet_thread([this] { keep(); });
  return Status();
}

void Client::Impl::stop() {
  if (!keeper_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_event_.get(), &one, sizeof one);
  attachment_changed_.notify_all();
  keeper_.join();
  attachment()->mark_dead();
}

std::shared_ptr<Attachment> Client::Impl::attachment() const {
  std::lock_guard lock(mutex_);
  return attachment_;
}

std::shared_ptr<Attachment> Client::Impl::current(uint64_t* generation) const {
  std::lock_guard lock(mutex_);
  *generation = generation_.load(std::memory_order_seq_cst);
  return attachment_;
}

Status Client::Impl::await_replacement(const Attachment* old, uint64_t deadline_ns) {
  const std::chrono::steady_clock::time_point deadline{std::chrono::nanoseconds(deadline_ns)};
  std::unique_lock lock(mutex_);
  // A call that begins just after a wait that was in vain does not wait as long again. The kernel tries again
  // at once: for a buffered read whose read-ahead failed it asks for the page. A call that began before that
  // has its own time.
  const uint64_t begin_ns = deadline_ns - options_.daemon_timeout_ms * kNanosecondsPerMillisecond;
  const bool in_vain_before = begin_ns >= last_timeout_ns_ && begin_ns < last_timeout_ns_ + kNoSecondWaitNs;
  const auto over = [&] { return attachment_.get() != old || stopping_ || in_vain_before; };
  attachment_changed_.wait_until(lock, deadline, over);
  if (attachment_.get() != old) return Status();
  if (stopping_) return Status(EIO, "the client of cached is closing");
  if (!in_vain_before) last_timeout_ns_ = system_clock().monotonic_ns();
  std::string message = "cached does not answer since " + std::to_string(options_.daemon_timeout_ms) +
                        " ms (socket " + options_.socket + ")";
  if (!last_failure_.empty()) message += ": " + last_failure_;
  return Status(EIO, std::move(message));
}

Status Client::Impl::add_channel(Channel::Impl* channel) {
  std::lock_guard lock(mutex_);
  const auto free =
      std::find_if(queues_.begin(), queues_.end(), [](const QueueSlot& q) { return q.channel == nullptr; });
  if (free == queues_.end()) {
    return Status(EAGAIN, "all " + std::to_string(queues_.size()) + " channels of this client are taken");
  }
  free->channel = channel;
  channel->set_queue(static_cast<unsigned>(free - queues_.begin()));
  channel->adopt(attachment_, generation_.load(std::memory_order_seq_cst));
  channel->pending_releases().swap(free->orphaned_releases);
  return Status();
}

void Client::Impl::remove_channel(Channel::Impl* channel) {
  std::lock_guard lock(mutex_);
  QueueSlot& slot = queues_[channel->queue()];
  slot.channel = nullptr;
  slot.orphaned_releases.swap(channel->pending_releases());
  for (unsigned i = 0; i < kCounters; ++i) retired_counters_[i] += channel->counted(i);
}

uint64_t Client::Impl::counter(Counter counter) const {
  if (counter == Counter::kReattachments) return reattachments_.load(std::memory_order_relaxed);
  const auto index = static_cast<unsigned>(counter);
  std::lock_guard lock(mutex_);
  uint64_t sum = retired_counters_[index];
  for (const QueueSlot& slot : queues_) {
    if (slot.channel != nullptr) sum += slot.channel->counted(index);
  }
  return sum;
}

uint64_t Client::Impl::oldest_outstanding_number() {
  std::lock_guard lock(mutex_);
  uint64_t oldest = first_unused_number();  // before the channels are asked: see make_request()
  for (const QueueSlot& slot : queues_) {
    if (slot.channel != nullptr) oldest = std::min(oldest, slot.channel->oldest_number());
  }
  return oldest;
}

Result<std::shared_ptr<Attachment>> Client::Impl::attach() {
  AttachmentRequest request;
  request.socket = options_.socket;
  request.volume = options_.volume;
  request.snapshot = options_.snapshot;
  request.label = options_.label;
  request.queue_count = options_.channels;
  request.queue_depth = options_.queue_depth;
  request.buffer_bytes = options_.buffer_bytes;
  std::copy(std::begin(session_uuid_), std::end(session_uuid_), request.session_uuid);
  request.next_request_number = oldest_outstanding_number();
  request.timeout_ms = std::min(options_.daemon_timeout_ms, kLongestHandshakeMs);
  request.stop_fd = stop_event_.get();
  return Attachment::open(request);
}

void Client::Impl::keep() {
  for (;;) {
    const std::shared_ptr<Attachment> attachment = this->attachment();
    const uint64_t begin_ns = system_clock().monotonic_ns();
    const bool ended = await_end(*attachment);
    attachment->mark_dead();
    if (!ended) return;
    log_warning("cached at {} is gone; hits go on, misses wait for it", options_.socket);
    const bool good_life = system_clock().monotonic_ns() - begin_ns >= kGoodLifeNs;
    backoff_ms_ = good_life ? kShortestBackoffMs : std::max(backoff_ms_, kShortestBackoffMs);
    const std::shared_ptr<Attachment> next = attach_again();
    if (next == nullptr) return;
    reattachments_.fetch_add(1, std::memory_order_relaxed);
    // Nobody counts this one but the keeper, so the first queue's place is free for it.
    next->queue(0)
        .counter(static_cast<unsigned>(Counter::kReattachments))
        .store(1, std::memory_order_relaxed);
    publish(next);
    if (next->tells_changes())
      pass_on({Notice{
          .kind = NoticeKind::kEverything, .handle = {}, .told_at_ns = system_clock().monotonic_ns()}});
    log_info("attached to cached at {} again", options_.socket);
  }
}

bool Client::Impl::await_end(const Attachment& attachment) {
  for (;;) {
    pollfd watched[2] = {{attachment.socket(), POLLIN | POLLRDHUP, 0}, {stop_event_.get(), POLLIN, 0}};
    if (::poll(watched, 2, -1) < 0) continue;
    if (watched[1].revents != 0) return false;
    if (watched[0].revents != 0 && !take_notices(attachment.socket())) return true;
  }
}

bool Client::Impl::take_notices(int socket) {
  const Result<std::vector<Notice>> notices = receive_notices(socket);
  if (!notices.ok()) {
    if (notices.error_number() != ECONNRESET) log_warning("{}", notices.status().message());
    return false;
  }
  pass_on(*notices);
  return true;
}

void Client::Impl::pass_on(const std::vector<Notice>& notices) {
  const std::lock_guard lock(notice_mutex_);
  if (notice_handler_) notice_handler_(notices);
}

void Client::Impl::on_notices(std::function<void(const std::vector<Notice>&)> handler) {
  const std::lock_guard lock(notice_mutex_);
  notice_handler_ = std::move(handler);
}

std::shared_ptr<Attachment> Client::Impl::attach_again() {
  for (;;) {
    if (!sleep(backoff_ms_)) return nullptr;
    backoff_ms_ = std::min(2 * backoff_ms_, kLongestBackoffMs);
    Result<std::shared_ptr<Attachment>> attached = attach();
    std::lock_guard lock(mutex_);
    if (attached.ok()) {
      last_failure_.clear();
      return *attached;
    }
    if (attached.error_number() == ECANCELED) return nullptr;
    if (attached.status().message() == last_failure_) continue;
    last_failure_ = attached.status().message();
    log_warning("not attached: {}", printable(last_failure_));
  }
}

bool Client::Impl::sleep(uint64_t duration_ms) {
  pollfd watched{stop_event_.get(), POLLIN, 0};
  ::poll(&watched, 1, static_cast<int>(duration_ms));
  return watched.revents == 0;
}

void Client::Impl::publish(const std::shared_ptr<Attachment>& attachment) {
  std::vector<std::shared_ptr<Attachment>> left;  // unmapped after the mutex is free: that takes its time
  left.reserve(queues_.size() + 1);
  std::lock_guard lock(mutex_);
  left.push_back(std::exchange(attachment_, attachment));
  const uint64_t generation = generation_.load(std::memory_order_seq_cst) + 1;
  generation_.store(generation, std::memory_order_seq_cst);
  for (QueueSlot& slot : queues_) {
    slot.orphaned_releases.clear();
    if (slot.channel == nullptr || !slot.channel->try_enter()) continue;
    left.push_back(slot.channel->adopt(attachment, generation));
    slot.channel->leave_for_keeper();
  }
  attachment_changed_.notify_all();
}

Client::Client(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Client::~Client() {
  impl_->stop();
}

Result<std::unique_ptr<Client>> Client::connect(const ClientOptions& options) {
  auto impl = std::make_shared<Impl>(options);
  CACHED_RETURN_IF_ERROR(impl->start());
  return std::make_unique<Client>(std::move(impl));
}

Result<std::unique_ptr<Channel>> Client::open_channel() {
  auto impl = std::make_unique<Channel::Impl>(impl_);
  CACHED_RETURN_IF_ERROR(impl_->add_channel(impl.get()));
  return std::make_unique<Channel>(std::move(impl));
}

InodeInfo Client::root() const {
  return impl_->attachment()->root();
}

void Client::on_notices(std::function<void(const std::vector<Notice>&)> handler) {
  impl_->on_notices(std::move(handler));
}

bool Client::tells_changes() const {
  return impl_->attachment()->tells_changes();
}

bool Client::attached() const {
  return !impl_->attachment()->dead();
}

uint64_t Client::counter(Counter counter) const {
  return impl_->counter(counter);
}

Client::ArenaView Client::arena() const {
  const std::shared_ptr<Attachment> attachment = impl_->attachment();
  return {attachment->arena(), attachment->arena_bytes()};
}

}  // namespace cached::shm
