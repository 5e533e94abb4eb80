// A daemon of a few lines for tests of the client: it makes the memfds, shakes hands, and answers each
// request by a function that the test supplies. One shard, one thread; small tables and a small arena.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "shm/client.h"
#include "shm/handshake.h"
#include "shm/hash.h"
#include "shm/index_layout.h"
#include "shm/session_layout.h"

namespace cached::shm::test {

inline constexpr uint16_t kVolume = 7;
inline constexpr uint64_t kArenaBytes = 8 * 1024 * 1024;
inline constexpr uint64_t kBucketsPerPartition = 64;
inline constexpr uint64_t kNameHashKey[2] = {0x1111, 0x2222};
inline constexpr Handle kRoot{1, 1};

// A memfd and the daemon's writable mapping of it.
class Memory {
 public:
  Memory(const char* name, uint64_t bytes);
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory();
  int fd() const { return fd_.get(); }
  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  UniqueFd fd_;
  std::byte* data_ = nullptr;
  uint64_t bytes_;
};

// What a test may spoil before the Welcome is sent.
struct Offer {
  Welcome& welcome;
  IndexSuperblock& superblock;
  SessionGeometry& session;
  std::vector<int>& fds;  // index, arena, session, eventfd
};

// What a request looks like to the test, with the part of the buffer that it may write.
struct Question {
  Submission submission;
  std::string input;
  std::byte* buffer;  // the queue's whole buffer
};

class ScriptedDaemon {
 public:
  // The answer; nothing: none. request_number is filled in.
  using Handler = std::function<std::optional<Completion>(const Question&)>;

  ScriptedDaemon();
  ScriptedDaemon(const ScriptedDaemon&) = delete;
  ScriptedDaemon& operator=(const ScriptedDaemon&) = delete;
  ~ScriptedDaemon();

  void answer_with(Handler handler);
  void spoil_with(std::function<void(Offer*)> spoil);
  // Sends these to the newest session's first queue, as one batch: for answers that come later than their
  // question, in another order, or unasked.
  void send(const std::vector<Completion>& completions);
  // Sends notices to the newest session.
  void tell(const std::vector<Notice>& notices);
  // Starts a process' life: new index, new arena.
  void start();
  // Ends it as kill -9 would: the sockets close, the memory stays with whom has it mapped.
  void kill();

  const std::string& socket() const { return socket_path_; }
  ClientOptions client_options() const;

  // Writes `length` bytes of pattern() to the arena at `page` and a record that names them.
  void publish_block(const ObjectId& object, uint32_t block, uint32_t start, uint32_t length, uint32_t page);
  void fill_arena(uint64_t arena_offset, const ObjectId& object, uint64_t object_offset, uint64_t length);
  void publish_name(const Handle& parent, std::string_view name, const Handle* child,
                    uint64_t validated_at_ns);
  void publish_inode(const InodeInfo& info);

  // Everything that came over rings so far, over all lives.
  std::vector<Submission> submissions() const;
  std::vector<Submission> submissions(Opcode opcode) const;
  // The input of the newest one.
  std::string last_input() const;
  // Waits until `count` of them have come; false after ten seconds.
  bool await_submissions(Opcode opcode, size_t count) const;
  std::vector<Hello> hellos() const;
  // Non-zero hazards of the newest session's first queue.
  unsigned published_hazards() const;
  uint64_t session_counter(Counter counter) const;
  std::vector<uint32_t> touches() const;

 private:
  struct Session {
    UniqueFd socket;
    std::unique_ptr<Memory> memory;
    SessionGeometry geometry;
    std::vector<uint32_t> submission_heads;
    std::vector<uint32_t> completion_tails;
  };
  struct Life;
  void run(Life* life);
  void welcome(Life* life);
  void serve(Life* life, Session* session);
  void serve_queue(Session* session, unsigned queue);
  void deliver(Life* life);
  std::optional<Completion> handle(const Question& question);

  std::string directory_;
  std::string socket_path_;
  std::shared_ptr<Life> life_;
  mutable std::mutex mutex_;  // all below, and the list of sessions
  Handler handler_;
  std::function<void(Offer*)> spoil_;
  std::vector<Completion> outbox_;
  std::vector<Submission> submissions_;
  std::string last_input_;
  std::vector<Hello> hellos_;
};

// The byte of an object at an offset, so that every piece of every object can be told.
inline uint8_t pattern(const ObjectId& object, uint64_t offset) {
  const uint64_t mixed = (object.low + 1) * 0x9E3779B97F4A7C15ULL + offset * 0xC2B2AE3D27D4EB4FULL;
  return static_cast<uint8_t>(mixed >> 40);
}
// True if the view holds exactly these bytes of the object.
bool holds(const ReadView& view, const ObjectId& object, uint64_t offset, uint64_t length);

// True if `bytes` are these of the object.
bool equals(const std::byte* bytes, const ObjectId& object, uint64_t offset, uint64_t length);

// An answer with pinned bytes at `arena_offset`.
Completion pinned(uint64_t arena_offset, uint32_t length);
Completion failure(int error_number, uint32_t flags = 0);
// The bytes of `object` that a READ asks for, in its part of the buffer.
Completion in_buffer(const Question& question, const ObjectId& object);
// An answer to a READ that cannot be true, of one of kImpossibleKinds kinds.
inline constexpr int kImpossibleKinds = 11;
Completion impossible(int kind, const Submission& read);

}  // namespace cached::shm::test
