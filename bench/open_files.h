// OpenFiles: the descriptors that the file engines read from.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"

namespace cached::bench {

class OpenFiles {
 public:
  // Opens all `paths` and tells their sizes.
  Result<std::vector<uint64_t>> open(const std::vector<std::string>& paths, bool direct) {
    std::vector<uint64_t> sizes;
    for (const std::string& path : paths) {
      UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0)));
      if (!fd.valid()) return Status::from_errno("open " + path);
      struct stat status {};
      if (::fstat(fd.get(), &status) != 0) return Status::from_errno("stat " + path);
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
