// Reading and replacing: see state_file.h.
#include "base/state_file.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace cached {
namespace {

Status write_all(int fd, std::string_view content) {
  while (!content.empty()) {
    const ssize_t count = ::write(fd, content.data(), content.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Status::from_errno("cannot write");
    content.remove_prefix(static_cast<size_t>(count));
  }
  return ::fsync(fd) == 0 ? Status() : Status::from_errno("cannot sync");
}

// The new name must survive a loss of power as well.
void sync_directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.valid()) ::fsync(fd.get());
}

}  // namespace

Result<std::string> read_state_file(const std::string& path, size_t limit_bytes) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return Status::from_errno("cannot open " + path);
  std::string content;
  std::string piece(4096, '\0');
  for (;;) {
    const ssize_t count = ::read(fd.get(), piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Status::from_errno("cannot read " + path);
    if (count == 0) return content;
    content.append(piece, 0, static_cast<size_t>(count));
    if (content.size() > limit_bytes)
      return Status(EFBIG, path + " is larger than it can be; it is not ours");
  }
}

Status replace_state_file(const std::string& path, std::string_view content) {
  const std::string fresh = path + ".new";
  const UniqueFd fd(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd.valid()) return Status::from_errno("cannot make " + fresh);
  CACHED_RETURN_IF_ERROR(write_all(fd.get(), content).with_context(fresh));
  if (::rename(fresh.c_str(), path.c_str()) != 0) return Status::from_errno("cannot replace " + path);
  sync_directory_of(path);
  return Status();
}

}  // namespace cached
