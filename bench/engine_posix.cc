// Engine posix: pread() and pwrite() with a private buffer, and open, read, close for whole files.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "bench/aligned_buffer.h"
#include "bench/engine.h"
#include "bench/open_files.h"

namespace cached::bench {
namespace {

class PosixEngine : public Engine {
 public:
  explicit PosixEngine(const BenchOptions& options)
      : block_bytes_(options.block_bytes),
        direct_(options.direct),
        open_flags_(open_flags(options)),
        drops_page_cache_(options.drops_page_cache) {}

  Result<std::vector<uint64_t>> open_files(const std::vector<std::string>& paths) override {
    paths_ = paths;
    return files_.open(paths, open_flags_, drops_page_cache_);
  }
  Status remember_paths(const std::vector<std::string>& paths) override {
    paths_ = paths;
    return Status();
  }
  Result<std::unique_ptr<Worker>> new_worker() override;

 private:
  friend class PosixWorker;
  const uint64_t block_bytes_;
  const bool direct_;
  const int open_flags_;
  const bool drops_page_cache_;
  std::vector<std::string> paths_;
  OpenFiles files_;
};

class PosixWorker : public SynchronousWorker {
 public:
  explicit PosixWorker(const PosixEngine& engine) : engine_(engine), buffer_(engine.block_bytes_) {}
  std::byte* buffer(unsigned) override { return buffer_.data(); }
  Status sync(uint32_t file) override {
    return ::fsync(engine_.files_.fd(file)) == 0 ? Status()
                                                 : Status::from_errno("sync " + engine_.paths_[file]);
  }

 protected:
  Status perform(const Io& io, uint64_t* bytes) override {
    if (io.whole_file) return read_whole_file(engine_.paths_[io.file], bytes);
    const int fd = engine_.files_.fd(io.file);
    const auto offset = static_cast<off_t>(io.offset);
    const bool reads = io.direction == kRead;
    const ssize_t done = reads ? ::pread(fd, buffer_.data(), io.length, offset)
                               : ::pwrite(fd, buffer_.data(), io.length, offset);
    if (done < 0) return Status::from_errno((reads ? "read " : "write ") + engine_.paths_[io.file]);
    *bytes = static_cast<uint64_t>(done);
    return Status();
  }

 private:
  Status read_whole_file(const std::string& path, uint64_t* bytes) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | (engine_.direct_ ? O_DIRECT : 0)));
    if (!fd.valid()) return Status::from_errno("open " + path);
    *bytes = 0;
    for (;;) {
      const ssize_t got = ::read(fd.get(), buffer_.data(), buffer_.size_bytes());
      if (got < 0) return Status::from_errno("read " + path);
      *bytes += static_cast<uint64_t>(got);
      // A short read is the end of a regular file: no second call to be told so.
      if (static_cast<uint64_t>(got) < buffer_.size_bytes()) return Status();
    }
  }

  const PosixEngine& engine_;
  AlignedBuffer buffer_;
};

Result<std::unique_ptr<Worker>> PosixEngine::new_worker() {
  return std::unique_ptr<Worker>(std::make_unique<PosixWorker>(*this));
}

}  // namespace

std::unique_ptr<Engine> make_posix_engine(const BenchOptions& options) {
  return std::make_unique<PosixEngine>(options);
}

}  // namespace cached::bench
