// The walker and the workers of a warm job: see warm.h.
#include "cached/server/warm.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>

#include "base/log.h"
#include "base/units.h"
#include "cached/dataset/file_ranges.h"
#include "cached/ssd_tier/aligned_buffer.h"

namespace cached::server {
namespace {

using dataset::FileRanges;
using dataset::ObjectRange;
using dataset::TreeWalk;
using dataset::WalkedFile;

constexpr size_t kFilesAhead = 50'000;   // that the walker is ahead of the workers at most
constexpr size_t kRangesAhead = 50'000;  // of one file

// A file of which pieces are still to be handed out or under way.
struct FileWork {
  WalkedFile file;
  std::deque<ObjectRange> ranges;  // to be handed out, as far as they are known
  bool all_known = false;          // no more of them will come
  unsigned under_way = 0;          // pieces
  bool failed = false;
  bool counted = false;  // as done
  bool handed_out() const { return all_known && ranges.empty(); }
};

// A piece of it: within one extent of the object, so that one shard owns it.
struct Piece {
  std::shared_ptr<FileWork> work;
  shm::ObjectId object;
  uint64_t offset = 0;  // in the object
  uint32_t length = 0;
};

// All of it on shard 0's thread, but for where a coroutine has hopped to a piece's owner.
class WarmRun {
 public:
  WarmRun(WarmRequest request, std::vector<Shard*> shards)
      : request_(std::move(request)),
        job_(*request_.job),
        shards_(std::move(shards)),
        home_(shards_.front()->reactor()),
        walk_(*request_.volume, home_, request_.caller) {}

  // Waits until something happened.
  auto change() {
    struct Awaiter {
      std::vector<std::coroutine_handle<>>& waiting;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiter) { waiting.push_back(waiter); }
      void await_resume() const noexcept {}
    };
    return Awaiter{waiting_};
  }
  static io::Task<void> run(std::shared_ptr<WarmRun> self) {
    std::string path = self->request_.path;
    const Status begun = co_await self->walk_.begin(std::move(path));
    if (!begun.ok()) {
      self->job_.end(JobState::kFailed, begun.message());
      co_return;
    }
    self->active_ = self->request_.options.parallel + 1;
    io::spawn(walker(self));
    for (unsigned i = 0; i < self->request_.options.parallel; ++i) io::spawn(worker(self));
    while (self->active_ > 0) co_await self->change();
    self->finish();
  }

 private:
  void notify() {
    std::vector<std::coroutine_handle<>> waiting = std::exchange(waiting_, {});
    for (const std::coroutine_handle<> waiter : waiting) io::resume(waiter);
  }
  bool stopped() const { return job_.cancelled || failed_; }

  static io::Task<void> walker(std::shared_ptr<WarmRun> self) {
    Job& job = self->job_;
    while (!self->stopped() && !self->walk_.ended()) {
      if (self->queue_.size() >= kFilesAhead) {
        co_await self->change();
        continue;
      }
      std::vector<WalkedFile> files = co_await self->walk_.next();
      std::vector<std::shared_ptr<FileWork>> works;
      for (WalkedFile& file : files) {
        ++job.files_total;
        job.bytes_total += file.size;
        works.push_back(std::make_shared<FileWork>());
        works.back()->file = std::move(file);
        self->queue_.push_back(works.back());
      }
      for (const std::shared_ptr<FileWork>& work : works) co_await self->find_ranges(work);
      job.refused = self->walk_.refused();
      self->notify();
    }
    job.total_known = self->walk_.ended();
    if (self->walk_.failed() > 0) {
      job.note_error(self->walk_.first_failure());
      job.errors += self->walk_.failed() - 1;
    }
    --self->active_;
    self->walked_ = true;
    self->notify();
  }

  // Learns where the file's bytes lie. Holes are done with that.
  io::Task<void> find_ranges(std::shared_ptr<FileWork> work) {
    FileRanges where(*request_.volume, home_, work->file);
    while (!where.ended() && !stopped() && !work->failed) {
      if (work->ranges.size() >= kRangesAhead) {
        co_await change();
        continue;
      }
      uint64_t holes_bytes = 0;
      holes_bytes -= where.position();
      std::vector<ObjectRange> ranges;
      const origin::Outcome outcome = co_await where.next(&ranges);
      if (!outcome.ok()) {
        note_failed(work.get(), why(outcome));
        break;
      }
      holes_bytes += where.position();
      for (const ObjectRange& range : ranges) holes_bytes -= range.end - range.begin;
      job_.bytes += holes_bytes;
      work->ranges.insert(work->ranges.end(), ranges.begin(), ranges.end());
      if (work->file.mapped) notify();
    }
    work->all_known = true;
  }

  // The next piece of the front file; none if the queue is empty, or nothing more is known of that file yet.
  std::optional<Piece> next_piece() {
    while (!queue_.empty()) {
      const std::shared_ptr<FileWork> work = queue_.front();
      if (work->failed || work->handed_out()) {
        queue_.pop_front();
        count_if_done(work.get());
        continue;
      }
      if (work->ranges.empty()) return std::nullopt;
      ObjectRange& range = work->ranges.front();
      const uint64_t edge = (range.begin / shm::kExtentBytes + 1) * shm::kExtentBytes;
      Piece piece{work, range.object, range.begin,
                  static_cast<uint32_t>(std::min(edge, range.end) - range.begin)};
      range.begin += piece.length;
      if (range.begin >= range.end) work->ranges.pop_front();
      ++work->under_way;
      return piece;
    }
    return std::nullopt;
  }

  void count_if_done(FileWork* work) {
    if (!work->handed_out() || work->under_way > 0 || work->failed) return;
    if (!std::exchange(work->counted, true)) ++job_.files;
  }

  static io::Task<void> worker(std::shared_ptr<WarmRun> self) {
    while (!self->stopped()) {
      const std::optional<Piece> piece = self->next_piece();
      if (!piece) {
        if (self->walked_) break;
        co_await self->change();
        continue;
      }
      co_await self->pace(piece->length);
      if (self->stopped()) break;  // cancelled while it waited for its turn
      co_await self->serve(*piece);
      self->notify();
    }
    --self->active_;
    self->notify();
  }

  // Waits for the piece's turn at the rate that was asked for.
  io::Task<void> pace(uint64_t bytes) {
    if (request_.options.rate_bytes_s == 0) co_return;
    const uint64_t now_ns = home_.clock().monotonic_ns();
    const uint64_t turn_ns = std::max(next_turn_ns_, now_ns);
    next_turn_ns_ = turn_ns + bytes * kNanosecondsPerSecond / request_.options.rate_bytes_s;
    while (!stopped() && home_.clock().monotonic_ns() < turn_ns) {
      // In short steps, for a cancel to be heard.
      co_await home_.sleep_until(
          std::min(turn_ns, home_.clock().monotonic_ns() + 100 * kNanosecondsPerMillisecond));
    }
  }

  readpath::ReadRequest read_request(const Piece& piece) const {
    readpath::ReadRequest request;
    request.volume = request_.volume->id();
    request.data_set = piece.work->file.data_set;
    request.source = request_.volume;
    request.handle = piece.work->file.handle;
    request.object = piece.object;
    request.offset = piece.offset;
    request.length = piece.length;
    return request;
  }

  io::Task<void> serve(Piece piece) {
    const readpath::ReadRequest request = read_request(piece);
    const shm::BlockKey key{request.object, static_cast<uint32_t>(request.offset / shm::kBlockBytes),
                            request.volume, 0};
    Shard& owner = owner_of(shards_, key);
    const bool pin = request_.pins != nullptr;
    if (pin && !request_.pins->reserve(piece.length)) {
      fail("it would hold more than memory.pin_limit allows (" + format_size(request_.pins->limit_bytes()) +
           " for all pins, of which " + format_size(request_.pins->pinned_bytes() - reserved_bytes_) +
           " are held by others); nothing was pinned");
      co_return;
    }
    if (pin) reserved_bytes_ += piece.length;
    co_await owner.reactor().hop();
    readpath::FillResult filled = co_await owner.read_path().fill(request, pin);
    Status verified;
    if (filled.outcome.ok() && request_.options.verify) verified = co_await verify(owner, request);
    co_await home_.hop();
    if (!filled.kept.empty()) slots_.push_back({&owner, std::move(filled.kept)});
    job_.fetched_bytes += filled.fetched_bytes;
    FileWork& work = *piece.work;
    --work.under_way;
    if (!filled.outcome.ok()) note_failed(&work, why(filled.outcome));
    if (!verified.ok()) note_failed(&work, verified.message());
    if (filled.outcome.ok()) job_.bytes += piece.length;
    if (filled.outcome.ok() && verified.ok() && request_.options.verify) job_.verified_bytes += piece.length;
    count_if_done(&work);
  }

  static std::string why(const origin::Outcome& outcome) {
    if (outcome.changed || outcome.handle_unknown || outcome.error == ESTALE)
      return "it changed at the origin meanwhile; start again";
    if (outcome.error == EAGAIN) return "there is no room in memory: too much is pinned or in use";
    return std::strerror(outcome.error);
  }

  void note_failed(FileWork* work, const std::string& reason) {
    const bool first = !std::exchange(work->failed, true);
    const std::string message = dataset::shown_place(*request_.volume, work->file.path) + ": " + reason;
    if (first) job_.note_error(message);
    // A pin is whole or not at all.
    if (request_.pins != nullptr) fail(message + "; nothing was pinned");
  }

  // Compares what is cached with what the origin gives now, a megabyte at a time; differing blocks are
  // evicted. On the owner's thread.
  io::Task<Status> verify(Shard& owner, readpath::ReadRequest whole) {
    const uint64_t end = whole.offset + whole.length;
    origin::OpenedObject opened =
        co_await whole.source->open(owner.reactor(), whole.handle, whole.object, origin::Opener::kAhead);
    if (!opened.outcome.ok()) co_return Status(opened.outcome.error, why(opened.outcome));
    constexpr uint64_t kBufferBytes = shm::kMaximumReadBytes + shm::kReadBufferSlackBytes;
    Result<ssd_tier::AlignedBuffer> from_origin = ssd_tier::AlignedBuffer::allocate(kBufferBytes);
    Result<ssd_tier::AlignedBuffer> buffer = ssd_tier::AlignedBuffer::allocate(kBufferBytes);
    if (!from_origin.ok() || !buffer.ok()) co_return Status(ENOMEM, "no memory to verify with");
    while (whole.offset < end) {
      whole.length = static_cast<uint32_t>(std::min(end - whole.offset, shm::kMaximumReadBytes));
      whole.buffer = buffer->data();
      whole.buffer_bytes = kBufferBytes;
      const uint64_t start = align_down(whole.offset, shm::kPageBytes);
      const uint64_t length = whole.offset + whole.length - start;
      std::vector<iovec> iovecs{{from_origin->data(), align_up(length, shm::kPageBytes)}};
      const origin::Outcome outcome =
          co_await opened.reader->read(owner.reactor(), start, length, std::move(iovecs));
      if (!outcome.ok()) co_return Status(outcome.error, why(outcome));
      readpath::ReadResult cached = co_await owner.read_path().read(whole);
      if (!cached.outcome.ok()) co_return Status(cached.outcome.error, why(cached.outcome));
      if (!cached.in_buffer) owner.read_path().move_to_buffer(whole, &cached);
      const bool same = std::memcmp(buffer->data() + cached.buffer_offset,
                                    from_origin->data() + (whole.offset - start), whole.length) == 0;
      if (!same) {
        evict_range(owner, whole);
        co_return Status(
            EIO,
            "cached bytes differed from the origin's; they were evicted. This is a defect of cached, "
            "or the file was changed without its times telling");
      }
      whole.offset += whole.length;
    }
    co_return Status();
  }

  static void evict_range(Shard& owner, const readpath::ReadRequest& range) {
    const auto first = static_cast<uint32_t>(range.offset / shm::kBlockBytes);
    const auto last = static_cast<uint32_t>((range.offset + range.length - 1) / shm::kBlockBytes);
    for (uint32_t block = first; block <= last; ++block)
      owner.evict_block({range.object, block, range.volume, range.data_set}, false);
  }

  void fail(const std::string& message) {
    if (std::exchange(failed_, true)) return;
    failure_ = message;
  }

  void finish() {
    const bool cancelled = job_.cancelled;
    if (request_.pins != nullptr && !failed_ && !cancelled) {
      PinTable::Pin pin{job_.what, job_.uid, reserved_bytes_, job_.files, std::move(slots_)};
      if (const Status status = request_.pins->add(std::move(pin)); !status.ok()) fail(status.message());
    }
    if (request_.pins != nullptr && (failed_ || cancelled)) {
      unpin_slots(std::move(slots_));
      request_.pins->release(reserved_bytes_);
    }
    job_.end(failed_ ? JobState::kFailed : cancelled ? JobState::kCancelled : JobState::kDone, failure_);
  }

  const WarmRequest request_;
  Job& job_;
  const std::vector<Shard*> shards_;
  io::Reactor& home_;
  TreeWalk walk_;
  bool walked_ = false;
  std::deque<std::shared_ptr<FileWork>> queue_;
  unsigned active_ = 0;  // walker and workers
  std::vector<std::coroutine_handle<>> waiting_;
  uint64_t next_turn_ns_ = 0;
  bool failed_ = false;  // as a whole
  std::string failure_;
  std::vector<PinTable::Slots> slots_;
  uint64_t reserved_bytes_ = 0;
};

}  // namespace

void start_warm(WarmRequest request, const std::vector<Shard*>& shards) {
  io::Reactor& home = shards.front()->reactor();
  const auto run = std::make_shared<WarmRun>(std::move(request), shards);
  home.post([run] { io::spawn(WarmRun::run(run)); });
}

void unpin_slots(std::vector<PinTable::Slots> slots) {
  for (PinTable::Slots& part : slots) {
    part.owner->reactor().post([part = std::move(part)] {
      for (const memory_tier::SlotId slot : part.slots) part.owner->read_path().unkeep(slot);
    });
  }
}

bool PinTable::reserve(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (pinned_bytes_ + bytes > limit_bytes_) return false;
  pinned_bytes_ += bytes;
  return true;
}

void PinTable::release(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  pinned_bytes_ -= bytes;
}

uint64_t PinTable::limit_bytes() const {
  const std::lock_guard lock(mutex_);
  return limit_bytes_;
}

uint64_t PinTable::pinned_bytes() const {
  const std::lock_guard lock(mutex_);
  return pinned_bytes_;
}

void PinTable::set_limit(uint64_t limit_bytes) {
  const std::lock_guard lock(mutex_);
  limit_bytes_ = limit_bytes;
}

Status PinTable::add(Pin pin) {
  const std::lock_guard lock(mutex_);
  const std::string place = pin.place;
  if (pins_.contains(place))
    return Status(EEXIST, place + " is pinned already; unpin it to pin what it is now");
  pins_.emplace(place, std::move(pin));
  return Status();
}

bool PinTable::contains(const std::string& place) const {
  const std::lock_guard lock(mutex_);
  return pins_.contains(place);
}

Result<PinTable::Pin> PinTable::take(const std::string& place) {
  const std::lock_guard lock(mutex_);
  const auto found = pins_.find(place);
  if (found == pins_.end())
    return Status(ENOENT, "\"" + printable(place) + "\" is not pinned; `cachedctl pins` lists what is");
  Pin pin = std::move(found->second);
  pins_.erase(found);
  pinned_bytes_ -= pin.bytes;
  return pin;
}

nlohmann::json PinTable::to_json() const {
  const std::lock_guard lock(mutex_);
  nlohmann::json list = nlohmann::json::array();
  for (const auto& [place, pin] : pins_) {
    list.push_back({{"place", place}, {"uid", pin.uid}, {"bytes", pin.bytes}, {"files", pin.files}});
  }
  return {{"pins", list}, {"pinned_bytes", pinned_bytes_}, {"limit_bytes", limit_bytes_}};
}

}  // namespace cached::server
