// The scripted daemon: see scripted_daemon.h.
#include "scripted_daemon.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "shm/futex.h"

namespace cached::shm::test {
namespace {

constexpr int kPollMs = 5;  // releases come without a wake-up
constexpr uint64_t kBlocksOffset = 8192;
template <typename Payload>
constexpr uint64_t table_bytes() {
  return kBucketsPerPartition * sizeof(SeqBucket<Payload>);
}
constexpr uint64_t kNamesOffset = kBlocksOffset + table_bytes<BlockRecord>();
constexpr uint64_t kInodesOffset = kNamesOffset + table_bytes<NameRecord>();
constexpr uint64_t kIndexBytes = kInodesOffset + table_bytes<InodeRecord>();

template <typename Payload>
SeqTableWriter<Payload> writer_at(const Memory& index, uint64_t offset) {
  return SeqTableWriter<Payload>(reinterpret_cast<SeqBucket<Payload>*>(index.data() + offset),
                                 kBucketsPerPartition, 0);
}

template <typename Payload, typename Matches>
void put(const Memory& index, uint64_t offset, uint64_t hash, const Payload& payload, Matches matches) {
  auto writer = writer_at<Payload>(index, offset);
  std::optional<SeqPosition> position = writer.find(hash, matches);
  if (!position) position = writer.free_place(hash);
  writer.put(position.value(), hash, payload);
}

UniqueFd listen_at(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ::unlink(path.c_str());
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 ||
      ::listen(fd.get(), 8) < 0) {
    ::perror("scripted daemon");
    ::abort();
  }
  return fd;
}

}  // namespace

Memory::Memory(const char* name, uint64_t bytes) : fd_(::memfd_create(name, MFD_CLOEXEC)), bytes_(bytes) {
  if (::ftruncate(fd_.get(), static_cast<off_t>(bytes)) < 0) ::abort();
  data_ = static_cast<std::byte*>(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0));
}

Memory::~Memory() {
  ::munmap(data_, bytes_);
}

struct ScriptedDaemon::Life {
  Memory index{"index", kIndexBytes};
  Memory arena{"arena", kArenaBytes};
  UniqueFd shard_event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  UniqueFd listener;
  std::atomic<bool> stopping{false};
  std::vector<std::unique_ptr<Session>> sessions;
  std::thread thread;
  IndexSuperblock& superblock() { return *reinterpret_cast<IndexSuperblock*>(index.data()); }
};

ScriptedDaemon::ScriptedDaemon() {
  char name[] = "/tmp/cached-shm-test-XXXXXX";
  directory_ = ::mkdtemp(name);
  socket_path_ = directory_ + "/socket";
  handler_ = [](const Question&) { return failure(EIO); };
}

ScriptedDaemon::~ScriptedDaemon() {
  kill();
  ::unlink(socket_path_.c_str());
  ::rmdir(directory_.c_str());
}

void ScriptedDaemon::answer_with(Handler handler) {
  std::lock_guard lock(mutex_);
  handler_ = std::move(handler);
}

void ScriptedDaemon::spoil_with(std::function<void(Offer*)> spoil) {
  std::lock_guard lock(mutex_);
  spoil_ = std::move(spoil);
}

void ScriptedDaemon::send(const std::vector<Completion>& completions) {
  {
    std::lock_guard lock(mutex_);
    outbox_.insert(outbox_.end(), completions.begin(), completions.end());
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(life_->shard_event.get(), &one, sizeof one);
}

void ScriptedDaemon::tell(const std::vector<Notice>& notices) {
  std::lock_guard lock(mutex_);
  if (Status status = send_notices(life_->sessions.back()->socket.get(), notices); !status.ok()) {
    ADD_FAILURE() << status.message();
  }
}

void ScriptedDaemon::start() {
  life_ = std::make_shared<Life>();
  IndexSuperblock& superblock = life_->superblock();
  superblock.magic = kIndexMagic;
  superblock.version = kProtocolVersion;
  superblock.shards = 1;
  superblock.total_bytes = kIndexBytes;
  superblock.arena_bytes = kArenaBytes;
  superblock.name_hash_key[0] = kNameHashKey[0];
  superblock.name_hash_key[1] = kNameHashKey[1];
  superblock.blocks = {kBlocksOffset, kBucketsPerPartition, 1, sizeof(SeqRecord<BlockRecord>)};
  superblock.names = {kNamesOffset, kBucketsPerPartition, 1, sizeof(SeqRecord<NameRecord>)};
  superblock.inodes = {kInodesOffset, kBucketsPerPartition, 1, sizeof(SeqRecord<InodeRecord>)};
  life_->listener = listen_at(socket_path_);
  life_->thread = std::thread([this, life = life_] { run(life.get()); });
}

void ScriptedDaemon::kill() {
  if (life_ == nullptr) return;
  life_->stopping.store(true);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(life_->shard_event.get(), &one, sizeof one);
  life_->thread.join();
  life_.reset();
}

ClientOptions ScriptedDaemon::client_options() const {
  ClientOptions options;
  options.socket = socket_path_;
  options.volume = "training";
  options.label = "test";
  options.daemon_timeout_ms = 10'000;
  return options;
}

void ScriptedDaemon::run(Life* life) {
  while (!life->stopping.load()) {
    std::atomic<uint32_t>& sleeping = life->superblock().shard_states[0].sleeping;
    sleeping.store(1, std::memory_order_seq_cst);
    for (const auto& session : life->sessions) serve(life, session.get());
    pollfd watched[2] = {{life->listener.get(), POLLIN, 0}, {life->shard_event.get(), POLLIN, 0}};
    ::poll(watched, 2, kPollMs);
    sleeping.store(0, std::memory_order_seq_cst);
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t drained = ::read(life->shard_event.get(), &count, sizeof count);
    if (watched[0].revents != 0) welcome(life);
    for (const auto& session : life->sessions) serve(life, session.get());
    deliver(life);
  }
}

void ScriptedDaemon::deliver(Life* life) {
  std::lock_guard lock(mutex_);
  if (outbox_.empty()) return;
  Session& session = *life->sessions.back();
  const QueueView view(session.memory->data(), session.geometry, 0);
  uint32_t& tail = session.completion_tails[0];
  for (const Completion& completion : outbox_) *view.completion(tail++) = completion;
  outbox_.clear();
  view.control().completion_tail.store(tail, std::memory_order_seq_cst);
  if (view.control().client_waiting.load(std::memory_order_seq_cst) == 1) {
    futex_wake(view.control().completion_tail);
  }
}

void ScriptedDaemon::welcome(Life* life) {
  auto session = std::make_unique<Session>();
  session->socket.reset(::accept4(life->listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  Hello hello;
  std::vector<UniqueFd> none;
  if (!receive_packet(session->socket.get(), &hello, sizeof hello, &none).ok()) return;
  session->geometry = make_session_geometry(hello.queue_count, hello.queue_depth, hello.buffer_bytes, 1);
  session->memory = std::make_unique<Memory>("session", session->geometry.total_bytes);
  session->submission_heads.resize(hello.queue_count);
  session->completion_tails.resize(hello.queue_count);
  Welcome answer;
  answer.session_id = 1;
  answer.volume = kVolume;
  answer.fd_count = 4;
  answer.root = kRoot;
  answer.root_info.handle = kRoot;
  std::vector<int> fds{life->index.fd(), life->arena.fd(), session->memory->fd(), life->shard_event.get()};
  SessionGeometry geometry = session->geometry;
  Offer offer{answer, life->superblock(), geometry, fds};
  std::lock_guard lock(mutex_);
  if (spoil_) spoil_(&offer);
  reinterpret_cast<SessionHeader*>(session->memory->data())->geometry = geometry;
  hellos_.push_back(hello);
  if (send_packet(session->socket.get(), &answer, sizeof answer, fds).ok())
    life->sessions.push_back(std::move(session));
}

void ScriptedDaemon::serve(Life* life, Session* session) {
  auto& header = *reinterpret_cast<SessionHeader*>(session->memory->data());
  const uint64_t rung = header.doorbells[0].queues.exchange(0, std::memory_order_seq_cst);
  for (unsigned queue = 0; queue < session->geometry.queue_count && !life->stopping.load(); ++queue) {
    if ((rung >> queue & 1) != 0) serve_queue(session, queue);
  }
}

void ScriptedDaemon::serve_queue(Session* session, unsigned queue) {
  const QueueView view(session->memory->data(), session->geometry, queue);
  QueueControl& control = view.control();
  const uint32_t end = control.submission_tail.load(std::memory_order_acquire);
  for (uint32_t& head = session->submission_heads[queue]; head != end;) {
    Question question;
    question.submission = *view.submission(head);
    question.buffer = view.buffer();
    question.input.assign(reinterpret_cast<const char*>(view.buffer()) + question.submission.buffer_offset,
                          question.submission.input_length);
    control.submission_head.store(++head, std::memory_order_release);
    std::optional<Completion> completion = handle(question);
    if (!completion) continue;
    if (completion->request_number == 0) completion->request_number = question.submission.request_number;
    uint32_t& tail = session->completion_tails[queue];
    *view.completion(tail) = *completion;
    control.completion_tail.store(++tail, std::memory_order_seq_cst);
    if (control.client_waiting.load(std::memory_order_seq_cst) == 1) futex_wake(control.completion_tail);
  }
}

std::optional<Completion> ScriptedDaemon::handle(const Question& question) {
  Handler handler;
  {
    std::lock_guard lock(mutex_);
    submissions_.push_back(question.submission);
    last_input_ = question.input;
    handler = handler_;
  }
  if (question.submission.opcode == Opcode::kRelease || question.submission.opcode == Opcode::kPrefetch)
    return {};
  return handler(question);
}

void ScriptedDaemon::fill_arena(uint64_t arena_offset, const ObjectId& object, uint64_t object_offset,
                                uint64_t length) {
  for (uint64_t i = 0; i < length; ++i) {
    life_->arena.data()[arena_offset + i] = std::byte{pattern(object, object_offset + i)};
  }
}

void ScriptedDaemon::publish_block(const ObjectId& object, uint32_t block, uint32_t start, uint32_t length,
                                   uint32_t page) {
  if (page * kPageBytes + length <= kArenaBytes) {
    fill_arena(page * kPageBytes, object, block * kBlockBytes + start, length);
  }
  BlockRecord record;
  record.key = {object, block, kVolume, 0};
  record.page = page;
  record.start = start;
  record.length = length;
  put(life_->index, kBlocksOffset, hash_block(record.key), record,
      [&](const BlockRecord& other) { return other.key.same_block(record.key) && other.start == start; });
}

void ScriptedDaemon::publish_name(const Handle& parent, std::string_view name, const Handle* child,
                                  uint64_t validated_at_ns) {
  const NameHash hash = hash_name(kNameHashKey, kVolume, parent, name);
  NameRecord record;
  record.name_hash_high = hash.high;
  record.name_hash_low = hash.low;
  record.child = child != nullptr ? *child : Handle{};
  if (child == nullptr) record.flags = kNameAbsent;
  record.validated_at_ns = validated_at_ns;
  record.volume = kVolume;
  put(life_->index, kNamesOffset, hash.low, record,
      [&](const NameRecord& other) { return other.name_hash_low == hash.low; });
}

void ScriptedDaemon::publish_inode(const InodeInfo& info) {
  InodeRecord record;
  record.info = info;
  record.volume = kVolume;
  put(life_->index, kInodesOffset, hash_inode(info.handle, kVolume), record,
      [&](const InodeRecord& other) { return other.info.handle == info.handle; });
}

std::vector<Submission> ScriptedDaemon::submissions() const {
  std::lock_guard lock(mutex_);
  return submissions_;
}

std::vector<Submission> ScriptedDaemon::submissions(Opcode opcode) const {
  std::vector<Submission> chosen;
  for (const Submission& submission : submissions()) {
    if (submission.opcode == opcode) chosen.push_back(submission);
  }
  return chosen;
}

std::string ScriptedDaemon::last_input() const {
  std::lock_guard lock(mutex_);
  return last_input_;
}

bool ScriptedDaemon::await_submissions(Opcode opcode, size_t count) const {
  for (int i = 0; i < 10'000; ++i) {
    if (submissions(opcode).size() >= count) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

std::vector<Hello> ScriptedDaemon::hellos() const {
  std::lock_guard lock(mutex_);
  return hellos_;
}

unsigned ScriptedDaemon::published_hazards() const {
  std::lock_guard lock(mutex_);
  const Session& session = *life_->sessions.back();
  const QueueView view(session.memory->data(), session.geometry, 0);
  unsigned count = 0;
  for (unsigned i = 0; i < kHazardsPerQueue; ++i) count += view.hazard(i).load() != 0 ? 1 : 0;
  return count;
}

uint64_t ScriptedDaemon::session_counter(Counter counter) const {
  std::lock_guard lock(mutex_);
  const Session& session = *life_->sessions.back();
  uint64_t sum = 0;
  for (unsigned q = 0; q < session.geometry.queue_count; ++q) {
    const QueueView view(session.memory->data(), session.geometry, q);
    sum += view.counter(static_cast<unsigned>(counter)).load();
  }
  return sum;
}

std::vector<uint32_t> ScriptedDaemon::touches() const {
  std::lock_guard lock(mutex_);
  const Session& session = *life_->sessions.back();
  const QueueView view(session.memory->data(), session.geometry, 0);
  std::vector<uint32_t> pages;
  for (uint64_t i = 0; i < view.control().touch_head.load(); ++i) pages.push_back(view.touch(i).load() - 1);
  return pages;
}

bool equals(const std::byte* bytes, const ObjectId& object, uint64_t offset, uint64_t length) {
  for (uint64_t i = 0; i < length; ++i) {
    if (bytes[i] != std::byte{pattern(object, offset + i)}) return false;
  }
  return true;
}

bool holds(const ReadView& view, const ObjectId& object, uint64_t offset, uint64_t length) {
  if (view.bytes() != length) return false;
  for (unsigned i = 0; i < view.iovec_count(); ++i) {
    const iovec& piece = view.iovecs()[i];
    if (!equals(static_cast<const std::byte*>(piece.iov_base), object, offset, piece.iov_len)) return false;
    offset += piece.iov_len;
    length -= piece.iov_len;
  }
  return length == 0;
}

Completion pinned(uint64_t arena_offset, uint32_t length) {
  Completion completion;
  completion.flags = kCompletionPinned;
  completion.result = length;
  completion.extent_count = 1;
  completion.extents[0] = {arena_offset, length, 0};
  return completion;
}

Completion failure(int error_number, uint32_t flags) {
  Completion completion;
  completion.status = -error_number;
  completion.flags = flags;
  return completion;
}

Completion in_buffer(const Question& question, const ObjectId& object) {
  const Submission& read = question.submission;
  Completion completion;
  completion.flags = kCompletionInBuffer;
  completion.result = read.length;
  completion.buffer_offset = read.buffer_offset + 512;
  for (uint64_t i = 0; i < read.length; ++i) {
    question.buffer[completion.buffer_offset + i] = std::byte{pattern(object, read.offset + i)};
  }
  return completion;
}

Completion impossible(int kind, const Submission& read) {
  Completion completion = pinned(0, read.length);
  switch (kind) {
    case 0:
      completion.extents[0].arena_offset_bytes = kArenaBytes - 10;
      break;
    case 1:
      completion.extents[0].arena_offset_bytes = UINT64_MAX - 10;
      break;
    case 2:
      completion.extents[0].length = read.length - 1;
      break;
    case 3:
      completion.extents[0].length = UINT32_MAX;
      break;
    case 4:
      completion.extent_count = UINT32_MAX;
      break;
    case 5:
      completion.flags = 0;
      break;
    case 6:
      completion.status = 5;
      break;
    case 7:
      completion.status = INT32_MIN;
      break;
    case 8:
      completion.flags = kCompletionInBuffer;
      completion.buffer_offset = UINT32_MAX;
      break;
    case 9:
      completion.flags = kCompletionInBuffer;
      completion.result = read.length - 1;
      break;
    default:
      completion.flags = kCompletionInBuffer;
      completion.buffer_offset = read.buffer_offset + read.buffer_length - read.length + 1;
      break;
  }
  return completion;
}

}  // namespace cached::shm::test
