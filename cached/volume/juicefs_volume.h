// JuicefsVolume: an existing JuiceFS volume, read from its Redis and from the store of its blocks.
//
// Handles. (a hash of the volume's UUID, inode number): they mean the same inode on every node for ever, and
// none is unknown. JuiceFS never gives an inode number twice.
//
// Objects are slices (juicefs_format.h): immutable, whatever becomes of the files that show them, so what is
// cached stays valid across everything. A file that lies in one slice is that slice's object. Every other
// file has a map, asked for by version, which is made of length, mtime and ctime to the nanosecond; JuiceFS
// changes ctime with each change of the bytes. Compaction changes a map and not the version: whoever reads a
// block that is gone is told that the object changed, and finds the new map. If the map still names it, the
// block is lost and the read is EIO.
//
// Metadata. Each question is one script (juicefs_scripts.h), one round trip. Listings are read in batches
// with attributes, which enter the name table; a directory in which names are looked up one by one is read in
// the background, as a whole, as soon as that costs less. A listing's cookies are hashes of names, so it can
// be read again from Redis at any time and go on where it was.
//
// Freshness. Records live for their readers' time-outs, and less if Redis tells changes (juicefs_known.h).
//
// A server at the address that has another volume than the first time is refused. Damaged metadata is EIO and
// a line in the log.
//
// Everything happens on shard 0's thread, but for the two hooks of the Redis client, which post there.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cached/memory_tier/name_table.h"
#include "cached/origin/failure_log.h"
#include "cached/origin/redis_client.h"
#include "cached/volume/directory_totals.h"
#include "cached/volume/file_streams.h"
#include "cached/volume/juicefs_known.h"
#include "cached/volume/juicefs_object.h"
#include "cached/volume/juicefs_scripts.h"
#include "cached/volume/known_places.h"
#include "cached/volume/lru_map.h"
#include "cached/volume/volume.h"

namespace cached::volume {

class JuicefsVolume : public Volume, public MissingBlocks {
 public:
  // Opens the store that a setting names, once it is known. Called on the Redis client's thread.
  using OpenStore = std::function<Result<std::shared_ptr<origin::BlockStore>>(const juicefs::Setting&)>;
  struct Options {
    std::string name;    // of the volume in the daemon
    std::string source;  // as configured
    uint16_t id = 0;
    origin::RedisOptions redis;  // where; the volume fills in what to ask
    uint64_t metadata_timeout_ns = 25'000'000'000;
    uint32_t origin_timeout_ms = 60'000;    // of a block's read
    uint64_t root_wait_ns = 2'000'000'000;  // for which root() waits at most
    size_t known_inodes = 1'000'000;
  };
  // `home` is shard 0's reactor and `names` the name table it owns; both outlive the volume.
  JuicefsVolume(const Options& options, OpenStore open_store, io::Reactor& home,
                memory_tier::NameTable& names);
  ~JuicefsVolume() override;

  const std::string& name() const override { return options_.name; }
  const std::string& source() const override { return options_.source; }
  uint16_t id() const override { return options_.id; }
  InodeAnswer root(uint64_t snapshot) override;
  io::Task<InodeAnswer> lookup(io::Reactor& caller, shm::Handle parent, std::string name) override;
  io::Task<InodeAnswer> attributes(io::Reactor& caller, shm::Handle handle) override;
  io::Task<InodeAnswer> resolve(io::Reactor& caller, std::string path) override;
  io::Task<BytesAnswer> read_link(io::Reactor& caller, shm::Handle handle) override;
  io::Task<BytesAnswer> get_xattr(io::Reactor& caller, shm::Handle handle, std::string name) override;
  io::Task<BytesAnswer> list_xattrs(io::Reactor& caller, shm::Handle handle) override;
  io::Task<DirectoryAnswer> read_directory(io::Reactor& caller, shm::Handle handle, uint64_t cookie,
                                           bool with_attributes, unsigned maximum_items) override;
  io::Task<MapAnswer> file_map(io::Reactor& caller, shm::Handle handle, shm::ObjectId version,
                               uint64_t offset) override;
  io::Task<StatisticsAnswer> statistics(io::Reactor& caller) override;
  shm::VolumeStatistics known_statistics() const override;
  // Of the whole volume, as JuiceFS counts: space in units of 4 KiB, directories among the files. Of a
  // directory, what JuiceFS's statistics of directories say, asked for at most once an hour.
  TreeTotals tree_totals(const std::string& path) override;
  io::Task<origin::OpenedObject> open(io::Reactor& caller, shm::Handle handle, shm::ObjectId object,
                                      origin::Opener opener) override;
  io::Task<std::vector<origin::FollowingFile>> files_ahead(io::Reactor& caller, shm::Handle handle) override;
  const origin::OriginCounters& origin_counters() const override { return origin_counters_; }
  // Why the volume cannot be used, one line; empty when it can. Any thread.
  std::string trouble() override;
  uint32_t answer_timeout_ms() const override;
  bool tells_changes() const override { return options_.redis.tracking; }
  const origin::RedisClient::Counters& redis_counters() const { return redis_->counters(); }

 private:
  using Reply = origin::RedisReply;
  struct ListedName {
    uint64_t cookie = 0;
    std::string name;
    juicefs::DirectoryEntry entry;
  };
  // A directory as it was at one moment, in the order of cookies.
  struct Listing {
    uint64_t asked_at_ns = 0;
    std::vector<ListedName> names;
  };
  // What is known of how a directory is used.
  struct Use {
    uint64_t lookups = 0;  // since it was loaded last
    uint64_t entries = 0;  // that it had at the last of them
    bool loading = false;
  };
  struct Maps {
    shm::ObjectId version;
    std::unordered_map<uint64_t, std::shared_ptr<const shm::MapRun>> runs;  // by number
  };
  struct SliceOf {
    uint64_t ino = 0;
    uint64_t slice = 0;
    friend bool operator==(const SliceOf&, const SliceOf&) = default;
  };
  struct SliceOfHash {
    size_t operator()(const SliceOf& key) const { return key.ino * 0x9E3779B97F4A7C15ULL ^ key.slice; }
  };
  // Where a small file was found by name.
  struct NamedFile {
    uint64_t directory = 0;
    std::string name;
  };
  // A slice of which a block was missing.
  struct Gone {
    uint64_t reported_at_ns = 0;
    bool still_named = false;  // by metadata that was asked for since
  };

  // The Redis client's thread.
  Status accept(const Reply& setting);
  void keys_changed(const std::vector<std::string>& keys);
  shm::Notice notice(shm::NoticeKind kind, uint64_t ino) const;

  // home's thread. Waits until the volume is known, for as long as a request may wait.
  io::Task<bool> ready();
  io::Task<Result<Reply>> ask(juicefs::Script script, std::vector<std::string> arguments);
  uint64_t now_ns() const { return home_.clock().monotonic_ns(); }
  // The inode of a handle of this volume, or 0.
  uint64_t ino_of(const shm::Handle& handle) const;
  Outcome damaged(uint64_t ino, const std::string& why);
  // Where an inode was found: by this name in that directory; 0: by its number.
  struct FoundIn {
    uint64_t directory = 0;
    std::string_view name = {};
  };
  // Takes in an inode as `inode()` of the scripts answered it.
  Result<shm::InodeInfo> learn(uint64_t ino, const FoundIn& where, const Reply& attributes,
                               const Reply& slices, const Reply& xattrs, uint64_t asked_at_ns);
  // The tag of the data set that the inode belongs to; remembers where a directory is.
  uint16_t data_set_of(uint64_t ino, const FoundIn& where, const Reply& attributes, bool is_directory);
  DataSetMap::Place place_of_directory(const DataSetMap& map, uint64_t ino);
  io::Task<void> refresh_statistics();
  io::Task<void> count_directory(std::string path, uint64_t state);
  // Adds what lies in a directory itself, and its directories to `directories`.
  io::Task<Status> count_in(uint64_t directory, TreeTotals* totals, std::vector<uint64_t>* directories);
  io::Task<Result<TreeTotals>> count_below(std::string path);
  Status check_child(const juicefs::DirectoryEntry& entry, uint64_t parent, const Reply& attributes) const;
  io::Task<InodeAnswer> lookup_in(uint64_t parent, std::string name);
  io::Task<InodeAnswer> attributes_of(uint64_t ino);
  io::Task<InodeAnswer> walk(std::string path);
  void note_lookup(uint64_t parent, uint64_t entries);
  io::Task<void> load(uint64_t directory);
  io::Task<Result<std::shared_ptr<const Listing>>> scan(uint64_t directory, bool with_attributes);
  Status take_scanned(uint64_t directory, const Reply& reply, bool with_attributes, Listing* listing);
  io::Task<DirectoryAnswer> list(uint64_t directory, uint64_t cookie, bool with_attributes,
                                 unsigned maximum_items);
  io::Task<Status> add_attributes(uint64_t directory, uint64_t asked_after_ns,
                                  std::vector<DirectoryItem>* items);
  io::Task<Result<std::shared_ptr<const shm::MapRun>>> map_run(uint64_t ino, shm::ObjectId version,
                                                               uint64_t number);
  Result<shm::MapRun> merge_run(uint64_t ino, const Reply& reply, uint64_t length, uint64_t first_chunk,
                                uint64_t asked_at_ns);
  void note_named(uint64_t ino, const shm::ObjectId& object, uint64_t asked_at_ns);
  // Sees whether files of its directory are read in order.
  bool files_follow(uint64_t ino);
  io::Task<void> learn_order(uint64_t directory);
  // What the name table knows of a small file that lies in one slice.
  std::optional<origin::FollowingFile> small_file(uint64_t directory, const std::string& name);
  io::Task<Outcome> missing_block(io::Reactor& reactor, shm::Handle handle,
                                  juicefs::SliceName slice) override;
  io::Task<BytesAnswer> xattr_of(uint64_t ino, std::string name);
  io::Task<BytesAnswer> xattr_names(uint64_t ino);
  io::Task<BytesAnswer> target_of(uint64_t ino);
  std::shared_ptr<JuicefsObject::Context> context() const;

  const Options options_;
  const OpenStore open_store_;
  io::Reactor& home_;
  memory_tier::NameTable& names_;
  origin::OriginCounters origin_counters_;
  const std::shared_ptr<origin::FailureLog> log_;

  // home's thread:
  uint64_t tag_ = 0;  // what handles begin with; 0: not known yet
  std::unique_ptr<JuicefsKnown> known_;
  JuicefsKnown::Notices notices_;
  LruMap<uint64_t, std::shared_ptr<const Listing>> listings_{64};
  LruMap<uint64_t, Use> uses_{65'536};
  KnownPlaces places_{65'536};  // of directories
  bool refreshing_statistics_ = false;
  LruMap<uint64_t, Maps> maps_{4'096};
  FileStreams streams_;
  LruMap<uint64_t, NamedFile> named_files_{65'536};  // by inode
  LruMap<SliceOf, Gone, SliceOfHash> gone_{4'096};

  mutable std::mutex mutex_;  // guards all below, for any thread
  std::string uuid_;
  std::string refusal_;  // why this volume can never be read
  std::shared_ptr<JuicefsObject::Context> context_;
  shm::VolumeStatistics statistics_;

  DirectoryTotals directory_totals_;  // by the hour

  std::unique_ptr<origin::RedisClient> redis_;  // last: its thread uses what stands above
};

}  // namespace cached::volume
