// Walking a volume as a user: see tree_walk.h.
#include "cached/dataset/tree_walk.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "base/log.h"

namespace cached::dataset {
namespace {

constexpr unsigned kItemsAtOnce = 512;

}  // namespace

std::string shown_place(const volume::Volume& volume, const std::string& path) {
  return volume.name() + ":/" + printable(path);
}

WalkedFile TreeWalk::file_of(std::string path, const shm::InodeInfo& inode) {
  const bool mapped = inode.layout == shm::LayoutKind::kMap;
  return {std::move(path), inode.handle, inode.object, mapped, inode.layout_base, inode.size, inode.data_set};
}

void TreeWalk::note_failure(const std::string& path, int error) {
  if (failed_++ == 0) first_failure_ = shown_place(volume_, path) + ": " + std::strerror(error);
}

io::Task<bool> TreeWalk::allowed(shm::InodeInfo inode, unsigned wanted) {
  std::string acl;
  if (needs_acl(caller_, inode)) {
    std::string name = "system.posix_acl_access";
    volume::BytesAnswer answer = co_await volume_.get_xattr(home_, inode.handle, std::move(name));
    const int error = answer.outcome.error;
    // An ACL that cannot be read may take rights away.
    if (error != 0 && error != ENODATA && error != EOPNOTSUPP) co_return false;
    acl = std::move(answer.bytes);
  }
  co_return may_access(caller_, inode, acl, wanted);
}

io::Task<Status> TreeWalk::begin(std::string path) {
  size_t end = 0;
  for (;;) {
    std::string way = path.substr(0, end);
    const volume::InodeAnswer found = co_await volume_.resolve(home_, std::move(way));
    const std::string here = shown_place(volume_, path.substr(0, end));
    if (!found.outcome.ok())
      co_return Status(found.outcome.error, here + ": " + std::strerror(found.outcome.error));
    const bool last = end >= path.size();
    const bool directory = S_ISDIR(found.info.mode);
    if (!last && !directory) {
      co_return Status(
          ENOTDIR, here + " is no directory; symbolic links are not followed here, name what they lead to");
    }
    if (last && !directory && !S_ISREG(found.info.mode)) {
      co_return Status(EINVAL, here + " is neither a file nor a directory");
    }
    const unsigned wanted = !last ? kExecute : directory ? kRead | kExecute : kRead;
    const bool may = co_await allowed(found.info, wanted);
    if (!may) co_return Status(EACCES, here + ": permission denied; you can do this to what you can read");
    if (last && directory) stack_.push_back({path, found.info.handle, 0});
    if (last && !directory) single_.push_back(file_of(path, found.info));
    if (last) co_return Status();
    end = std::min(path.find('/', end == 0 ? 0 : end + 1), path.size());
  }
}

// A handle that was forgotten since is found again by its path.
io::Task<volume::DirectoryAnswer> TreeWalk::list(Directory* directory) {
  volume::DirectoryAnswer answer =
      co_await volume_.read_directory(home_, directory->handle, directory->cookie, true, kItemsAtOnce);
  if (!answer.outcome.handle_unknown) co_return answer;
  std::string path = directory->path;
  const volume::InodeAnswer found = co_await volume_.resolve(home_, std::move(path));
  if (!found.outcome.ok() || !(found.info.handle == directory->handle)) co_return answer;
  co_return co_await volume_.read_directory(home_, directory->handle, directory->cookie, true, kItemsAtOnce);
}

io::Task<std::vector<WalkedFile>> TreeWalk::next() {
  std::vector<WalkedFile> files = std::exchange(single_, {});
  while (files.empty() && !stack_.empty()) {
    Directory directory = std::move(stack_.back());
    stack_.pop_back();
    const volume::DirectoryAnswer answer = co_await list(&directory);
    if (!answer.outcome.ok()) {
      note_failure(directory.path, answer.outcome.error);
      continue;
    }
    if (!answer.end && !answer.items.empty()) {
      stack_.push_back({directory.path, directory.handle, answer.items.back().next_cookie});
    }
    for (const volume::DirectoryItem& item : answer.items) {
      if (!item.has_info) continue;  // it went away meanwhile
      const bool inner = S_ISDIR(item.info.mode);
      if (!inner && !S_ISREG(item.info.mode)) continue;
      const bool may = co_await allowed(item.info, inner ? kRead | kExecute : kRead);
      if (!may) {
        ++refused_;
        continue;
      }
      std::string path = directory.path.empty() ? item.name : directory.path + "/" + item.name;
      if (!inner) {
        files.push_back(file_of(std::move(path), item.info));
        continue;
      }
      if (std::ranges::count(path, '/') >= static_cast<long>(kMaximumDepth)) {
        note_failure(path, ELOOP);
        continue;
      }
      stack_.push_back({std::move(path), item.info.handle, 0});
    }
  }
  co_return files;
}

}  // namespace cached::dataset
