// Engine io_uring: one ring for each job, iodepth reads in flight on it.
#include <liburing.h>

#include <deque>

#include "bench/aligned_buffer.h"
#include "bench/engine.h"
#include "bench/open_files.h"

namespace cached::bench {
namespace {

class IoUringEngine : public Engine {
 public:
  explicit IoUringEngine(const BenchOptions& options)
      : block_bytes_(options.block_bytes), depth_(options.depth), direct_(options.direct) {}

  Result<std::vector<uint64_t>> open_files(const std::vector<std::string>& paths) override {
    paths_ = paths;
    return files_.open(paths, direct_);
  }
  Status remember_paths(const std::vector<std::string>&) override {
    return Status(ENOTSUP, "engine io_uring has no workload smallfiles: use posix");
  }
  Result<std::unique_ptr<Worker>> new_worker() override;
  unsigned in_flight_per_worker() const override { return depth_; }

 private:
  friend class IoUringWorker;
  const uint64_t block_bytes_;
  const unsigned depth_;
  const bool direct_;
  std::vector<std::string> paths_;
  OpenFiles files_;
};

class IoUringWorker : public Worker {
 public:
  explicit IoUringWorker(const IoUringEngine& engine) : engine_(engine), files_(engine.depth_) {
    for (unsigned slot = 0; slot < engine.depth_; ++slot) buffers_.emplace_back(engine.block_bytes_);
  }
  ~IoUringWorker() override {
    if (ready_) io_uring_queue_exit(&ring_);
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
    io_uring_prep_read(entry, engine_.files_.fd(io.file), buffers_[slot].data(),
                       static_cast<unsigned>(io.length), io.offset);
    io_uring_sqe_set_data64(entry, slot);
    files_[slot] = io.file;
    return Status();
  }

  Status reap(FinishedIo* finished, unsigned* count) override {
    const int error = io_uring_submit_and_wait(&ring_, 1);
    if (error < 0 && error != -EINTR) return Status::from_errno(-error, "io_uring_submit_and_wait");
    io_uring_cqe* completion = nullptr;
    unsigned head = 0;
    *count = 0;
    Status status;
    io_uring_for_each_cqe(&ring_, head, completion) {
      const unsigned slot = static_cast<unsigned>(io_uring_cqe_get_data64(completion));
      if (completion->res < 0)
        status = Status::from_errno(-completion->res, "read " + engine_.paths_[files_[slot]]);
      finished[(*count)++] = {.slot = slot, .bytes = static_cast<uint64_t>(std::max(completion->res, 0))};
    }
    io_uring_cq_advance(&ring_, *count);
    return status;
  }

 private:
  const IoUringEngine& engine_;
  std::vector<uint32_t> files_;  // of each slot, for messages
  std::deque<AlignedBuffer> buffers_;
  io_uring ring_{};
  bool ready_ = false;
};

Result<std::unique_ptr<Worker>> IoUringEngine::new_worker() {
  auto worker = std::make_unique<IoUringWorker>(*this);
  CACHED_RETURN_IF_ERROR(worker->start());
  return std::unique_ptr<Worker>(std::move(worker));
}

}  // namespace

std::unique_ptr<Engine> make_io_uring_engine(const BenchOptions& options) {
  return std::make_unique<IoUringEngine>(options);
}

}  // namespace cached::bench
