// The inside of Client: the current attachment, the channels, and the keeper that attaches again; private to
// the library.
//
// The keeper is one thread that sleeps in poll() on the session's socket. When the socket ends it marks the
// attachment dead (which wakes the channels that wait in it), tries to attach again until that succeeds,
// publishes the new attachment and carries over the channels that are between two calls. A channel in the
// middle of a call carries itself over. Both sides agree by the channel's `busy` flag and `generation`, all
// sequentially consistent:
//   keeper:  generation = new; if busy.exchange(1) was 0: move the channel; busy = 0
//   channel: busy = 0; if generation is not mine: take busy again and move
// Either the keeper finds the channel free, or the channel finds the new generation.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "shm/attachment.h"
#include "shm/client.h"
#include "shm/file_map.h"

namespace cached::shm {

struct Client::Impl {
 public:
  explicit Impl(const ClientOptions& options);
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // Attaches for the first time and starts the keeper.
  Status start();
  // Ends the keeper and the attachment; calls that wait fail.
  void stop();

  const ClientOptions& options() const { return options_; }
  std::shared_ptr<Attachment> attachment() const;
  // Counts attachments; a channel whose own number differs has to move. Changes only under the mutex.
  uint64_t generation() const { return generation_.load(std::memory_order_seq_cst); }
  // The current attachment and its generation.
  std::shared_ptr<Attachment> current(uint64_t* generation) const;
  // Waits for another attachment than `old` until `deadline_ns`. EIO when there is none by then.
  Status await_replacement(const Attachment* old, uint64_t deadline_ns);

  // Gives `channel` a queue and moves it to the current attachment. EAGAIN when all are taken.
  Status add_channel(Channel::Impl* channel);
  // Takes a channel out. What it could not send any more, its queue's next channel sends.
  void remove_channel(Channel::Impl* channel);

  // Keeper and channels agree on who moves a channel under this mutex: see Channel::Impl::enter().
  std::mutex& mutex() const { return mutex_; }

  uint64_t first_unused_number() const { return next_request_number_.load(std::memory_order_seq_cst); }
  uint64_t take_number() { return next_request_number_.fetch_add(1, std::memory_order_seq_cst); }
  uint64_t counter(Counter counter) const;
  void on_notices(std::function<void(const std::vector<Notice>&)> handler);
  // Maps of files, of all channels. They outlive attachments: a version's map is for ever.
  FileMapCache& maps() { return maps_; }

 private:
  struct QueueSlot {
    Channel::Impl* channel = nullptr;
    std::vector<uint64_t> orphaned_releases;
  };
  Result<std::shared_ptr<Attachment>> attach();
  uint64_t oldest_outstanding_number();
  void keep();
  // Waits for the end of `attachment` and passes notices on; false: the client is closing.
  bool await_end(const Attachment& attachment);
  // False: what came is none, or the end.
  bool take_notices(int socket);
  void pass_on(const std::vector<Notice>& notices);
  // Tries until it is attached; nothing: the client is closing.
  std::shared_ptr<Attachment> attach_again();
  bool sleep(uint64_t duration_ms);
  void publish(const std::shared_ptr<Attachment>& attachment);

  const ClientOptions options_;
  uint64_t session_uuid_[2] = {};
  std::atomic<uint64_t> next_request_number_{1};
  std::atomic<uint64_t> generation_{1};
  std::atomic<uint64_t> reattachments_{0};
  UniqueFd stop_event_;
  std::thread keeper_;
  uint64_t backoff_ms_ = 0;  // keeper only
  FileMapCache maps_;

  std::mutex notice_mutex_;  // held while the handler runs
  std::function<void(const std::vector<Notice>&)> notice_handler_;

  mutable std::mutex mutex_;
  std::condition_variable attachment_changed_;
  std::shared_ptr<Attachment> attachment_;
  std::vector<QueueSlot> queues_;
  std::array<uint64_t, kCounters> retired_counters_{};  // of channels that are gone
  std::string last_failure_;                            // why the keeper is not attached
  uint64_t last_timeout_ns_ = 0;                        // when a call last waited its whole time in vain
  bool stopping_ = false;
};

}  // namespace cached::shm
