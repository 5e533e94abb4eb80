// Engine io_uring: see io_uring_engine.h.
#include <liburing.h>
#include <unistd.h>

#include <deque>

#include "bench/aligned_buffer.h"
#include "bench/io_uring_engine.h"

namespace cached::bench {

class IoUringWorker : public Worker {
 public:
  explicit IoUringWorker(const IoUringEngine& engine) : engine_(engine), ios_(engine.depth_) {
    for (unsigned slot = 0; slot < engine.depth_; ++slot) buffers_.emplace_back(engine.block_bytes_);
  }
  ~IoUringWorker() override {
    if (!ready_) return;
    // After an error: the kernel may still write to the buffers.
    io_uring_cqe* completion = nullptr;
    for (; in_flight_ > 0 && io_uring_wait_cqe(&ring_, &completion) == 0; --in_flight_)
      io_uring_cqe_seen(&ring_, completion);
    io_uring_queue_exit(&ring_);
  }

  Status start() {
    const int error = io_uring_queue_init(engine_.depth_, &ring_, 0);
    if (error < 0) return Status::from_errno(-error, "cannot set up an io_uring");
    ready_ = true;
    return Status();
  }

  Status submit(unsigned slot, const Io& io) override {
    // Depth entries and at most depth in flight: there is always a free one.
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    const int fd = engine_.files_.fd(io.file);
    const auto length = static_cast<unsigned>(io.length);
    if (io.direction == kRead) {
      io_uring_prep_read(entry, fd, buffers_[slot].data(), length, io.offset);
    } else {
      io_uring_prep_write(entry, fd, buffers_[slot].data(), length, io.offset);
    }
    io_uring_sqe_set_data64(entry, slot);
    ios_[slot] = io;
    return Status();
  }

  Status commit() override {
    int submitted = 0;
    do {
      submitted = io_uring_submit(&ring_);
    } while (submitted == -EINTR);
    if (submitted < 0) return Status::from_errno(-submitted, "io_uring_submit");
    in_flight_ += static_cast<unsigned>(submitted);
    return Status();
  }

  Status reap(FinishedIo* finished, unsigned* count) override {
    io_uring_cqe* completion = nullptr;
    const int error = io_uring_wait_cqe(&ring_, &completion);
    if (error < 0 && error != -EINTR) return Status::from_errno(-error, "io_uring_wait_cqe");
    unsigned head = 0;
    *count = 0;
    Status status;
    io_uring_for_each_cqe(&ring_, head, completion) {
      const auto slot = static_cast<unsigned>(io_uring_cqe_get_data64(completion));
      if (completion->res < 0) status = failed(ios_[slot], -completion->res);
      finished[(*count)++] = {.slot = slot, .bytes = static_cast<uint64_t>(std::max(completion->res, 0))};
    }
    io_uring_cq_advance(&ring_, *count);
    in_flight_ -= *count;
    return status;
  }

  std::byte* buffer(unsigned slot) override { return buffers_[slot].data(); }
  Status sync(uint32_t file) override {
    return ::fsync(engine_.files_.fd(file)) == 0 ? Status()
                                                 : Status::from_errno("sync " + engine_.paths_[file]);
  }

 private:
  Status failed(const Io& io, int error) const {
    return Status::from_errno(error, (io.direction == kRead ? "read " : "write ") + engine_.paths_[io.file]);
  }

  const IoUringEngine& engine_;
  std::vector<Io> ios_;  // of each slot, for messages
  std::deque<AlignedBuffer> buffers_;
  unsigned in_flight_ = 0;
  io_uring ring_{};
  bool ready_ = false;
};

Result<std::vector<uint64_t>> IoUringEngine::open_files(const std::vector<std::string>& paths) {
  return open_with(paths, open_flags_);
}

Result<std::vector<uint64_t>> IoUringEngine::open_with(const std::vector<std::string>& paths, int flags) {
  paths_ = paths;
  return files_.open(paths, flags, drops_page_cache_);
}

Status IoUringEngine::remember_paths(const std::vector<std::string>&) {
  return Status(ENOTSUP, "engine io_uring has no workload smallfiles: use posix");
}

Result<std::unique_ptr<Worker>> IoUringEngine::new_worker() {
  auto worker = std::make_unique<IoUringWorker>(*this);
  CACHED_RETURN_IF_ERROR(worker->start());
  return std::unique_ptr<Worker>(std::move(worker));
}

std::unique_ptr<Engine> make_io_uring_engine(const BenchOptions& options) {
  return std::make_unique<IoUringEngine>(options);
}

}  // namespace cached::bench
