// A read-only view of a directory: see dir_volume.h.
#include "cached/volume/dir_volume.h"

#include <fcntl.h>
#include <sodium.h>

#include <algorithm>
#include <climits>

#include "base/log.h"

namespace cached::volume {
namespace {

constexpr uint64_t kStatisticsWaitNs = 500 * kNanosecondsPerMillisecond;
constexpr uint64_t kStatisticsPollNs = 5 * kNanosecondsPerMillisecond;
// For how long a file that has not settled keeps an id: below any usual attribute timeout, so that a
// validation that a client needed gives a new one, and long enough that readers who validate at the same time
// agree.
constexpr uint64_t kNonceLifeNs = 500 * kNanosecondsPerMillisecond;
constexpr unsigned kMaximumPlaceDepth = 512;

bool valid_name(const std::string& name) {
  return !name.empty() && name.size() <= NAME_MAX && name != "." && name != ".." &&
         name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

bool valid_path(const std::string& path) {
  if (path.empty()) return true;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    if (!valid_name(path.substr(begin, end - begin))) return false;
    begin = end + 1;
  }
  return path.size() < PATH_MAX;
}

Outcome failed(int error) {
  return Outcome{.error = error};
}
Outcome unknown_handle() {
  return Outcome{.error = ESTALE, .handle_unknown = true};
}

}  // namespace

Result<std::unique_ptr<DirVolume>> DirVolume::create(const VolumeConfig& config, uint16_t id,
                                                     const IdentityKey& key, io::Reactor& home,
                                                     memory_tier::NameTable& names) {
  Result<std::unique_ptr<Beneath>> beneath = Beneath::open(config.directory, key);
  if (!beneath.ok()) return beneath.status().with_context("volume " + config.name);
  return std::unique_ptr<DirVolume>(new DirVolume(config, id, std::move(beneath).value(), home, names));
}

DirVolume::DirVolume(const VolumeConfig& config, uint16_t id, std::unique_ptr<Beneath> beneath,
                     io::Reactor& home, memory_tier::NameTable& names)
    : config_(config),
      id_(id),
      beneath_(std::move(beneath)),
      home_(home),
      names_(names),
      nodes_(config.known_inodes),
      open_files_(config.open_files),
      counter_([this] { return beneath_->root_fd(); }),
      pool_("vol-" + config.name.substr(0, 10), config.threads) {
  beneath_->set_descriptors_short([this] { home_.post([this] { open_files_.clear(); }); });
}

InodeAnswer DirVolume::root(uint64_t snapshot) {
  if (snapshot != 0) return {failed(EINVAL)};
  const FoundInode found = beneath_->find("");
  if (found.error != 0) return {failed(found.error)};
  home_.post([this, found] { learn(found, {}, ""); });
  return {Outcome{}, found.info};
}

DirVolume::PathAnswer DirVolume::path_of(const shm::Handle& handle) {
  std::vector<std::string> names;
  size_t length = 0;
  shm::Handle at = handle;
  for (;;) {
    const Node* const node = nodes_.get(at);
    if (node == nullptr) return {};
    if (node->name.empty()) break;
    length += node->name.size() + 1;
    if (length > PATH_MAX) return {};  // a loop that renames at the source made; RESOLVE mends it
    names.push_back(node->name);
    at = node->parent;
  }
  PathAnswer answer{true, {}};
  answer.path.reserve(length);
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    if (!answer.path.empty()) answer.path += '/';
    answer.path += *name;
  }
  return answer;
}

// Directories that were moved at the source may form loops in the nodes, so the walk is bounded.
DataSetMap::Place DirVolume::place_of(const DataSetMap& map, const shm::Handle& handle, unsigned depth) {
  const Node* const node = nodes_.get(handle);
  if (node == nullptr || node->name.empty() || !map.has_directories() || depth > kMaximumPlaceDepth)
    return map.root();
  if (node->place_generation == map.generation()) return node->place;
  const shm::Handle parent = node->parent;
  const DataSetMap::Place above = place_of(map, parent, depth + 1);
  Node* const known = nodes_.get(handle);
  known->place = map.below(above, known->name);
  known->place_generation = map.generation();
  return known->place;
}

bool DirVolume::settled(const FoundInode& found) const {
  const int64_t ctime_ns =
      found.version.ctime_s * static_cast<int64_t>(kNanosecondsPerSecond) + found.version.ctime_ns;
  const int64_t age_ns = system_clock().realtime_ns() - ctime_ns;
  return age_ns > static_cast<int64_t>(config_.settle_ms * kNanosecondsPerMillisecond);
}

void DirVolume::choose_object(const FoundInode& found, const Node* before, Node* node) const {
  const bool same_version = before != nullptr && before->version == found.version;
  const uint64_t now_ns = home_.clock().monotonic_ns();
  uint64_t nonce = 0;
  if (!settled(found)) {
    if (same_version && now_ns - before->object_made_ns < kNonceLifeNs) {
      node->object = before->object;
      node->previous_object = before->previous_object;
      node->object_made_ns = before->object_made_ns;
      return;
    }
    while (nonce == 0) randombytes_buf(&nonce, sizeof nonce);
  }
  node->object = beneath_->object_id(found, nonce);
  node->object_made_ns = now_ns;
  if (same_version)
    node->previous_object = before->object == node->object ? before->previous_object : before->object;
}

shm::InodeInfo DirVolume::learn(const FoundInode& found, const shm::Handle& parent, const std::string& name) {
  Node node;
  node.parent = parent;
  node.name = name;
  node.version = found.version;
  if (S_ISREG(found.info.mode)) choose_object(found, nodes_.get(found.handle), &node);
  shm::InodeInfo info = found.info;
  info.object = node.object;
  nodes_.put(found.handle, std::move(node));
  info.data_set = place_of(*data_sets(), found.handle).tag;
  names_.put_inode(id_, info);
  return info;
}

io::Task<InodeAnswer> DirVolume::lookup(io::Reactor& caller, shm::Handle parent, std::string name) {
  if (!valid_name(name)) co_return InodeAnswer{failed(name.size() > NAME_MAX ? ENAMETOOLONG : EINVAL)};
  co_await home_.hop();
  InodeAnswer answer;
  const PathAnswer parent_path = path_of(parent);
  if (!parent_path.known) {
    answer.outcome = unknown_handle();
  } else {
    const uint64_t asked_at_ns = home_.clock().monotonic_ns();
    const FoundInode found =
        co_await pool_.run(home_, [&] { return beneath_->find_child(parent_path.path, parent, name); });
    if (found.error == 0) {
      answer.info = learn(found, parent, name);
      names_.put_name(id_, parent, name, found.handle, found.info.validated_at_ns);
    } else {
      answer.outcome = failed(found.error);
      if (found.error == ENOENT) names_.put_absent(id_, parent, name, asked_at_ns);
      if (found.error != ENOENT) names_.remove_name(id_, parent, name);
    }
  }
  co_await caller.hop();
  co_return answer;
}

io::Task<InodeAnswer> DirVolume::refresh(shm::Handle handle) {
  const PathAnswer path = path_of(handle);
  if (!path.known) co_return InodeAnswer{unknown_handle()};
  FoundInode found = co_await pool_.run(home_, [&] { return beneath_->find(path.path); });
  if (found.error != 0 || !(found.handle == handle)) {
    const int error = found.error != 0 ? found.error : ESTALE;
    // Unlinked or replaced at the source: still there for those who have it open.
    const auto* const open_file = open_files_.get(handle);
    if (open_file == nullptr) co_return InodeAnswer{failed(error)};
    const std::shared_ptr<origin::OpenFile> file = *open_file;
    found = co_await pool_.run(home_, [&] { return beneath_->inspect(file->fd.get()); });
    if (found.error != 0) co_return InodeAnswer{failed(error)};
    if (!(found.handle == handle)) co_return InodeAnswer{failed(ESTALE)};
  }
  const Node* const node = nodes_.get(handle);
  if (node == nullptr) co_return InodeAnswer{unknown_handle()};
  const Node where = *node;
  co_return InodeAnswer{Outcome{}, learn(found, where.parent, where.name)};
}

io::Task<InodeAnswer> DirVolume::attributes(io::Reactor& caller, shm::Handle handle) {
  co_await home_.hop();
  const InodeAnswer answer = co_await refresh(handle);
  co_await caller.hop();
  co_return answer;
}

io::Task<InodeAnswer> DirVolume::resolve(io::Reactor& caller, std::string path) {
  if (!valid_path(path)) co_return InodeAnswer{failed(EINVAL)};
  co_await home_.hop();
  const std::vector<FoundInode> found = co_await pool_.run(home_, [&] { return beneath_->walk(path); });
  InodeAnswer answer;
  shm::Handle parent;
  size_t begin = 0;
  for (size_t i = 0; i < found.size() && found[i].error == 0; ++i) {
    std::string name;
    if (i > 0) {
      const size_t end = std::min(path.find('/', begin), path.size());
      name = path.substr(begin, end - begin);
      begin = end + 1;
      names_.put_name(id_, parent, name, found[i].handle, found[i].info.validated_at_ns);
    }
    answer.info = learn(found[i], parent, name);
    parent = found[i].handle;
  }
  if (found.back().error != 0) answer.outcome = failed(found.back().error);
  co_await caller.hop();
  co_return answer;
}

io::Task<BytesAnswer> DirVolume::bytes_of(shm::Handle handle,
                                          std::function<Result<std::string>(const std::string& path)> call) {
  const PathAnswer path = path_of(handle);
  if (!path.known) co_return BytesAnswer{unknown_handle()};
  Result<std::string> bytes = co_await pool_.run(home_, [&] { return call(path.path); });
  if (!bytes.ok()) co_return BytesAnswer{failed(bytes.error_number())};
  co_return BytesAnswer{Outcome{}, std::move(bytes).value()};
}

io::Task<BytesAnswer> DirVolume::read_link(io::Reactor& caller, shm::Handle handle) {
  co_await home_.hop();
  std::function<Result<std::string>(const std::string&)> call = [this, handle](const std::string& path) {
    return beneath_->read_link(path, handle);
  };
  BytesAnswer answer = co_await bytes_of(handle, std::move(call));
  co_await caller.hop();
  co_return answer;
}

io::Task<BytesAnswer> DirVolume::get_xattr(io::Reactor& caller, shm::Handle handle, std::string name) {
  co_await home_.hop();
  std::function<Result<std::string>(const std::string&)> call =
      [this, handle, name](const std::string& path) { return beneath_->get_xattr(path, handle, name); };
  BytesAnswer answer = co_await bytes_of(handle, std::move(call));
  co_await caller.hop();
  co_return answer;
}

io::Task<BytesAnswer> DirVolume::list_xattrs(io::Reactor& caller, shm::Handle handle) {
  co_await home_.hop();
  std::function<Result<std::string>(const std::string&)> call = [this, handle](const std::string& path) {
    return beneath_->list_xattrs(path, handle);
  };
  BytesAnswer answer = co_await bytes_of(handle, std::move(call));
  co_await caller.hop();
  co_return answer;
}

io::Task<DirectoryAnswer> DirVolume::read_directory(io::Reactor& caller, shm::Handle handle, uint64_t cookie,
                                                    bool with_attributes, unsigned maximum_items) {
  co_await home_.hop();
  DirectoryAnswer answer;
  const PathAnswer path = path_of(handle);
  if (!path.known) {
    answer.outcome = unknown_handle();
  } else {
    const Result<Beneath::Listing> listing = co_await pool_.run(
        home_, [&] { return beneath_->list(path.path, handle, cookie, with_attributes, maximum_items); });
    if (!listing.ok()) {
      answer.outcome = failed(listing.error_number());
    } else {
      answer.end = listing->end;
      for (const Beneath::Entry& entry : listing->entries) {
        DirectoryItem item{entry.name, entry.ino, entry.next_cookie, entry.type, entry.inode.error == 0, {}};
        if (item.has_info) {
          item.info = learn(entry.inode, handle, entry.name);
          names_.put_name(id_, handle, entry.name, entry.inode.handle, entry.inode.info.validated_at_ns);
        }
        answer.items.push_back(std::move(item));
      }
    }
  }
  co_await caller.hop();
  co_return answer;
}

io::Task<StatisticsAnswer> DirVolume::statistics(io::Reactor& caller) {
  counter_.refresh();
  // A tree that is counted quickly is answered in full the first time.
  const uint64_t deadline_ns = caller.clock().monotonic_ns() + kStatisticsWaitNs;
  while (counter_.known().complete == 0 && caller.clock().monotonic_ns() < deadline_ns) {
    co_await caller.sleep_until(caller.clock().monotonic_ns() + kStatisticsPollNs);
  }
  co_return StatisticsAnswer{Outcome{}, counter_.known()};
}

TreeTotals DirVolume::tree_totals(const std::string& path) {
  TreeCounter* counter = &counter_;
  const std::lock_guard lock(directories_mutex_);
  if (!path.empty()) {
    const CountedDirectory* known = counted_directories_.get(path);
    if (known == nullptr) {
      Result<UniqueFd> fd = beneath_->open_directory(path);
      if (!fd.ok()) return {};
      auto made = std::make_unique<TreeCounter>([root = fd->get()] { return root; });
      known = counted_directories_.put(path, {std::move(fd).value(), std::move(made)});
    }
    counter = known->counter.get();
  }
  counter->refresh();
  const shm::VolumeStatistics statistics = counter->known();
  return {statistics.bytes, counter->regular_files(), statistics.complete != 0};
}

io::Task<origin::OpenedObject> DirVolume::open(io::Reactor& caller, shm::Handle handle, shm::ObjectId object,
                                               origin::Opener opener) {
  co_await home_.hop();
  origin::OpenedObject opened;
  const Node* node = nodes_.get(handle);
  const PathAnswer path = path_of(handle);
  if (node == nullptr || !path.known) {
    opened.outcome = unknown_handle();
  } else if (!(node->object == object || node->previous_object == object) || object.empty()) {
    opened.outcome = {.error = ESTALE, .changed = true};
  } else {
    if (opener == origin::Opener::kReader) opened.files_follow = streams_.note(node->parent, node->name);
    const origin::FileVersion version = node->version;
    std::shared_ptr<origin::OpenFile> file;
    if (const auto* const present = open_files_.get(handle)) file = *present;
    if (!file) {
      Result<std::shared_ptr<origin::OpenFile>> result =
          co_await pool_.run(home_, [&] { return beneath_->open_file(path.path, handle); });
      if (result.ok()) {
        file = std::move(result).value();
        open_files_.put(handle, file);
      } else {
        opened.outcome = failed(result.error_number());
      }
    }
    if (file) {
      // Whoever finds another version makes the volume look again, so that the next answer has the new object
      // id.
      auto on_changed = [this, handle] { home_.post([this, handle] { io::spawn(forget_version(handle)); }); };
      opened.reader = std::make_shared<origin::DirFileReader>(std::move(file), version, &origin_counters_,
                                                              std::move(on_changed));
      opened.data_set = place_of(*data_sets(), handle).tag;
    }
  }
  co_await caller.hop();
  co_return opened;
}

io::Task<void> DirVolume::forget_version(shm::Handle handle) {
  const InodeAnswer ignored = co_await refresh(handle);
  if (!ignored.outcome.ok()) names_.remove_inode(id_, handle);
}

}  // namespace cached::volume
