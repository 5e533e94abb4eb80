// A client's session memory: see session.h.
#include "cached/server/session.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"

namespace cached::server {
namespace {

// Of anything that is counted, bytes included.
constexpr uint64_t kMostPerSecond = 1'000'000'000'000;

// What a session of this age can have counted, or 0.
uint64_t possible_figure(const std::atomic<uint64_t>& counted, uint64_t age_s) {
  const uint64_t figure = counted.load(std::memory_order_relaxed);
  return figure / kMostPerSecond <= age_s ? figure : 0;
}

}  // namespace

Result<std::shared_ptr<Session>> Session::create(uint64_t id, const Peer& peer, const shm::Hello& hello,
                                                 volume::Volume* volume, unsigned shards) {
  std::shared_ptr<Session> session(new Session());
  session->id_ = id;
  session->peer_ = peer;
  session->label_ = hello.label;
  session->volume_ = volume;
  session->snapshot_ = hello.snapshot;
  session->wants_notices_ = (hello.flags & shm::kHelloWantsNotices) != 0;
  session->started_ns_ = system_clock().monotonic_ns();
  session->geometry_ =
      shm::make_session_geometry(hello.queue_count, hello.queue_depth, hello.buffer_bytes, shards);

  const auto bytes = static_cast<off_t>(session->geometry_.total_bytes);
  session->memory_fd_.reset(::memfd_create("cached-session", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const int fd = session->memory_fd_.get();
  if (fd < 0 || ::fchmod(fd, 0600) != 0 || ::ftruncate(fd, bytes) != 0 || ::fallocate(fd, 0, 0, bytes) != 0) {
    return Status::from_errno("cannot make the memory of a session");
  }
  void* const memory = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return Status::from_errno("cannot map the memory of a session");
  session->memory_ = static_cast<std::byte*>(memory);
  ::madvise(memory, static_cast<size_t>(bytes), MADV_DONTDUMP);
  if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return Status::from_errno("cannot seal the memory of a session");
  }
  session->header()->geometry = session->geometry_;
  session->header()->use_rows = shm::kUseRows;
  for (unsigned shard = 0; shard < shards; ++shard) {
    session->eventfds_.emplace_back(::eventfd(0, EFD_CLOEXEC));
    if (!session->eventfds_.back().valid()) return Status::from_errno("cannot make an eventfd for a session");
  }
  return session;
}

Session::~Session() {
  if (memory_ != nullptr) ::munmap(memory_, geometry_.total_bytes);
}

void Session::end_service(const std::string& why) {
  if (!serving_.exchange(false)) return;
  log_warning("session {} (pid {}, {}): {}; its service ends", id_, peer_.pid, printable(label_), why);
  const int socket = socket_.load(std::memory_order_acquire);
  if (socket >= 0) ::shutdown(socket, SHUT_RDWR);
}

void Session::start_notices() {
  notices_started_ = true;
  send_overdue();
}

// The socket stays open until this thread has been asked to let go of the session, which is why it may be
// used here.
void Session::tell(const std::vector<shm::Notice>& notices) {
  const int socket = socket_.load(std::memory_order_acquire);
  if (!wants_notices_ || socket < 0) return;
  const bool can_send = notices_started_ && !notices_overdue_;
  if (!can_send || !shm::send_notices(socket, notices).ok()) notices_overdue_ = true;
}

void Session::send_overdue() {
  const int socket = socket_.load(std::memory_order_acquire);
  if (!notices_overdue() || socket < 0) return;
  const shm::Notice everything{
      .kind = shm::NoticeKind::kEverything, .handle = {}, .told_at_ns = system_clock().monotonic_ns()};
  notices_overdue_ = !shm::send_notices(socket, {&everything, 1}).ok();
}

uint64_t Session::age_s() const {
  return (system_clock().monotonic_ns() - started_ns_) / kNanosecondsPerSecond;
}

uint64_t Session::counter(shm::Counter counter) const {
  const uint64_t age = age_s();
  uint64_t sum = 0;
  for (unsigned q = 0; q < geometry_.queue_count; ++q)
    sum += possible_figure(queue(q).counter(static_cast<unsigned>(counter)), age);
  return sum;
}

void Session::add_uses(std::map<uint64_t, Use>* uses) const {
  const uint64_t age = age_s();
  for (unsigned q = 0; q < geometry_.queue_count; ++q) {
    for (unsigned i = 0; i < shm::kUseRows; ++i) {
      const shm::UseRow& row = queue(q).use_row(i);
      const uint64_t key = row.key.load(std::memory_order_acquire);
      if (key == 0) continue;
      Use& use = (*uses)[key];
      use.reads += possible_figure(row.reads, age);
      use.hit_bytes += possible_figure(row.hit_bytes, age);
      use.miss_bytes += possible_figure(row.miss_bytes, age);
    }
  }
}

}  // namespace cached::server
