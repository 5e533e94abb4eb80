// IoUringEngine: one ring for each job, iodepth I/Os in flight on it. Engine device is one that opens
// otherwise.
#pragma once

#include <string>
#include <vector>

#include "bench/engine.h"
#include "bench/open_files.h"

namespace cached::bench {

class IoUringEngine : public Engine {
 public:
  explicit IoUringEngine(const BenchOptions& options)
      : block_bytes_(options.block_bytes),
        depth_(options.depth),
        open_flags_(open_flags(options)),
        drops_page_cache_(options.drops_page_cache) {}

  Result<std::vector<uint64_t>> open_files(const std::vector<std::string>& paths) override;
  Status remember_paths(const std::vector<std::string>& paths) override;
  Result<std::unique_ptr<Worker>> new_worker() override;
  unsigned in_flight_per_worker() const override { return depth_; }
  bool completes_in_submit() const override { return false; }

 protected:
  Result<std::vector<uint64_t>> open_with(const std::vector<std::string>& paths, int flags);
  int fd(uint32_t file) const { return files_.fd(file); }
  uint64_t block_bytes() const { return block_bytes_; }

 private:
  friend class IoUringWorker;
  const uint64_t block_bytes_;
  const unsigned depth_;
  const int open_flags_;
  const bool drops_page_cache_;
  std::vector<std::string> paths_;
  OpenFiles files_;
};

}  // namespace cached::bench
