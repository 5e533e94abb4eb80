// Greeter: finds the roots of new sessions, so that a source that hangs keeps only its own volume's clients
// waiting.
//
// The session thread serves everybody, and looking at a root may take for ever (a dead NFS server, a FUSE
// file system that never answers). So each volume has two threads of its own for it, started when first
// needed; answers come back through an eventfd that the session thread polls. Who waits is told ETIMEDOUT at
// the deadline, and what is found afterwards is dropped. Questions that wait behind a hanging one are
// bounded: beyond, EAGAIN at once.
//
// Thread: the session thread's alone, but for the pools' threads inside.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "cached/io/blocking_pool.h"
#include "cached/volume/volume.h"

namespace cached::server {

class Greeter {
 public:
  // How long a client waits for the root: less than clients give a handshake.
  static constexpr uint64_t kLimitNs = 4 * kNanosecondsPerSecond;
  static constexpr unsigned kThreadsPerVolume = 2;
  static constexpr size_t kWaitingPerVolume = 16;

  struct Answer {
    uint64_t question = 0;
    volume::InodeAnswer root;
  };

  static Result<std::unique_ptr<Greeter>> create(const Clock& clock);
  // Waits for calls that run; one into a source that hangs ends with the process.
  ~Greeter() = default;

  // Asks for the root of `volume` (which outlives the greeter) at `snapshot`; `question` names the answer.
  // EAGAIN: too many wait for this volume.
  Status ask(uint64_t question, volume::Volume* volume, uint64_t snapshot);
  // Readable when take_answers() may have something.
  int event_fd() const { return inbox_->event.get(); }
  // Answers that have come, and ETIMEDOUT for questions whose time is over. Each question is answered once.
  std::vector<Answer> take_answers();
  // Until the next deadline; -1 if nobody waits.
  int timeout_ms() const;

 private:
  // Where pool threads leave answers; theirs as well, because they may come when the greeter has given up.
  struct Inbox {
    UniqueFd event;
    std::mutex mutex;
    std::vector<Answer> answers;  // guarded by mutex
    void put(Answer answer);
  };
  struct Question {
    volume::Volume* volume = nullptr;
    uint64_t deadline_ns = 0;
    bool given_up = false;
  };

  explicit Greeter(const Clock& clock) : clock_(clock) {}

  const Clock& clock_;
  std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();
  std::map<uint64_t, Question> questions_;  // whose calls have not returned
  std::map<volume::Volume*, std::unique_ptr<io::BlockingPool>> pools_;
};

}  // namespace cached::server
