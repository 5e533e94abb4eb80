// What the benchmark asks of an engine: open the files, then start single I/Os and collect finished ones.
//
// One Engine for a job and its clones (numjobs), shared by all threads; one Worker for each thread. A
// synchronous engine finishes an I/O inside submit() and hands it out by the next reap(); one that queues
// keeps `in_flight_per_worker()` of them going.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "bench/options.h"

namespace cached::bench {

// One unit of load: a piece of a file that is open, or a whole file: open, read, close.
struct Io {
  uint32_t file = 0;
  Direction direction = kRead;
  bool whole_file = false;
  uint64_t offset = 0;
  uint64_t length = 0;
};

struct FinishedIo {
  unsigned slot = 0;
  uint64_t bytes = 0;
};

class Worker {
 public:
  virtual ~Worker() = default;
  // Starts `io` under the number `slot`, which is free and below the engine's depth.
  virtual Status submit(unsigned slot, const Io& io) = 0;
  // Hands what was submitted to the kernel, if submit() does not.
  virtual Status commit() { return Status(); }
  // Waits for at least one I/O and writes all that have finished to `finished` (room for the depth) and
  // *count.
  virtual Status reap(FinishedIo* finished, unsigned* count) = 0;
  // Where the bytes of this slot's I/O come from and go to; nullptr if they are not copied anywhere.
  virtual std::byte* buffer(unsigned slot) = 0;
  // Makes what was written to `file` last.
  virtual Status sync(uint32_t) { return Status(ENOTSUP, "end_fsync: this engine does not write"); }
};

class Engine {
 public:
  virtual ~Engine() = default;
  // Opens `paths` for pieces of them and tells their sizes, in the order of `paths`.
  virtual Result<std::vector<uint64_t>> open_files(const std::vector<std::string>& paths) = 0;
  // Remembers `paths` for whole-file I/O. ENOTSUP where an engine cannot do that.
  virtual Status remember_paths(const std::vector<std::string>& paths) = 0;
  // A worker for the calling thread. The engine outlives it.
  virtual Result<std::unique_ptr<Worker>> new_worker() = 0;
  // I/Os that one worker has in flight: 1 for synchronous engines, of which a job runs `iodepth` workers.
  virtual unsigned in_flight_per_worker() const { return 1; }
  // Whether submit() itself may do the I/O: then fio's submission latency is part of its completion latency.
  virtual bool completes_in_submit() const { return true; }
};

std::unique_ptr<Engine> make_posix_engine(const BenchOptions& options);
std::unique_ptr<Engine> make_io_uring_engine(const BenchOptions& options);
std::unique_ptr<Engine> make_device_engine(const BenchOptions& options);

// A worker of an engine whose submit() does all the work: remembers what the next reap() hands out.
class SynchronousWorker : public Worker {
 public:
  Status submit(unsigned slot, const Io& io) final {
    finished_.slot = slot;
    return perform(io, &finished_.bytes);
  }
  Status reap(FinishedIo* finished, unsigned* count) final {
    *finished = finished_;
    *count = 1;
    return Status();
  }

 protected:
  // Does `io` and tells how many bytes came or went.
  virtual Status perform(const Io& io, uint64_t* bytes) = 0;

 private:
  FinishedIo finished_;
};

}  // namespace cached::bench
