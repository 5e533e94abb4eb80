// The inside of Channel: its turn on an attachment, its ring, its hazards and its counters; private to the
// library.
//
// A call takes the channel's turn (enter), works on the attachment that the channel holds, and ends it
// (leave). A view that a read handed out keeps the turn until it is released, so that nobody unmaps the
// memory under it. Parts: channel.cc (turn, counters, everything that is not below), channel_ring.cc
// (requests and answers), channel_read.cc (hits and misses), channel_metadata.cc (names, attributes,
// listings). AsyncReader drives the steps of channel_ring.cc and channel_read.cc in another order, with many
// reads under way.
#pragma once

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "shm/attachment.h"
#include "shm/client.h"
#include "shm/client_impl.h"
#include "shm/file_map.h"
#include "shm/read_state.h"

namespace cached::shm {

struct Channel::Impl final : ReadHolder {
 public:
  explicit Impl(std::shared_ptr<Client::Impl> client);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // --- the turn ---
  // Begins a call: gives back a view that is still out, takes the turn, moves to the newest attachment.
  void begin_call();
  // Takes the turn, and moves to the newest attachment.
  void enter();
  // Ends a call or the life of its view.
  void leave();
  // True if there is a newer attachment than the channel's.
  bool is_behind() const { return generation_ != client_->generation(); }
  // Moves to the newest attachment; whoever has the turn. Hazards in the old one are forgotten: who holds
  // some clears them before, or keeps the attachment (ReadState::left) and clears them there.
  void move_on();
  // The keeper's side, under the client's mutex: takes the turn if the channel is between two calls.
  bool try_enter() { return busy_.exchange(1, std::memory_order_seq_cst) == 0; }
  void leave_for_keeper() { busy_.store(0, std::memory_order_seq_cst); }
  // Moves to `attachment`; whoever has the turn. The old one is handed back, to be dropped outside locks.
  std::shared_ptr<Attachment> adopt(std::shared_ptr<Attachment> attachment, uint64_t generation);
  void set_queue(unsigned queue) { queue_ = queue; }
  unsigned queue() const { return queue_; }
  const std::shared_ptr<Attachment>& attachment() const { return attachment_; }
  uint64_t buffer_bytes() const { return client_->options().buffer_bytes; }

  // --- counters: this thread is their one writer, here and in the queue ---
  void count(Counter counter, uint64_t amount = 1) {
    const auto index = static_cast<unsigned>(counter);
    const uint64_t sum = counters_[index].load(std::memory_order_relaxed) + amount;
    counters_[index].store(sum, std::memory_order_relaxed);
    queue_view_.counter(index).store(sum - counters_before_[index], std::memory_order_relaxed);
  }
  // Whom the reads from now on are for.
  void set_user(uint32_t uid) { uid_ = uid; }
  // A read was served: adds it to the row of its user and data set.
  void count_use(const ReadState& read);
  uint64_t counted(unsigned counter) const { return counters_[counter].load(std::memory_order_relaxed); }

  // --- the ring (channel_ring.cc) ---
  // When a call that begins now gives up, unless the daemon is there and its volume's source is slow.
  uint64_t deadline_ns() const;
  // Until when a request with this deadline waits for an answer while the daemon is well.
  uint64_t end_of_wait_ns(uint64_t deadline_ns) const;
  Request make_request(Opcode opcode, const Handle& handle, uint64_t deadline_ns);
  // Sends and waits. False: the attachment is lost or was silent past the deadline; it is marked dead then.
  bool transact(Request* requests, unsigned request_count, uint64_t deadline_ns);
  // Pushes one request; false when the ring has no room.
  bool push(const Submission& submission);
  // Waits a little for the daemon to take something from a full ring. False as for transact().
  bool wait_for_room(uint64_t deadline_ns);
  // Tells the daemon what was pushed.
  void notify_shard();
  unsigned depth() const { return queue_view_.depth(); }
  // The tail of the completions that have come. False: the attachment is lost.
  bool look_for_completions(uint32_t* tail) const;
  // Waits for completions. False as for transact().
  bool wait_for_completion(uint64_t deadline_ns, uint32_t* tail);
  // Gives a copy of each completion before `tail` to `take`, which answers whether somebody waits for it. If
  // not, or if the tail is impossible, this is no daemon to go on with: false, and the attachment is dead.
  template <typename Take>
  bool consume(uint32_t tail, Take take) {
    bool sense = tail - completion_head_ <= queue_view_.depth();
    while (sense && completion_head_ != tail) {
      Completion completion;
      std::memcpy(static_cast<void*>(&completion), queue_view_.completion(completion_head_),
                  sizeof completion);
      queue_view_.control().completion_head.store(++completion_head_, std::memory_order_release);
      sense = take(completion);
    }
    if (!sense) attachment_->mark_dead();
    return sense;
  }
  // Waits for the next attachment. EIO when there is none before the deadline; if the daemon died while a
  // request waited past it for the source, none in daemon_timeout from now.
  Status await_replacement(uint64_t deadline_ns);
  // The same, and moves there.
  Status await_attachment(uint64_t deadline_ns);
  // transact(), over as many attachments as it takes. `last_known()` may answer instead while the daemon is
  // away; the result tells whether it did.
  template <typename LastKnown>
  Result<bool> ask(Request* request, uint64_t deadline_ns, LastKnown last_known) {
    for (;;) {
      if (transact(request, 1, deadline_ns)) return false;
      if (last_known()) return true;
      CACHED_RETURN_IF_ERROR(await_attachment(deadline_ns));
    }
  }
  Status ask(Request* request, uint64_t deadline_ns) {
    return ask(request, deadline_ns, [] { return false; }).status();
  }
  // The answer's error, ok if none. Remembers the trouble.
  Status answer_status(const Completion& completion, const char* what);
  // Forgets that numbers are in use. Every call that made a request ends with it.
  void end_requests() {
    if (oldest_number() != UINT64_MAX) oldest_number_.store(UINT64_MAX, std::memory_order_seq_cst);
  }
  uint64_t oldest_number() const { return oldest_number_.load(std::memory_order_seq_cst); }
  // Says that all numbers below `number` have been answered or given up.
  void raise_oldest_number(uint64_t number) {
    if (oldest_number() != number) oldest_number_.store(number, std::memory_order_seq_cst);
  }
  // Gives back the pins of a request; without a wake-up, and later if the ring is full.
  void release_pin(uint64_t request_number);
  void push_releases();
  std::vector<uint64_t>& pending_releases() { return pending_releases_; }

  // --- reads (channel_read.cc) ---
  // The channel's own read, start to end; what it holds is handed out or given back by the caller.
  Status read(const FileReference& file, uint64_t offset, uint64_t length);
  ReadState& own_read() { return read_; }
  void prefetch(const FileReference& file, uint64_t offset, uint64_t length);
  // --- files that lie in several objects (channel_map.cc) ---
  // As read() and prefetch(), for LayoutKind::kMap.
  Status read_mapped(const FileReference& file, uint64_t offset, uint64_t length);
  void prefetch_mapped(const FileReference& file, uint64_t offset, uint64_t length);
  // The steps of a read, in this order. First: checks and counts it, and looks for it in memory;
  // `read->missing` says what is not there.
  Status begin_read(const FileReference& file, uint64_t offset, uint64_t length, ReadState* read);
  // Looks again, in another attachment.
  void probe(ReadState* read);
  // Makes the requests for what is missing; those that were made before for the same bytes keep their
  // numbers.
  Status plan(uint64_t deadline_ns, ReadState* read);
  // Checks the answers, if anything was missing, and assembles the view.
  Status finish_read(ReadState* read);
  // Lets go of what was found in memory.
  void clear_hazards(ReadState* read);
  // Clears hazards and gives pins back, of a view or of a read that failed. Its view is over.
  void give_back(ReadState* read);
  // Ends the view of the channel's own read.
  void take_back(ReadState* read) override;

  // --- metadata (channel_metadata.cc) ---
  // A name or an inode from the table, if it was validated at `oldest_ns` or later.
  bool known_name(const Handle& parent, std::string_view name, uint64_t oldest_ns,
                  LookupResult* result) const;
  bool known_inode(const Handle& handle, uint64_t oldest_ns, InodeInfo* info) const;
  // When the table's record of a name was validated, if it leads to `child` (null: absent); else
  // `fallback_ns`.
  uint64_t name_validation(const Handle& parent, std::string_view name, const Handle* child,
                           uint64_t fallback_ns) const;
  // Bytes at the start of an answered request's buffer; EIO if the answer says more than the buffer has.
  Result<std::string_view> output_of(const Request& request) const;
  Result<InodeInfo> inode_of(const Request& request) const;
  uint64_t output_room() const;
  // A request whose answer is bytes, copied out.
  Result<std::string> ask_for_bytes(Opcode opcode, const Handle& handle, std::string_view input,
                                    const char* what);

  // Why the last answer was an error.
  Trouble trouble() const { return trouble_; }
  void forget_trouble() { trouble_ = Trouble::kNone; }

 private:
  static constexpr unsigned kNoQueue = kMaximumQueues;

  // channel_ring.cc
  bool push_or_wait(const Submission& submission, uint64_t deadline_ns);
  bool hint_would_fit() const;

  // channel_read.cc
  bool find_piece(const FileReference& file, uint64_t position, uint64_t end, ReadState::Piece* piece) const;
  ObjectRange find_pieces(ReadState* read);
  void drop_pieces(const ObjectRange& range, ReadState* read);
  void free_hazard(unsigned hazard);
  Status read_missing(ReadState* read);
  Status take_answers(ReadState* read);
  Status check_read_answer(const Request& request) const;
  static void append(const std::byte* data, uint64_t length, ReadState* read);
  void append_pieces(const ObjectRange& range, ReadState* read);
  void append_answer(const Request& request, ReadState* read) const;
  void touch(uint32_t page);
  bool block_is_present(const FileReference& file, uint64_t position) const;

  // channel_map.cc
  Result<std::shared_ptr<const MapRun>> map_run(const FileReference& file, uint64_t offset);
  Status read_pieces(const FileReference& file, uint64_t offset, uint64_t length, bool* map_is_over);
  void show_zeros(uint64_t length);
  Status copy_piece(const FileReference& part, uint64_t length, uint64_t done);

  // Read and written by every hit, and by nobody else but the keeper.
  alignas(64) std::atomic<uint32_t> busy_{0};
  unsigned queue_ = kNoQueue;  // set once, before anybody else knows the channel
  uint64_t generation_ = 0;
  std::shared_ptr<Attachment> attachment_;
  QueueView queue_view_;
  unsigned free_hazard_count_ = 0;
  std::array<uint8_t, kHazardsPerQueue> free_hazards_{};  // the queue's hazards that protect nothing
  uint64_t touch_head_ = 0;
  uint32_t last_touch_ = 0;  // page + 1
  UseRow* take_use_row(uint64_t key);
  uint32_t uid_ = 0;
  uint64_t use_key_ = 0;       // of use_row_
  UseRow* use_row_ = nullptr;  // the last one that was used; null: none yet
  bool has_use_rows_ = false;
  Trouble trouble_ = Trouble::kNone;
  std::array<std::atomic<uint64_t>, kCounters> counters_{};  // over all attachments
  std::array<uint64_t, kCounters> counters_before_{};        // what the queue's own do not count
  ReadState read_;
  std::vector<std::byte> assembled_;  // a read of several objects; as long as the longest so far

  // The ring: our own indices, never read back from shared memory while in use.
  std::shared_ptr<Client::Impl> client_;
  uint32_t submission_tail_ = 0;
  uint32_t completion_head_ = 0;
  std::vector<uint64_t> pending_releases_;  // pins to give back for which the ring had no room
  std::atomic<uint64_t> oldest_number_{
      UINT64_MAX};  // no unanswered request of this channel has a smaller one
};

// A call's turn, for calls that hand nothing out.
class Turn {
 public:
  explicit Turn(Channel::Impl* impl) : impl_(impl) { impl_->begin_call(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() {
    impl_->end_requests();
    impl_->leave();
  }

 private:
  Channel::Impl* impl_;
};

}  // namespace cached::shm
