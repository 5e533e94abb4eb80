// Handshake, checks and mappings of one session: see attachment.h.
#include "shm/attachment.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "shm/futex.h"

namespace cached::shm {
namespace {

constexpr uint64_t kCacheLineBytes = 64;
constexpr uint64_t kBacklogRetryMs = 10;

uint64_t milliseconds_until(uint64_t deadline_ns) {
  const uint64_t now_ns = system_clock().monotonic_ns();
  return now_ns >= deadline_ns ? 0 : (deadline_ns - now_ns) / kNanosecondsPerMillisecond + 1;
}

// Waits until `fd` (or nothing, if -1) is readable. True: it is. False: `wait_ms` passed. ECANCELED: stop_fd.
Result<bool> wait_readable(int fd, int stop_fd, uint64_t wait_ms) {
  pollfd watched[2] = {{fd, POLLIN, 0}, {stop_fd, POLLIN, 0}};
  const int ready = ::poll(watched, 2, static_cast<int>(std::min<uint64_t>(wait_ms, INT_MAX)));
  if (ready < 0 && errno != EINTR) return Status::from_errno("cannot wait for cached");
  if (watched[1].revents != 0) return Status(ECANCELED, "the client is closing");
  return watched[0].revents != 0;
}

Result<UniqueFd> connect_socket(const AttachmentRequest& request, uint64_t deadline_ns) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (request.socket.size() >= sizeof address.sun_path) {
    return Status(ENAMETOOLONG, "the socket path " + request.socket + " is longer than 107 bytes");
  }
  std::memcpy(address.sun_path, request.socket.data(), request.socket.size());
  // Not blocking: a daemon that hangs with a full backlog must not hang its clients' destructors.
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return Status::from_errno("cannot make a socket");
  while (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) {
    if (errno != EAGAIN && errno != EINTR) {
      return Status::from_errno("cannot connect to cached at " + request.socket);
    }
    if (milliseconds_until(deadline_ns) == 0) {
      return Status(ETIMEDOUT, "cached at " + request.socket + " accepts no connection");
    }
    if (Result<bool> waited = wait_readable(-1, request.stop_fd, kBacklogRetryMs); !waited.ok()) {
      return waited.status();
    }
  }
  return socket;
}

Status does_not_fit(const std::string& what) {
  return Status(EPROTO, "cached and this client do not fit together: " + what);
}

// Checks a table's place in the index of `total_bytes` and makes its reader.
template <typename Payload>
Status adopt_table(const std::byte* index, uint64_t total_bytes, const TableGeometry& geometry,
                   const char* name, Table<Payload>* table) {
  using Bucket = SeqBucket<Payload>;
  const bool shape_fits = geometry.partitions >= 1 && geometry.partitions <= kMaximumShards &&
                          std::has_single_bit(geometry.buckets_per_partition) &&
                          geometry.record_bytes == sizeof(SeqRecord<Payload>) &&
                          geometry.offset_bytes % kCacheLineBytes == 0;
  if (!shape_fits) return does_not_fit(std::string("the shape of the table of ") + name);
  if (geometry.buckets_per_partition > total_bytes / sizeof(Bucket) / geometry.partitions) {
    return does_not_fit(std::string("the size of the table of ") + name);
  }
  const uint64_t table_bytes = geometry.buckets_per_partition * geometry.partitions * sizeof(Bucket);
  if (geometry.offset_bytes < sizeof(IndexSuperblock) || geometry.offset_bytes > total_bytes - table_bytes) {
    return does_not_fit(std::string("the place of the table of ") + name);
  }
  table->reader = SeqTableReader<Payload>(reinterpret_cast<const Bucket*>(index + geometry.offset_bytes),
                                          geometry.buckets_per_partition);
  table->partitions = geometry.partitions;
  return Status();
}

// True if `count` areas of `stride_bytes` from `offset_bytes` on lie within `total_bytes`.
bool areas_fit(uint64_t offset_bytes, uint64_t stride_bytes, uint64_t count, uint64_t total_bytes) {
  return offset_bytes <= total_bytes && stride_bytes <= (total_bytes - offset_bytes) / count;
}

bool session_fits(const SessionGeometry& geometry, const AttachmentRequest& request) {
  return geometry.queue_count >= request.queue_count && geometry.queue_count <= kMaximumQueues &&
         std::has_single_bit(geometry.queue_depth) && geometry.queue_depth >= kMinimumQueueDepth &&
         geometry.queue_depth <= kMaximumQueueDepth && geometry.buffer_bytes >= request.buffer_bytes &&
         geometry.buffer_bytes <= UINT32_MAX && geometry.queues_offset_bytes >= sizeof(SessionHeader) &&
         geometry.queues_offset_bytes % kCacheLineBytes == 0 &&
         geometry.queue_stride_bytes % kCacheLineBytes == 0 &&
         geometry.buffers_offset_bytes % kPageBytes == 0 && geometry.buffer_bytes % kPageBytes == 0 &&
         geometry.queue_stride_bytes >= queue_area_bytes(geometry.queue_depth) &&
         areas_fit(geometry.queues_offset_bytes, geometry.queue_stride_bytes, geometry.queue_count,
                   geometry.buffers_offset_bytes) &&
         areas_fit(geometry.buffers_offset_bytes, geometry.buffer_bytes, geometry.queue_count,
                   geometry.total_bytes);
}

}  // namespace

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

Result<Mapping> Mapping::map(int fd, bool writable, uint64_t minimum_bytes, const std::string& what) {
  struct stat stat {};
  if (::fstat(fd, &stat) < 0) return Status::from_errno("cannot stat the " + what);
  const auto bytes = static_cast<uint64_t>(stat.st_size);
  if (bytes < minimum_bytes || bytes == 0) {
    return does_not_fit("the " + what + " has " + std::to_string(bytes) + " bytes, fewer than it says");
  }
  void* data = ::mmap(nullptr, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return Status::from_errno("cannot map the " + what);
  // A core dump of a client must not hold the node's cache.
  ::madvise(data, bytes, MADV_DONTDUMP);
  Mapping mapping;
  mapping.data_ = static_cast<std::byte*>(data);
  mapping.bytes_ = bytes;
  return mapping;
}

Result<std::shared_ptr<Attachment>> Attachment::open(const AttachmentRequest& request) {
  auto attachment = std::make_shared<Attachment>();
  Welcome welcome;
  std::vector<UniqueFd> fds;
  CACHED_RETURN_IF_ERROR(attachment->shake_hands(request, &welcome, &fds));
  attachment->session_id_ = welcome.session_id;
  attachment->volume_ = welcome.volume;
  attachment->root_ = welcome.root_info;
  attachment->tells_changes_ = (welcome.flags & kWelcomeTellsChanges) != 0;
  attachment->answer_timeout_ns_ = uint64_t{welcome.answer_timeout_ms} * kNanosecondsPerMillisecond;
  CACHED_RETURN_IF_ERROR(attachment->adopt_index(fds[0].get()));
  if (fds.size() != 3 + attachment->shards_) {
    return does_not_fit("an eventfd for each of " + std::to_string(attachment->shards_) +
                        " shards was expected");
  }
  Result<Mapping> arena = Mapping::map(fds[1].get(), false, attachment->arena_bytes_, "arena");
  if (!arena.ok()) return arena.status();
  attachment->arena_ = std::move(*arena);
  CACHED_RETURN_IF_ERROR(attachment->adopt_session(fds[2].get(), request));
  for (size_t i = 3; i < fds.size(); ++i) attachment->shard_events_.push_back(std::move(fds[i]));
  return attachment;
}

Status Attachment::shake_hands(const AttachmentRequest& request, Welcome* welcome,
                               std::vector<UniqueFd>* fds) {
  const uint64_t deadline_ns =
      system_clock().monotonic_ns() + request.timeout_ms * kNanosecondsPerMillisecond;
  Result<UniqueFd> socket = connect_socket(request, deadline_ns);
  if (!socket.ok()) return socket.status();
  socket_ = std::move(*socket);

  Hello hello;
  hello.queue_count = request.queue_count;
  hello.queue_depth = request.queue_depth;
  hello.buffer_bytes = request.buffer_bytes;
  std::copy(std::begin(request.session_uuid), std::end(request.session_uuid), hello.session_uuid);
  hello.next_request_number = request.next_request_number;
  hello.snapshot = request.snapshot;
  hello.flags = kHelloWantsNotices;
  request.volume.copy(hello.volume, sizeof hello.volume - 1);
  request.label.copy(hello.label, sizeof hello.label - 1);
  const std::string where = "attaching to cached at " + request.socket;
  CACHED_RETURN_IF_ERROR(send_packet(socket_.get(), &hello, sizeof hello, {}).with_context(where));

  bool readable = false;
  for (uint64_t left_ms = request.timeout_ms; !readable; left_ms = milliseconds_until(deadline_ns)) {
    if (left_ms == 0)
      return Status(ETIMEDOUT, where + ": no answer within " + std::to_string(request.timeout_ms) + " ms");
    Result<bool> waited = wait_readable(socket_.get(), request.stop_fd, left_ms);
    if (!waited.ok()) return waited.status();
    readable = *waited;
  }
  CACHED_RETURN_IF_ERROR(receive_packet(socket_.get(), welcome, sizeof *welcome, fds).with_context(where));
  if (welcome->magic != kWelcomeMagic) return does_not_fit("its answer does not start like one");
  if (welcome->error_number != 0) {
    const std::string reason(welcome->error, ::strnlen(welcome->error, sizeof welcome->error));
    return Status(welcome->error_number > 0 ? welcome->error_number : EPROTO, where + ": " + reason);
  }
  if (welcome->version != kProtocolVersion) {
    return does_not_fit("it speaks version " + std::to_string(welcome->version) +
                        " of the protocol, this client " + std::to_string(kProtocolVersion));
  }
  if (fds->size() < 4 || welcome->fd_count != fds->size()) return does_not_fit("the number of descriptors");
  if (welcome->volume > UINT16_MAX) return does_not_fit("the number of the volume");
  return Status();
}

Status Attachment::adopt_index(int fd) {
  Result<Mapping> mapping = Mapping::map(fd, false, sizeof(IndexSuperblock), "index");
  if (!mapping.ok()) return mapping.status();
  index_ = std::move(*mapping);
  const auto& superblock = *reinterpret_cast<const IndexSuperblock*>(index_.data());
  if (superblock.magic != kIndexMagic || superblock.version != kProtocolVersion) {
    return does_not_fit("the index is of another kind or version");
  }
  shards_ = superblock.shards;
  arena_bytes_ = superblock.arena_bytes;
  const uint64_t total_bytes = superblock.total_bytes;
  if (shards_ < 1 || shards_ > kMaximumShards) return does_not_fit("the number of shards");
  if (total_bytes > index_.bytes() || total_bytes < sizeof(IndexSuperblock)) {
    return does_not_fit("the index is shorter than it says");
  }
  std::copy(std::begin(superblock.name_hash_key), std::end(superblock.name_hash_key), name_hash_key_);
  const TableGeometry blocks = superblock.blocks;
  const TableGeometry names = superblock.names;
  const TableGeometry inodes = superblock.inodes;
  CACHED_RETURN_IF_ERROR(adopt_table(index_.data(), total_bytes, blocks, "blocks", &blocks_));
  CACHED_RETURN_IF_ERROR(adopt_table(index_.data(), total_bytes, names, "names", &names_));
  return adopt_table(index_.data(), total_bytes, inodes, "inodes", &inodes_);
}

Status Attachment::adopt_session(int fd, const AttachmentRequest& request) {
  Result<Mapping> mapping = Mapping::map(fd, true, sizeof(SessionHeader), "session");
  if (!mapping.ok()) return mapping.status();
  session_ = std::move(*mapping);
  geometry_ = header().geometry;
  if (geometry_.magic != kSessionMagic || geometry_.version != kProtocolVersion) {
    return does_not_fit("the session is of another kind or version");
  }
  if (geometry_.total_bytes > session_.bytes() || geometry_.shards != shards_ ||
      !session_fits(geometry_, request)) {
    return does_not_fit("the geometry of the session");
  }
  return Status();
}

void Attachment::mark_dead() {
  if (dead_.exchange(true, std::memory_order_seq_cst)) return;
  ::shutdown(socket_.get(), SHUT_RDWR);
  // A channel that saw `dead` false and is on its way into the futex must find another value there: so the
  // word is changed and not only woken. Nobody reads a dead attachment's tail, which wait_for_completion()
  // takes care of.
  for (unsigned queue = 0; queue < geometry_.queue_count; ++queue) {
    std::atomic<uint32_t>& tail = this->queue(queue).control().completion_tail;
    tail.fetch_xor(1U << 31, std::memory_order_seq_cst);
    futex_wake(tail);
  }
}

void Attachment::ring_doorbell(unsigned queue) const {
  header().doorbells[shard_of(queue)].queues.fetch_or(uint64_t{1} << queue, std::memory_order_seq_cst);
}

bool Attachment::wake_shard(unsigned queue) const {
  const unsigned shard = shard_of(queue);
  const auto& superblock = *reinterpret_cast<const IndexSuperblock*>(index_.data());
  if (superblock.shard_states[shard].sleeping.load(std::memory_order_seq_cst) != 1) return false;
  const uint64_t one = 1;
  // A full counter (EAGAIN) means that the shard is woken already.
  [[maybe_unused]] const ssize_t written = ::write(shard_events_[shard].get(), &one, sizeof one);
  return true;
}

}  // namespace cached::shm
