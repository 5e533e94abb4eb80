// Engine device: io_uring with O_DIRECT on a block device, or on a file that stands for one. It creates and
// extends nothing, and writes only where the job says allow_writes; a block device that is mounted or
// otherwise held is then refused.
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "bench/io_uring_engine.h"

namespace cached::bench {
namespace {

class DeviceEngine : public IoUringEngine {
 public:
  explicit DeviceEngine(const BenchOptions& options) : IoUringEngine(options), writes_(options.load.writes) {}

  Result<std::vector<uint64_t>> open_files(const std::vector<std::string>& paths) override {
    // For a block device O_EXCL means that nobody else holds it; without O_CREAT it means nothing for files.
    const int flags = O_DIRECT | O_CLOEXEC | (writes_ ? O_RDWR | O_EXCL : O_RDONLY);
    Result<std::vector<uint64_t>> sizes = open_with(paths, flags);
    if (!sizes.ok()) return sizes.status().with_context("engine device");
    for (uint32_t file = 0; file < paths.size(); ++file) {
      CACHED_RETURN_IF_ERROR(measure(file, &(*sizes)[file]).with_context("engine device: " + paths[file]));
    }
    return sizes;
  }

 private:
  // The size of a block device, which fstat() does not tell; refuses what cannot be one, or blocks that do
  // not fit.
  Status measure(uint32_t file, uint64_t* size_bytes) const {
    struct stat status {};
    if (::fstat(fd(file), &status) != 0) return Status::from_errno("stat");
    if (S_ISREG(status.st_mode)) return Status();
    if (!S_ISBLK(status.st_mode)) return Status(ENOTBLK, "is neither a block device nor a file");
    int sector_bytes = 0;
    if (::ioctl(fd(file), BLKGETSIZE64, size_bytes) != 0 || ::ioctl(fd(file), BLKSSZGET, &sector_bytes) != 0)
      return Status::from_errno("cannot ask for its size");
    if (block_bytes() % static_cast<uint64_t>(sector_bytes) != 0)
      return Status(EINVAL,
                    "bs must be a multiple of its sectors of " + std::to_string(sector_bytes) + " bytes");
    return Status();
  }

  const bool writes_;
};

}  // namespace

std::unique_ptr<Engine> make_device_engine(const BenchOptions& options) {
  return std::make_unique<DeviceEngine>(options);
}

}  // namespace cached::bench
