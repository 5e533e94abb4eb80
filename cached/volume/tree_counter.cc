// Counting a source tree: see tree_counter.h.
#include "cached/volume/tree_counter.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vector>

#include "base/unique_fd.h"

namespace cached::volume {
namespace {

// One directory of the walk. The stack of these is as deep as the tree, and holds one descriptor each.
using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

constexpr size_t kMaximumDepth = 256;

Directory open_directory(int parent, const char* name) {
  const int fd = ::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return {nullptr, ::closedir};
  DIR* const directory = ::fdopendir(fd);
  if (directory == nullptr) ::close(fd);
  return {directory, ::closedir};
}

}  // namespace

TreeCounter::~TreeCounter() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

void TreeCounter::refresh() {
  const std::lock_guard lock(mutex_);
  const uint64_t now_ns = system_clock().monotonic_ns();
  if (walking_ || (started_at_ns_ != 0 && now_ns - started_at_ns_ < kRecountNs)) return;
  if (thread_.joinable()) thread_.join();
  started_at_ns_ = now_ns;
  walking_ = true;
  thread_ = std::thread([this] { walk(); });
}

shm::VolumeStatistics TreeCounter::known() const {
  shm::VolumeStatistics statistics;
  statistics.bytes = bytes_;
  statistics.files = files_;
  statistics.complete = complete_ ? 1 : 0;
  return statistics;
}

void TreeCounter::walk() {
  ::pthread_setname_np(::pthread_self(), "tree-counter");
  const sched_param parameters{};
  ::sched_setscheduler(0, SCHED_BATCH, &parameters);
  uint64_t bytes = 0;
  uint64_t files = 0;
  uint64_t regular_files = 0;
  std::vector<Directory> stack;
  stack.push_back(open_directory(root_fd_, "."));
  if (stack.back() == nullptr) stack.clear();
  while (!stack.empty() && !stopping_) {
    const int fd = ::dirfd(stack.back().get());
    const dirent64* const entry = ::readdir64(stack.back().get());
    if (entry == nullptr) {
      stack.pop_back();
      continue;
    }
    const std::string_view name(entry->d_name);
    if (name == "." || name == "..") continue;
    struct stat attributes {};
    if (::fstatat(fd, entry->d_name, &attributes, AT_SYMLINK_NOFOLLOW) != 0) continue;
    ++files;
    if (S_ISREG(attributes.st_mode)) {
      ++regular_files;
      bytes += static_cast<uint64_t>(attributes.st_size);
    }
    if (S_ISDIR(attributes.st_mode) && stack.size() < kMaximumDepth) {
      if (Directory child = open_directory(fd, entry->d_name)) stack.push_back(std::move(child));
    }
    if (complete_) continue;
    bytes_ = bytes;
    files_ = files;
    regular_files_ = regular_files;
  }
  if (!stopping_) {
    bytes_ = bytes;
    files_ = files;
    regular_files_ = regular_files;
    complete_ = true;
  }
  walking_ = false;
}

}  // namespace cached::volume
