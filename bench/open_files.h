// OpenFiles: the descriptors that the file engines read from and write to.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "bench/options.h"

namespace cached::bench {

// How a job's files are opened.
inline int open_flags(const BenchOptions& options) {
  const int access = !options.load.writes ? O_RDONLY : O_RDWR;
  return access | O_CLOEXEC | (options.direct ? O_DIRECT : 0);
}

class OpenFiles {
 public:
  // Opens all `paths` and tells their sizes.
  Result<std::vector<uint64_t>> open(const std::vector<std::string>& paths, int flags, bool drop_page_cache) {
    std::vector<uint64_t> sizes;
    for (const std::string& path : paths) {
      UniqueFd fd(::open(path.c_str(), flags));
      if (!fd.valid()) return Status::from_errno("open " + path);
      struct stat status {};
      if (::fstat(fd.get(), &status) != 0) return Status::from_errno("stat " + path);
      if (const int error = drop_page_cache ? ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED) : 0;
          error != 0)
        return Status::from_errno(error, "invalidate " + path);
      sizes.push_back(static_cast<uint64_t>(status.st_size));
      fds_.push_back(std::move(fd));
    }
    return sizes;
  }
  int fd(uint32_t file) const { return fds_[file].get(); }

 private:
  std::vector<UniqueFd> fds_;
};

}  // namespace cached::bench
