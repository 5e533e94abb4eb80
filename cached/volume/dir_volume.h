// DirVolume: a read-only view of a directory of any POSIX file system.
//
// What it owns, on shard 0's thread: the nodes (handle -> parent and name, current object id and version),
// bounded, least recently used forgotten; and the open files, bounded likewise. Neither is needed for
// correctness: a handle that was forgotten comes back by RESOLVE, a file is opened again. System calls run on
// the volume's own pool (beneath.h).
//
// Object ids. A settled file's id is a keyed hash of file system, inode, generation, size, mtime and ctime. A
// file whose ctime is younger than the settle time could change again within one tick of its clock and keep
// all of these, so it gets an id with a nonce, which is given for half a second and then never again: what is
// cached under it is found only by who asked within that time. ctime decides, since users cannot set it.
//
// Files that are read in the order of their directory (file_streams.h) are opened before they are asked for,
// many in one visit to the pool, and their blocks fetched by the read path.
//
// A file that is open here and was unlinked or replaced since is still read through its descriptor, as POSIX
// has it, for as long as the descriptor is kept.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "cached/config/config.h"
#include "cached/io/blocking_pool.h"
#include "cached/memory_tier/name_table.h"
#include "cached/volume/beneath.h"
#include "cached/volume/file_streams.h"
#include "cached/volume/lru_map.h"
#include "cached/volume/tree_counter.h"
#include "cached/volume/volume.h"

namespace cached::volume {

class DirVolume : public Volume {
 public:
  // `home` is shard 0's reactor, `names` the name table it owns; both outlive the volume.
  static Result<std::unique_ptr<DirVolume>> create(const VolumeConfig& config, uint16_t id,
                                                   const IdentityKey& key, io::Reactor& home,
                                                   memory_tier::NameTable& names);

  const std::string& name() const override { return config_.name; }
  const std::string& source() const override { return config_.source; }
  uint16_t id() const override { return id_; }
  InodeAnswer root(uint64_t snapshot) override;
  io::Task<InodeAnswer> lookup(io::Reactor& caller, shm::Handle parent, std::string name) override;
  io::Task<InodeAnswer> attributes(io::Reactor& caller, shm::Handle handle) override;
  io::Task<InodeAnswer> resolve(io::Reactor& caller, std::string path) override;
  io::Task<BytesAnswer> read_link(io::Reactor& caller, shm::Handle handle) override;
  io::Task<BytesAnswer> get_xattr(io::Reactor& caller, shm::Handle handle, std::string name) override;
  io::Task<BytesAnswer> list_xattrs(io::Reactor& caller, shm::Handle handle) override;
  io::Task<DirectoryAnswer> read_directory(io::Reactor& caller, shm::Handle handle, uint64_t cookie,
                                           bool with_attributes, unsigned maximum_items) override;
  io::Task<StatisticsAnswer> statistics(io::Reactor& caller) override;
  shm::VolumeStatistics known_statistics() const override { return counter_.known(); }
  io::Task<origin::OpenedObject> open(io::Reactor& caller, shm::Handle handle, shm::ObjectId object,
                                      origin::Opener opener) override;
  io::Task<std::vector<origin::FollowingFile>> files_ahead(io::Reactor& caller, shm::Handle handle) override;
  const origin::OriginCounters& origin_counters() const override { return origin_counters_; }
  TreeTotals tree_totals(const std::string& path) override;

 private:
  struct Node {
    shm::Handle parent;
    std::string name;  // empty for the root
    origin::FileVersion version;
    shm::ObjectId object;
    shm::ObjectId previous_object;  // of the same version: still readable
    uint64_t object_made_ns = 0;    // when `object` was first given
    DataSetMap::Place place;
    uint64_t place_generation = UINT64_MAX;  // of the map that `place` is of
  };
  static constexpr size_t kMaximumCountedDirectories = 1024;  // as many as there may be data sets
  struct PathAnswer {
    bool known = false;
    std::string path;
  };

  DirVolume(const VolumeConfig& config, uint16_t id, std::unique_ptr<Beneath> beneath, io::Reactor& home,
            memory_tier::NameTable& names);

  // The path of a handle from the nodes; unknown if a node on the way was forgotten.
  PathAnswer path_of(const shm::Handle& handle);
  // To which data set the inode belongs. `depth` bounds the way to the root.
  DataSetMap::Place place_of(const DataSetMap& map, const shm::Handle& handle, unsigned depth = 0);
  // Takes in what was found: object id, node, inode record. `parent` and `name` say where it was found.
  shm::InodeInfo learn(const FoundInode& found, const shm::Handle& parent, const std::string& name);
  // Whether the file could still change without its times telling.
  bool settled(const FoundInode& found) const;
  // Gives `node` the object id of what was found; `before` is what is on record for the inode, or null.
  void choose_object(const FoundInode& found, const Node* before, Node* node) const;
  io::Task<InodeAnswer> refresh(shm::Handle handle);
  // Reading ahead of files in order (dir_volume_ahead.cc). Gives `streams` the order of a directory's entries
  // of this type.
  io::Task<void> learn_order(FileStreams* streams, shm::Handle directory, std::string path,
                             unsigned char type);
  // Any thread of the pool.
  Result<std::shared_ptr<const FileOrder>> order_of(const std::string& path, const shm::Handle& directory,
                                                    unsigned char type) const;
  // Takes in what was opened ahead of a stream. Returns what is worth fetching of it.
  std::vector<origin::FollowingFile> take_in(std::vector<Beneath::OpenedChild> children,
                                             const shm::Handle& directory);
  io::Task<std::vector<origin::FollowingFile>> take_following(shm::Handle directory, std::string path);
  io::Task<std::vector<origin::FollowingFile>> take_all_following(shm::Handle directory);
  // The directory behind `directory`, where a stream came to its end, if directories are read in order too.
  io::Task<std::optional<shm::Handle>> enter_next_directory(shm::Handle directory);
  // A read found another version than the one on record: looks again, so that the name table tells it to
  // everybody.
  io::Task<void> forget_version(shm::Handle handle);
  io::Task<BytesAnswer> bytes_of(shm::Handle handle,
                                 std::function<Result<std::string>(const std::string& path)> call);

  const VolumeConfig config_;
  const uint16_t id_;
  std::unique_ptr<Beneath> beneath_;
  io::Reactor& home_;
  memory_tier::NameTable& names_;
  LruMap<shm::Handle, Node> nodes_;
  LruMap<shm::Handle, std::shared_ptr<origin::OpenFile>> open_files_;
  FileStreams streams_;
  FileStreams directory_streams_{{.shortest = 1, .longest = 1}};  // directories, as if they were files
  TreeCounter counter_;
  // Of directories that were asked for. The counter goes before the descriptor that it walks.
  struct CountedDirectory {
    UniqueFd fd;
    std::unique_ptr<TreeCounter> counter;
  };
  std::mutex directories_mutex_;  // guards counted_directories_
  LruMap<std::string, CountedDirectory> counted_directories_{kMaximumCountedDirectories};
  origin::OriginCounters origin_counters_;
  io::BlockingPool pool_;  // last: its threads use what stands above
};

}  // namespace cached::volume
