// Engine memcpy: copies out of the mapped arena without asking what lies there: the floor of engine shm.
#include <cstring>

#include "bench/aligned_buffer.h"
#include "bench/shm_engines.h"

namespace cached::bench {
namespace {

class MemcpyWorker : public SynchronousWorker {
 public:
  MemcpyWorker(const std::byte* arena, uint64_t block_bytes) : arena_(arena), buffer_(block_bytes) {}
  std::byte* buffer(unsigned) override { return buffer_.data(); }

 protected:
  Status perform(const Io& io, uint64_t* bytes) override {
    std::memcpy(buffer_.data(), arena_ + io.offset, io.length);
    *bytes = io.length;
    return Status();
  }

 private:
  const std::byte* arena_;
  AlignedBuffer buffer_;
};

class MemcpyEngine : public Engine {
 public:
  MemcpyEngine(const BenchOptions& options, std::shared_ptr<shm::Client> client)
      : block_bytes_(options.block_bytes), client_(std::move(client)) {}

  // The arena is the one file, whatever the paths are.
  Result<std::vector<uint64_t>> open_files(const std::vector<std::string>&) override {
    return std::vector<uint64_t>{client_->arena().bytes};
  }
  Status remember_paths(const std::vector<std::string>&) override {
    return Status(ENOTSUP, "engine memcpy has no workload smallfiles");
  }
  Result<std::unique_ptr<Worker>> new_worker() override {
    return std::unique_ptr<Worker>(std::make_unique<MemcpyWorker>(client_->arena().data, block_bytes_));
  }

 private:
  const uint64_t block_bytes_;
  std::shared_ptr<shm::Client> client_;
};

}  // namespace

std::unique_ptr<Engine> make_memcpy_engine(const BenchOptions& options, std::shared_ptr<shm::Client> client) {
  return std::make_unique<MemcpyEngine>(options, std::move(client));
}

}  // namespace cached::bench
