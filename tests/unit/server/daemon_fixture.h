// A daemon without its main(): real memory, shards, a `dir:` volume on a temporary directory and the session
// socket. And a client that speaks the protocol by hand, so that it can speak it wrongly.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <optional>

#include "base/log.h"
#include "cached/server/session_server.h"
#include "cached/server/status.h"
#include "cached/volume/dir_volume.h"
#include "shm/client.h"

namespace cached::server {

class DaemonFixture : public testing::Test {
 protected:
  static constexpr unsigned kShards = 2;

  void SetUp() override {
    ASSERT_GE(::sodium_init(), 0);
    ASSERT_TRUE(init_log({.program = "server_test", .level = "error", .file = ""})
                    .ok());  // before any thread: the logger is made without locks
    char name[] = "/tmp/server_test.XXXXXX";
    base_ = ::mkdtemp(name);
    std::filesystem::create_directories(base_ / "root");
    std::ofstream(base_ / "root/file") << content();
    memory_tier::SharedMemory::Options options;
    options.arena_bytes = 64 * 1024 * 1024;
    options.name_entries = 4096;
    options.shards = kShards;
    memory_ = std::move(memory_tier::SharedMemory::create(options)).value();
    names_ = std::make_unique<memory_tier::NameTable>(memory_->superblock()->name_hash_key,
                                                      memory_->name_writer(), memory_->inode_writer());
    for (unsigned i = 0; i < kShards; ++i)
      shards_.push_back(std::move(Shard::create({i, kShards, 64, pins_per_session_}, *memory_)).value());
    for (const auto& shard : shards_) pointers_.push_back(shard.get());
    for (const auto& shard : shards_) shard->set_peers(pointers_);
    for (const auto& shard : shards_) shard->start();
    VolumeConfig config;
    config.name = "data";
    config.directory = base_ / "root";
    config.source = "dir:" + config.directory;
    config.settle_ms = 0;
    volume_ = std::move(volume::DirVolume::create(config, 1, *volume::load_identity_key(base_),
                                                  shards_[0]->reactor(), *names_))
                  .value();
    start_server(256);
  }

  void start_server(unsigned max_sessions) {
    server_.reset();
    server_ = std::move(SessionServer::create({socket_path(), "", max_sessions}, *memory_, pointers_,
                                              {{"data", volume_.get()}}))
                  .value();
  }

  void TearDown() override {
    server_.reset();
    for (const auto& shard : shards_) shard->stop();
    volume_.reset();
    shards_.clear();
    std::filesystem::remove_all(base_);
  }

  std::string socket_path() const { return base_ / "s.sock"; }
  static std::string content() {
    std::string text;
    for (int i = 0; i < 100'000; ++i) text += static_cast<char>(i * 7 + i / 256);
    return text;
  }

  // Whether an honest client reads the file, every byte.
  void expect_honest_service() {
    shm::ClientOptions options;
    options.socket = socket_path();
    options.volume = "data";
    options.daemon_timeout_ms = 5000;
    auto client = shm::Client::connect(options);
    ASSERT_TRUE(client.ok()) << client.status().message();
    auto channel = (*client)->open_channel();
    ASSERT_TRUE(channel.ok());
    const auto found = (*channel)->lookup((*client)->root().handle, "file", {0});
    ASSERT_TRUE(found.ok() && found->exists);
    const auto view = (*channel)->read({found->info.handle, found->info.object}, 0, found->info.size);
    ASSERT_TRUE(view.ok()) << view.status().message();
    std::string bytes;
    for (unsigned i = 0; i < view->iovec_count(); ++i) {
      bytes.append(static_cast<const char*>(view->iovecs()[i].iov_base), view->iovecs()[i].iov_len);
    }
    EXPECT_EQ(bytes, content());
  }

  // Waits up to five seconds for `condition`.
  static bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 500; ++i) {
      if (condition()) return true;
      ::usleep(10'000);
    }
    return false;
  }

  ShardStats stats_of(unsigned shard) {
    std::promise<ShardStats> answer;
    shards_[shard]->reactor().post([&] { answer.set_value(shards_[shard]->stats()); });
    return answer.get_future().get();
  }
  uint64_t pinned_slots() {
    uint64_t pinned = 0;
    for (unsigned i = 0; i < kShards; ++i) pinned += stats_of(i).memory.slots_pinned;
    return pinned;
  }

  int64_t pins_per_session_ = 1024;  // before SetUp()
  std::filesystem::path base_;
  std::unique_ptr<memory_tier::SharedMemory> memory_;
  std::unique_ptr<memory_tier::NameTable> names_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<Shard*> pointers_;
  std::unique_ptr<volume::DirVolume> volume_;
  std::unique_ptr<SessionServer> server_;
};

// A session made by hand.
class RawClient {
 public:
  static shm::Hello good_hello() {
    shm::Hello hello;
    hello.queue_count = 2;
    hello.queue_depth = 8;
    hello.buffer_bytes = 2 * 1024 * 1024;
    std::strcpy(hello.volume, "data");
    std::strcpy(hello.label, "raw");
    return hello;
  }

  explicit RawClient(const std::string& path) {
    socket_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path.c_str());
    connected_ = ::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~RawClient() {
    if (session_ != nullptr) ::munmap(session_, geometry_.total_bytes);
  }

  bool connected() const { return connected_; }
  int socket() const { return socket_.get(); }
  void close() { socket_.reset(); }

  // Says hello; the errno of the refusal, 0 when welcome, -1 when the daemon hung up.
  int greet(const shm::Hello& hello) {
    if (::send(socket_.get(), &hello, sizeof hello, MSG_NOSIGNAL) < 0) return -1;
    shm::Welcome welcome;
    if (!shm::receive_packet(socket_.get(), &welcome, sizeof welcome, &fds_).ok()) return -1;
    if (welcome.error_number != 0) return welcome.error_number;
    root_ = welcome.root;
    void* const map = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fds_[2].get(), 0);
    geometry_ = static_cast<shm::SessionHeader*>(map)->geometry;
    ::munmap(map, 4096);
    session_ = static_cast<std::byte*>(
        ::mmap(nullptr, geometry_.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fds_[2].get(), 0));
    return 0;
  }

  shm::QueueView queue(unsigned index) { return {session_, geometry_, index}; }
  const shm::Handle& root() const { return root_; }
  const std::vector<UniqueFd>& fds() const { return fds_; }
  std::byte* session() { return session_; }
  const shm::SessionGeometry& geometry() const { return geometry_; }

  void submit(unsigned queue_index, const shm::Submission& submission) {
    const shm::QueueView view = queue(queue_index);
    const uint32_t tail = view.control().submission_tail.load();
    *view.submission(tail) = submission;
    view.control().submission_tail.store(tail + 1);
    ring(queue_index);
  }
  // Rings every shard's doorbell for the queue and wakes all.
  void ring(unsigned queue_index) {
    auto* const header = reinterpret_cast<shm::SessionHeader*>(session_);
    for (unsigned shard = 0; shard + 3 < fds_.size(); ++shard) {
      header->doorbells[shard].queues.fetch_or(uint64_t{1} << queue_index);
      const uint64_t one = 1;
      if (::write(fds_[3 + shard].get(), &one, sizeof one) != sizeof one) return;
    }
  }
  // The next completion, or nothing within five seconds.
  std::optional<shm::Completion> wait(unsigned queue_index) {
    const shm::QueueView view = queue(queue_index);
    const uint32_t head = view.control().completion_head.load();
    for (int i = 0; i < 5000 && view.control().completion_tail.load() == head; ++i) ::usleep(1000);
    if (view.control().completion_tail.load() == head) return std::nullopt;
    const shm::Completion completion = *view.completion(head);
    view.control().completion_head.store(head + 1);
    return completion;
  }
  // Whether the daemon has hung up.
  bool hung_up(int timeout_ms = 5000) {
    pollfd polled{socket_.get(), POLLIN | POLLRDHUP, 0};
    return ::poll(&polled, 1, timeout_ms) == 1 && (polled.revents & (POLLHUP | POLLRDHUP)) != 0;
  }

  // The file's InodeInfo by LOOKUP.
  shm::InodeInfo look_up_file() {
    shm::Submission submission;
    submission.request_number = next_number_++;
    submission.opcode = shm::Opcode::kLookup;
    submission.handle = root_;
    submission.buffer_length = 4096;
    submission.input_length = 4;
    std::memcpy(queue(0).buffer(), "file", 4);
    submit(0, submission);
    const auto completion = wait(0);
    shm::InodeInfo info;
    if (completion && completion->status == 0)
      std::memcpy(static_cast<void*>(&info), queue(0).buffer(), sizeof info);
    return info;
  }
  shm::Submission read_of(const shm::InodeInfo& info, uint64_t offset, uint32_t length) {
    shm::Submission submission;
    submission.request_number = next_number_++;
    submission.opcode = shm::Opcode::kRead;
    submission.handle = info.handle;
    submission.object = info.object;
    submission.offset = offset;
    submission.length = length;
    submission.buffer_length = length + static_cast<uint32_t>(shm::kReadBufferSlackBytes);
    return submission;
  }

 private:
  UniqueFd socket_;
  bool connected_ = false;
  std::vector<UniqueFd> fds_;
  shm::SessionGeometry geometry_;
  std::byte* session_ = nullptr;
  shm::Handle root_;
  uint64_t next_number_ = 1;
};

}  // namespace cached::server
