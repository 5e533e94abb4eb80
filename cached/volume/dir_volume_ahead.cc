// Files of a `dir:` volume that are read in order: named, opened and told to the read path before they are
// asked for.
//
// Where a stream has come to the end of what its directory lists, the first files of the next directory
// follow if directories are being read in order as well: each that a stream came to the end of counts as one
// read of a file would (directory_streams_), with a window of one.
#include <dirent.h>

#include <algorithm>

#include "cached/volume/dir_volume.h"

namespace cached::volume {
namespace {

constexpr uint32_t kFilesAtOnce = 8;  // that are opened in one visit to the pool

}  // namespace

io::Task<void> DirVolume::learn_order(FileStreams* streams, shm::Handle directory, std::string path,
                                      unsigned char type) {
  const auto list = [&] { return order_of(path, directory, type); };
  Result<std::shared_ptr<const FileOrder>> order = co_await pool_.run(home_, list);
  if (order.ok()) {
    streams->set_order(directory, std::move(order).value());
  } else {
    streams->give_up(directory);
  }
}

Result<std::shared_ptr<const FileOrder>> DirVolume::order_of(const std::string& path,
                                                             const shm::Handle& directory,
                                                             unsigned char type) const {
  const Result<std::vector<std::string>> names =
      beneath_->names_of_type(path, directory, type, FileStreams::kOrderBytes);
  if (!names.ok()) return names.status();
  return std::make_shared<const FileOrder>(*names);
}

std::vector<origin::FollowingFile> DirVolume::take_in(std::vector<Beneath::OpenedChild> children,
                                                      const shm::Handle& directory) {
  std::vector<origin::FollowingFile> files;
  for (Beneath::OpenedChild& child : children) {
    if (!settled(child.inode)) continue;  // an id that holds for half a second is not worth a fetch
    const shm::InodeInfo info = learn(child.inode, directory, child.name);
    names_.put_name(id_, directory, child.name, info.handle, info.validated_at_ns);
    open_files_.put(info.handle, std::move(child.file));
    if (info.size > 0 && info.size <= kSmallFileBytes)
      files.push_back({info.handle, info.object, 0, info.size, info.data_set});
  }
  return files;
}

// Takes what follows in `directory`, until there is something to fetch.
io::Task<std::vector<origin::FollowingFile>> DirVolume::take_following(shm::Handle directory,
                                                                       std::string path) {
  std::vector<origin::FollowingFile> files;
  while (files.empty()) {
    const std::vector<std::string> names = streams_.take(directory, kFilesAtOnce);
    if (names.empty()) break;
    std::vector<Beneath::OpenedChild> children =
        co_await pool_.run(home_, [&] { return beneath_->open_children(path, directory, names); });
    files = take_in(std::move(children), directory);
  }
  co_return files;
}

io::Task<std::vector<origin::FollowingFile>> DirVolume::take_all_following(shm::Handle directory) {
  std::vector<origin::FollowingFile> files;
  const PathAnswer path = path_of(directory);
  if (!path.known) streams_.give_up(directory);
  while (path.known) {
    const std::vector<origin::FollowingFile> some = co_await take_following(directory, path.path);
    if (some.empty()) break;
    files.insert(files.end(), some.begin(), some.end());
  }
  co_return files;
}

io::Task<std::optional<shm::Handle>> DirVolume::enter_next_directory(shm::Handle directory) {
  const Node* const node = nodes_.get(directory);
  if (node == nullptr || node->name.empty()) co_return std::nullopt;
  const shm::Handle parent = node->parent;
  if (!directory_streams_.note(parent, node->name)) co_return std::nullopt;
  const PathAnswer path = path_of(parent);
  if (!path.known) {
    directory_streams_.give_up(parent);
    co_return std::nullopt;
  }
  if (directory_streams_.wants_order(parent))
    co_await learn_order(&directory_streams_, parent, path.path, DT_DIR);
  const std::vector<std::string> names = directory_streams_.take(parent, 1);
  while (!directory_streams_.take(parent, 1).empty()) {
  }
  if (names.empty()) co_return std::nullopt;
  const std::string& name = names.front();
  const std::string below = path.path.empty() ? name : path.path + "/" + name;
  FoundInode found;
  const auto look = [&]() -> Result<std::shared_ptr<const FileOrder>> {
    found = beneath_->find_child(path.path, parent, name);
    if (found.error != 0) return Status(found.error, "it is gone");
    return order_of(below, found.handle, DT_REG);
  };
  Result<std::shared_ptr<const FileOrder>> order = co_await pool_.run(home_, look);
  if (!order.ok()) co_return std::nullopt;
  const shm::InodeInfo info = learn(found, parent, name);
  names_.put_name(id_, parent, name, info.handle, info.validated_at_ns);
  if (!streams_.begin(info.handle, std::move(order).value(), directory)) co_return std::nullopt;
  co_return info.handle;
}

io::Task<std::vector<origin::FollowingFile>> DirVolume::files_ahead(io::Reactor& caller, shm::Handle handle) {
  co_await home_.hop();
  std::vector<origin::FollowingFile> files;
  const Node* const node = nodes_.get(handle);
  const shm::Handle directory = node != nullptr ? node->parent : shm::Handle{};
  const PathAnswer path = path_of(directory);
  if (!path.known) {
    streams_.give_up(directory);
  } else {
    if (streams_.wants_order(directory)) co_await learn_order(&streams_, directory, path.path, DT_REG);
    files = co_await take_following(directory, path.path);
    if (files.empty() && streams_.at_end(directory)) {
      const std::optional<shm::Handle> next = co_await enter_next_directory(directory);
      if (next) files = co_await take_all_following(*next);
    }
  }
  co_await caller.hop();
  co_return files;
}

}  // namespace cached::volume
