// Many reads in flight on one channel: see async_reader.h.
//
// The steps of a read and of the ring are the channel's (channel_read.cc, channel_ring.cc); here is the order
// in which many reads go through them. A read has a Slot from submit() until it is reaped, or until its view
// is released:
//
//   begin_read -> hit --------------------------------------> finished -> reaped (-> view -> released)
//              -> plan -> unsent_ -> in the ring -> answered -> finished
//
// **The turn.** The keeper moves channels to a new attachment between two calls, and unmaps the old one. So
// the reader keeps the channel's turn while a read is in flight or a view exists, and moves by itself then:
// follow(). What was in flight starts over in the new attachment, under its numbers where it is missing there
// too; views keep the attachment that they point into (ReadState::left).
//
// **Limits.** At most the ring's depth of requests are in it, since the daemon ends the session of a client
// that has more; a read that crosses an extent has two. What does not fit waits in unsent_.
//
// **Numbers.** numbers_ holds the request number of each planned request without an answer, at twice its
// slot's index: a flat array is searched faster than anything else of this size. Its minimum is the channel's
// oldest number, raised as answers come in.
#include "shm/async_reader.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/units.h"
#include "shm/channel_impl.h"

namespace cached::shm {
namespace {

// A read that crosses an extent has two requests, each with its slack, and the second starts at a page.
uint64_t buffer_bytes_of_one(uint64_t read_bytes) {
  return align_up(read_bytes + kMaximumRequestsPerCall * kReadBufferSlackBytes + kPageBytes, kPageBytes);
}

Status check_limits(const AsyncLimits& limits, uint64_t buffer_bytes) {
  if (limits.depth < 1 || limits.depth > kMaximumQueueDepth) {
    return Status(EINVAL, "a reader has 1 to " + std::to_string(kMaximumQueueDepth) + " reads in flight");
  }
  if (limits.maximum_read_bytes < 1 || limits.maximum_read_bytes > kMaximumReadBytes) {
    return Status(EINVAL, "a read has 1 to " + std::to_string(kMaximumReadBytes) + " bytes");
  }
  const uint64_t fitting = buffer_bytes / buffer_bytes_of_one(limits.maximum_read_bytes);
  if (limits.depth > fitting) {
    return Status(EINVAL, std::to_string(limits.depth) + " reads in flight of " +
                              format_size(limits.maximum_read_bytes) + " do not fit into a buffer of " +
                              format_size(buffer_bytes) + "; " + std::to_string(fitting) + " do");
  }
  return Status();
}

constexpr uint64_t kNoDeadline = UINT64_MAX;

}  // namespace

Status fit_options(const AsyncLimits& limits, ClientOptions* options) {
  CACHED_RETURN_IF_ERROR(check_limits(limits, kMaximumBufferBytes));
  const unsigned requests = limits.depth * kMaximumRequestsPerCall;
  options->queue_depth = std::clamp(std::bit_ceil(requests), kMinimumQueueDepth, kMaximumQueueDepth);
  options->buffer_bytes =
      std::max(kMinimumBufferBytes, limits.depth * buffer_bytes_of_one(limits.maximum_read_bytes));
  return Status();
}

struct AsyncReader::Impl final : ReadHolder {
 public:
  Impl(std::unique_ptr<Channel> channel, const AsyncLimits& limits);
  ~Impl();

  Status submit(uint64_t tag, const FileReference& file, uint64_t offset, uint64_t length,
                std::byte* destination);
  unsigned reap(FinishedRead* finished, unsigned room, bool wait);
  unsigned in_flight() const { return in_flight_; }
  void take_back(ReadState* read) override;

 private:
  enum class Stage : uint8_t { kFree, kInFlight, kCopied, kView, kFailed };
  struct Slot : ReadState {
    unsigned index = 0;
    Stage stage = Stage::kFree;
    uint64_t tag = 0;
    uint64_t order = 0;  // counts submissions
    std::byte* destination = nullptr;
    unsigned sent_count = 0;  // of its requests
    uint64_t copied_bytes = 0;
    Status status;
    Trouble trouble = Trouble::kNone;
  };

  // The turn, and the attachment.
  void begin();
  void end();
  void follow();

  // A read's way.
  Status start(Slot* slot);
  Status queue(Slot* slot);
  void advance(bool wait);
  void send();
  void collect();
  bool take(const Completion& completion);
  void await();
  void fail_overdue(const Status& status);
  void finish(Slot* slot, const Status& status);
  void hand_out(Slot* slot, FinishedRead* finished);

  void note_oldest_number();
  uint64_t earliest_deadline() const { return *std::min_element(deadlines_.begin(), deadlines_.end()); }
  void forget_requests(const Slot& slot);

  std::unique_ptr<Channel> owned_channel_;
  Channel::Impl& channel_;
  const AsyncLimits limits_;
  std::unique_ptr<Slot[]> slots_;
  std::vector<Slot*> free_;
  std::deque<Slot*> unsent_;
  std::deque<Slot*> finished_;
  std::vector<uint64_t> numbers_;    // kMaximumRequestsPerCall for each slot; 0: none
  std::vector<uint64_t> deadlines_;  // of each slot in flight, else kNoDeadline
  bool has_turn_ = false;
  unsigned in_flight_ = 0;
  unsigned views_ = 0;
  unsigned open_requests_ = 0;  // in the ring of the present attachment, without an answer
  uint64_t submissions_ = 0;
};

AsyncReader::Impl::Impl(std::unique_ptr<Channel> channel, const AsyncLimits& limits)
    : owned_channel_(std::move(channel)),
      channel_(*owned_channel_->impl()),
      limits_(limits),
      slots_(new Slot[limits.depth]),
      numbers_(size_t{limits.depth} * kMaximumRequestsPerCall),
      deadlines_(limits.depth, kNoDeadline) {
  const auto part_bytes = static_cast<uint32_t>(buffer_bytes_of_one(limits.maximum_read_bytes));
  for (unsigned i = limits.depth; i > 0; --i) {
    Slot& slot = slots_[i - 1];
    slot.holder = this;
    slot.index = i - 1;
    slot.buffer_begin = slot.index * part_bytes;
    slot.buffer_end = slot.buffer_begin + part_bytes;
    free_.push_back(&slot);
  }
}

AsyncReader::Impl::~Impl() {
  // The queue's next channel must find no answers to our requests, and its buffer free of our reads. Nobody
  // waits for the bytes any more, least of all the destinations.
  for (unsigned i = 0; i < limits_.depth; ++i) slots_[i].destination = nullptr;
  uint32_t tail = 0;
  while (open_requests_ > 0 && channel_.wait_for_completion(earliest_deadline(), &tail)) {
    if (!channel_.consume(tail, [this](const Completion& completion) { return take(completion); })) break;
  }
  for (unsigned i = 0; i < limits_.depth; ++i) channel_.give_back(&slots_[i]);
  channel_.end_requests();
  if (has_turn_) channel_.leave();
}

void AsyncReader::Impl::begin() {
  if (has_turn_) {
    follow();
  } else {
    channel_.enter();
    has_turn_ = true;
  }
}

void AsyncReader::Impl::end() {
  if (in_flight_ != 0 || views_ != 0) return;
  channel_.leave();
  has_turn_ = false;
}

void AsyncReader::Impl::follow() {
  if (!channel_.is_behind()) return;
  std::vector<Slot*> again;
  for (unsigned i = 0; i < limits_.depth; ++i) {
    Slot& slot = slots_[i];
    if (slot.stage == Stage::kInFlight) {
      channel_.clear_hazards(&slot);
      again.push_back(&slot);
    } else if (slot.stage == Stage::kView && slot.left == nullptr) {
      slot.left = channel_.attachment();
    }
  }
  channel_.move_on();
  open_requests_ = 0;
  unsent_.clear();
  std::sort(again.begin(), again.end(), [](const Slot* a, const Slot* b) { return a->order < b->order; });
  for (Slot* slot : again) {
    forget_requests(*slot);
    channel_.probe(slot);
    if (Status status = start(slot); !status.ok()) finish(slot, status);
  }
  note_oldest_number();
}

Status AsyncReader::Impl::submit(uint64_t tag, const FileReference& file, uint64_t offset, uint64_t length,
                                 std::byte* destination) {
  if (length > limits_.maximum_read_bytes) {
    return Status(EINVAL, "a read of " + std::to_string(length) + " bytes; this reader's limit is " +
                              std::to_string(limits_.maximum_read_bytes));
  }
  if (free_.empty()) {
    return Status(EAGAIN, "all " + std::to_string(limits_.depth) + " reads of this reader are in use");
  }
  begin();
  Slot* const slot = free_.back();
  Status status = channel_.begin_read(file, offset, length, slot);
  if (status.ok()) {
    free_.pop_back();
    slot->tag = tag;
    slot->order = ++submissions_;
    slot->destination = destination;
    slot->stage = Stage::kInFlight;
    ++in_flight_;
    if (!slot->missing.empty()) deadlines_[slot->index] = channel_.deadline_ns();
    if (Status started = start(slot); !started.ok()) finish(slot, started);
  }
  end();
  return status;
}

// From what probe() found: to the ring, or complete.
Status AsyncReader::Impl::start(Slot* slot) {
  if (!slot->missing.empty()) return queue(slot);
  finish(slot, channel_.finish_read(slot));
  return Status();
}

Status AsyncReader::Impl::queue(Slot* slot) {
  CACHED_RETURN_IF_ERROR(channel_.plan(deadlines_[slot->index], slot));
  for (unsigned i = 0; i < slot->request_count; ++i) {
    numbers_[slot->index * kMaximumRequestsPerCall + i] = slot->requests[i].submission.request_number;
  }
  slot->sent_count = 0;
  unsent_.push_back(slot);
  return Status();
}

unsigned AsyncReader::Impl::reap(FinishedRead* finished, unsigned room, bool wait) {
  if (in_flight_ != 0) advance(wait);
  unsigned count = 0;
  for (; count < room && !finished_.empty(); ++count) {
    hand_out(finished_.front(), &finished[count]);
    finished_.pop_front();
  }
  return count;
}

void AsyncReader::Impl::advance(bool wait) {
  for (;;) {
    follow();
    send();
    collect();
    if (!wait || !finished_.empty() || in_flight_ == 0) break;
    await();
  }
  end();
}

void AsyncReader::Impl::send() {
  if (unsent_.empty() || channel_.attachment()->dead()) return;
  channel_.push_releases();
  unsigned pushed = 0;
  while (!unsent_.empty()) {
    Slot& slot = *unsent_.front();
    while (slot.sent_count < slot.request_count && open_requests_ < channel_.depth() &&
           channel_.push(slot.requests[slot.sent_count].submission)) {
      ++slot.sent_count;
      ++open_requests_;
      ++pushed;
    }
    if (slot.sent_count < slot.request_count) break;
    unsent_.pop_front();
  }
  if (pushed == 0) return;
  channel_.count(Counter::kRequests, pushed);
  channel_.notify_shard();
}

void AsyncReader::Impl::collect() {
  uint32_t tail = 0;
  if (open_requests_ == 0 || !channel_.look_for_completions(&tail)) return;
  const unsigned open_before = open_requests_;
  channel_.consume(tail, [this](const Completion& completion) { return take(completion); });
  if (open_requests_ != open_before) note_oldest_number();
}

bool AsyncReader::Impl::take(const Completion& completion) {
  const auto found = std::find(numbers_.begin(), numbers_.end(), completion.request_number);
  if (completion.request_number == 0 || found == numbers_.end()) return false;
  const auto place = static_cast<unsigned>(found - numbers_.begin());
  Slot& slot = slots_[place / kMaximumRequestsPerCall];
  const unsigned which = place % kMaximumRequestsPerCall;
  if (which >= slot.sent_count) return false;  // an answer to what was not asked yet
  *found = 0;
  --open_requests_;
  slot.requests[which].completion = completion;
  slot.requests[which].answered = true;
  const auto end = slot.requests.begin() + slot.request_count;
  if (std::all_of(slot.requests.begin(), end, [](const Request& request) { return request.answered; })) {
    finish(&slot, channel_.finish_read(&slot));
  }
  return true;
}

void AsyncReader::Impl::await() {
  const uint64_t deadline_ns = earliest_deadline();
  uint32_t tail = 0;
  // With nothing in the ring that will be answered, the ring is full of what the daemon has not looked at.
  const bool alive = open_requests_ == 0 ? channel_.wait_for_room(deadline_ns)
                                         : channel_.wait_for_completion(deadline_ns, &tail);
  if (alive) return;
  if (const Status status = channel_.await_replacement(deadline_ns); !status.ok()) fail_overdue(status);
}

// The attachment is lost and there was no other in time, for the reads whose deadline is past. If it is past
// for none, there will be none: the client is closing, or a wait was in vain just before.
void AsyncReader::Impl::fail_overdue(const Status& status) {
  const uint64_t now_ns = system_clock().monotonic_ns();
  const bool all = earliest_deadline() > now_ns;
  for (unsigned i = 0; i < limits_.depth; ++i) {
    Slot& slot = slots_[i];
    if (slot.stage != Stage::kInFlight || (!all && deadlines_[i] > now_ns)) continue;
    forget_requests(slot);
    std::erase(unsent_, &slot);
    finish(&slot, status);
  }
  open_requests_ = 0;
  note_oldest_number();
}

void AsyncReader::Impl::finish(Slot* slot, const Status& status) {
  slot->status = status;
  slot->trouble = channel_.trouble();
  channel_.forget_trouble();
  slot->copied_bytes = 0;
  if (status.ok() && slot->destination == nullptr) {
    slot->stage = Stage::kView;
    ++views_;
  } else {
    slot->stage = status.ok() ? Stage::kCopied : Stage::kFailed;
    for (unsigned i = 0; status.ok() && i < slot->iovec_count; ++i) {
      const iovec& piece = slot->iovecs[i];
      std::memcpy(slot->destination + slot->copied_bytes, piece.iov_base, piece.iov_len);
      slot->copied_bytes += piece.iov_len;
    }
    channel_.give_back(slot);
  }
  deadlines_[slot->index] = kNoDeadline;
  --in_flight_;
  finished_.push_back(slot);
}

void AsyncReader::Impl::hand_out(Slot* slot, FinishedRead* finished) {
  finished->tag = slot->tag;
  finished->status = std::move(slot->status);
  finished->trouble = slot->trouble;
  finished->bytes = slot->stage == Stage::kView ? slot->bytes : slot->copied_bytes;
  if (slot->stage == Stage::kView) {
    finished->view = ReadView(slot, slot->ReadState::hand_out());
    return;
  }
  finished->view = ReadView();
  slot->stage = Stage::kFree;
  free_.push_back(slot);
}

void AsyncReader::Impl::take_back(ReadState* read) {
  Slot* const slot = static_cast<Slot*>(read);
  channel_.give_back(slot);
  slot->stage = Stage::kFree;
  free_.push_back(slot);
  --views_;
  end();
}

void AsyncReader::Impl::forget_requests(const Slot& slot) {
  for (unsigned i = 0; i < kMaximumRequestsPerCall; ++i) {
    numbers_[slot.index * kMaximumRequestsPerCall + i] = 0;
  }
}

void AsyncReader::Impl::note_oldest_number() {
  uint64_t oldest = UINT64_MAX;
  for (const uint64_t number : numbers_) {
    if (number != 0) oldest = std::min(oldest, number);
  }
  channel_.raise_oldest_number(oldest);
}

AsyncReader::AsyncReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

AsyncReader::~AsyncReader() = default;

Result<std::unique_ptr<AsyncReader>> AsyncReader::open(Client* client, const AsyncLimits& limits) {
  Result<std::unique_ptr<Channel>> channel = client->open_channel();
  if (!channel.ok()) return channel.status();
  CACHED_RETURN_IF_ERROR(check_limits(limits, (*channel)->impl()->buffer_bytes()));
  auto impl = std::make_unique<Impl>(std::move(*channel), limits);
  return std::unique_ptr<AsyncReader>(new AsyncReader(std::move(impl)));
}

Status AsyncReader::submit(uint64_t tag, const FileReference& file, uint64_t offset, uint64_t length,
                           std::byte* destination) {
  return impl_->submit(tag, file, offset, length, destination);
}

unsigned AsyncReader::reap(FinishedRead* finished, unsigned room, bool wait) {
  return impl_->reap(finished, room, wait);
}

unsigned AsyncReader::in_flight() const {
  return impl_->in_flight();
}

}  // namespace cached::shm
