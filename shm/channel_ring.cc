// Requests over the ring: sending, waiting, and giving up on an attachment. PROTOCOL.md, "Queues", says what
// each side stores and loads in which order; this is the client's side of it.
//
// A call of Channel has at most kMaximumRequestsPerCall requests on the way and returns when all are answered
// or the attachment is lost: transact(). So the ring is empty of requests between calls, and the buffer free.
// AsyncReader, which has many on the way and a part of the buffer for each, puts the same steps together in
// its own order.
#include <algorithm>
#include <cstring>
#include <string>

#include "base/clock.h"
#include "shm/channel_impl.h"
#include "shm/futex.h"

namespace cached::shm {
namespace {

constexpr uint64_t kFullRingPauseNs = kNanosecondsPerMillisecond;
constexpr int kLargestErrno = 4095;

}  // namespace

uint64_t Channel::Impl::deadline_ns() const {
  return system_clock().monotonic_ns() + client_->options().daemon_timeout_ms * kNanosecondsPerMillisecond;
}

uint64_t Channel::Impl::end_of_wait_ns(uint64_t deadline_ns) const {
  const uint64_t own_ns = client_->options().daemon_timeout_ms * kNanosecondsPerMillisecond;
  const uint64_t answer_ns = attachment_->answer_timeout_ns();
  const uint64_t more_ns = answer_ns > own_ns ? answer_ns - own_ns : 0;
  return deadline_ns > UINT64_MAX - more_ns ? UINT64_MAX : deadline_ns + more_ns;
}

Request Channel::Impl::make_request(Opcode opcode, const Handle& handle, uint64_t deadline_ns) {
  // The lower bound is published before the number is taken: whoever sees that the number is taken (the
  // keeper, for Hello::next_request_number) also sees that it is in use.
  if (oldest_number() == UINT64_MAX) {
    oldest_number_.store(client_->first_unused_number(), std::memory_order_seq_cst);
  }
  Request request;
  request.submission.request_number = client_->take_number();
  request.submission.opcode = opcode;
  request.submission.handle = handle;
  request.submission.deadline_ns = end_of_wait_ns(deadline_ns);
  return request;
}

bool Channel::Impl::push(const Submission& submission) {
  QueueControl& control = queue_view_.control();
  const uint32_t head = control.submission_head.load(std::memory_order_acquire);
  if (submission_tail_ - head >= queue_view_.depth()) return false;
  *queue_view_.submission(submission_tail_) = submission;
  control.submission_tail.store(++submission_tail_, std::memory_order_release);
  return true;
}

bool Channel::Impl::push_or_wait(const Submission& submission, uint64_t deadline_ns) {
  while (!push(submission)) {
    if (!wait_for_room(deadline_ns)) return false;
  }
  return true;
}

bool Channel::Impl::wait_for_room(uint64_t deadline_ns) {
  if (attachment_->dead()) return false;
  if (system_clock().monotonic_ns() >= deadline_ns) {
    attachment_->mark_dead();
    return false;
  }
  // Full of hints and releases, of whose consumption nobody tells: rare enough to look again now and then.
  notify_shard();
  futex_wait(queue_view_.control().completion_tail, completion_head_, kFullRingPauseNs);
  return true;
}

void Channel::Impl::notify_shard() {
  attachment_->ring_doorbell(queue_);
  if (attachment_->wake_shard(queue_)) count(Counter::kWakeups);
}

void Channel::Impl::release_pin(uint64_t request_number) {
  if (attachment_->dead()) return;  // nobody looks at this ring any more
  pending_releases_.push_back(request_number);
  push_releases();
}

void Channel::Impl::push_releases() {
  if (pending_releases_.empty()) return;
  size_t pushed = 0;
  for (; pushed < pending_releases_.size(); ++pushed) {
    Submission submission;
    submission.request_number = client_->take_number();
    submission.opcode = Opcode::kRelease;
    submission.pinned_request = pending_releases_[pushed];
    if (!push(submission)) break;
  }
  pending_releases_.erase(pending_releases_.begin(),
                          pending_releases_.begin() + static_cast<ptrdiff_t>(pushed));
  attachment_->ring_doorbell(queue_);
}

bool Channel::Impl::hint_would_fit() const {
  // Requests of a call, and the releases that follow it, must not find the ring full of hints.
  const uint32_t head = queue_view_.control().submission_head.load(std::memory_order_acquire);
  return submission_tail_ - head < queue_view_.depth() - kMaximumRequestsPerCall;
}

bool Channel::Impl::transact(Request* requests, unsigned request_count, uint64_t deadline_ns) {
  if (attachment_->dead()) return false;
  push_releases();
  for (unsigned i = 0; i < request_count; ++i) {
    Request& request = requests[i];
    request.answered = false;
    std::copy(request.input.begin(), request.input.end(),
              reinterpret_cast<char*>(queue_view_.buffer()) + request.submission.buffer_offset);
    if (!push_or_wait(request.submission, deadline_ns)) return false;
  }
  count(Counter::kRequests, request_count);
  notify_shard();
  for (unsigned open_count = request_count; open_count > 0;) {
    uint32_t tail = 0;
    if (!wait_for_completion(deadline_ns, &tail)) return false;
    const bool sense = consume(tail, [&](const Completion& completion) {
      Request* const end = requests + request_count;
      Request* const request = std::find_if(requests, end, [&](const Request& candidate) {
        return !candidate.answered && candidate.submission.request_number == completion.request_number;
      });
      if (request == end) return false;
      request->completion = completion;
      request->answered = true;
      --open_count;
      return true;
    });
    if (!sense) return false;
  }
  return true;
}

bool Channel::Impl::look_for_completions(uint32_t* tail) const {
  // The tail first, death second: mark_dead() sets the flag and then spoils the tail.
  *tail = queue_view_.control().completion_tail.load(std::memory_order_seq_cst);
  return !attachment_->dead();
}

bool Channel::Impl::wait_for_completion(uint64_t deadline_ns, uint32_t* tail) {
  QueueControl& control = queue_view_.control();
  for (;;) {
    if (!look_for_completions(tail)) return false;
    if (*tail != completion_head_) return true;
    const uint64_t now_ns = system_clock().monotonic_ns();
    const uint64_t end_ns = end_of_wait_ns(deadline_ns);
    if (now_ns >= end_ns) {
      attachment_->mark_dead();
      return false;
    }
    control.client_waiting.store(1, std::memory_order_seq_cst);
    if (control.completion_tail.load(std::memory_order_seq_cst) == completion_head_) {
      futex_wait(control.completion_tail, completion_head_, end_ns - now_ns);
    }
    control.client_waiting.store(0, std::memory_order_seq_cst);
  }
}

Status Channel::Impl::await_replacement(uint64_t deadline_ns) {
  const uint64_t now_ns = system_clock().monotonic_ns();
  if (now_ns >= deadline_ns && now_ns < end_of_wait_ns(deadline_ns)) {
    deadline_ns = now_ns + client_->options().daemon_timeout_ms * kNanosecondsPerMillisecond;
  }
  return client_->await_replacement(attachment_.get(), deadline_ns);
}

Status Channel::Impl::await_attachment(uint64_t deadline_ns) {
  CACHED_RETURN_IF_ERROR(await_replacement(deadline_ns));
  move_on();
  return Status();
}

Status Channel::Impl::answer_status(const Completion& completion, const char* what) {
  if (completion.status == 0) return Status();
  if (completion.status > 0 || completion.status < -kLargestErrno) {
    return Status(EIO, std::string("cached answered ") + what + " with the status " +
                           std::to_string(completion.status));
  }
  if (completion.status == -ESTALE) {
    if ((completion.flags & kCompletionHandleUnknown) != 0) trouble_ = Trouble::kHandleUnknown;
    if ((completion.flags & kCompletionObjectChanged) != 0) trouble_ = Trouble::kObjectChanged;
  }
  return Status::from_errno(-completion.status, std::string("cached failed ") + what);
}

}  // namespace cached::shm
