// A channel's turn and counters, and the thin public face of Channel and ReadView: see channel_impl.h.
#include <utility>

#include "shm/channel_impl.h"

namespace cached::shm {

Channel::Impl::Impl(std::shared_ptr<Client::Impl> client) : client_(std::move(client)) {
  read_.holder = this;
  read_.buffer_end = static_cast<uint32_t>(buffer_bytes());
}

Channel::Impl::~Impl() {
  if (queue_ == kNoQueue) return;
  begin_call();
  push_releases();
  client_->remove_channel(this);
}

void Channel::Impl::begin_call() {
  if (read_.out) take_back(&read_);
  enter();
  forget_trouble();
}

void Channel::Impl::enter() {
  if (busy_.exchange(1, std::memory_order_seq_cst) != 0) {
    // The keeper is moving this channel, which it does under the mutex: with the mutex in hand the turn is
    // free.
    std::lock_guard lock(client_->mutex());
    busy_.exchange(1, std::memory_order_seq_cst);
  }
  if (is_behind()) move_on();
}

void Channel::Impl::move_on() {
  uint64_t generation = 0;
  std::shared_ptr<Attachment> next = client_->current(&generation);
  adopt(std::move(next), generation);
}

void Channel::Impl::leave() {
  for (;;) {
    const uint64_t generation = generation_;
    busy_.store(0, std::memory_order_seq_cst);
    if (generation == client_->generation()) return;
    enter();  // the keeper found the channel busy and left the move to us
  }
}

std::shared_ptr<Attachment> Channel::Impl::adopt(std::shared_ptr<Attachment> attachment,
                                                 uint64_t generation) {
  pending_releases_.clear();  // of pins in the attachment that is left
  std::swap(attachment_, attachment);
  generation_ = generation;
  queue_view_ = attachment_->queue(queue_);
  QueueControl& control = queue_view_.control();
  submission_tail_ = control.submission_tail.load(std::memory_order_acquire);
  completion_head_ = control.completion_head.load(std::memory_order_acquire);
  touch_head_ = control.touch_head.load(std::memory_order_relaxed);
  last_touch_ = 0;
  use_row_ = nullptr;
  has_use_rows_ = client_->options().count_uses && attachment_->has_use_rows();
  free_hazard_count_ = kHazardsPerQueue;
  for (unsigned i = 0; i < kHazardsPerQueue; ++i) {
    free_hazards_[i] = static_cast<uint8_t>(kHazardsPerQueue - 1 - i);
  }
  for (unsigned i = 0; i < kCounters; ++i) {
    counters_before_[i] = counted(i) - queue_view_.counter(i).load(std::memory_order_relaxed);
  }
  return attachment;
}

void Channel::Impl::count_use(const ReadState& read) {
  if (!has_use_rows_) return;
  const uint64_t key = use_key(uid_, read.file.data_set);
  if (use_row_ == nullptr || use_key_ != key) use_row_ = take_use_row(key);
  use_key_ = key;
  const auto add = [](std::atomic<uint64_t>& sum, uint64_t amount) {
    sum.store(sum.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  };
  const uint64_t missed = read.missing.end - read.missing.begin;
  add(use_row_->reads, 1);
  add(use_row_->hit_bytes, read.range.end - read.range.begin - missed);
  if (missed > 0) add(use_row_->miss_bytes, missed);
}

// The row of `key`, which it takes if it is nobody's yet; the last one when all are taken.
UseRow* Channel::Impl::take_use_row(uint64_t key) {
  for (unsigned i = 0; i + 1 < kUseRows; ++i) {
    UseRow& row = queue_view_.use_row(i);
    const uint64_t taken = row.key.load(std::memory_order_relaxed);
    if (taken == 0) row.key.store(key, std::memory_order_release);
    if (taken == 0 || taken == key) return &row;
  }
  UseRow& others = queue_view_.use_row(kUseRows - 1);
  others.key.store(kUseKeyOfOthers, std::memory_order_release);
  return &others;
}

Channel::Channel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Channel::~Channel() = default;

Trouble Channel::trouble() const {
  return impl_->trouble();
}

void Channel::set_user(uint32_t uid) {
  impl_->set_user(uid);
}

Result<ReadView> Channel::read(const FileReference& file, uint64_t offset, uint64_t length) {
  impl_->begin_call();
  Status status = file.layout == LayoutKind::kMap ? impl_->read_mapped(file, offset, length)
                                                  : impl_->read(file, offset, length);
  impl_->end_requests();
  ReadState* const read = &impl_->own_read();
  if (!status.ok()) {
    impl_->give_back(read);
    impl_->leave();
    return status;
  }
  return ReadView(read, read->hand_out());
}

void Channel::prefetch(const FileReference& file, uint64_t offset, uint64_t length) {
  Turn turn(impl_.get());
  if (file.layout == LayoutKind::kMap) return impl_->prefetch_mapped(file, offset, length);
  impl_->prefetch(file, offset, length);
}

ReadView::ReadView(ReadView&& other) noexcept
    : read_(std::exchange(other.read_, nullptr)), serial_(other.serial_) {}

ReadView& ReadView::operator=(ReadView&& other) noexcept {
  if (this == &other) return *this;
  release();
  read_ = std::exchange(other.read_, nullptr);
  serial_ = other.serial_;
  return *this;
}

bool ReadView::valid() const {
  return read_ != nullptr && read_->is_out(serial_);
}

void ReadView::release() {
  if (valid()) read_->holder->take_back(read_);
  read_ = nullptr;
}

const iovec* ReadView::iovecs() const {
  return iovec_count() == 0 ? nullptr : read_->iovecs.data();
}

unsigned ReadView::iovec_count() const {
  return valid() ? read_->iovec_count : 0;
}

uint64_t ReadView::bytes() const {
  return valid() ? read_->bytes : 0;
}

}  // namespace cached::shm
