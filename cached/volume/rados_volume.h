// RadosVolume: a data set in RADOS, as a volume of the daemon.
//
// What it owns, on shard 0's thread: the head as last read, the snapshots in use with their readers, and the
// objects that were opened lately; all bounded. Metadata comes through a MetadataSource, which may be the
// node's cache (METADATA below) or the store.
//
// Handles. (import id, own directory number << 32 | entry number), so a handle says by itself which inode of
// which snapshot it means, after any restart and on any node, and no handle is ever unknown. Everything about
// it is immutable. The one exception is the handle kCurrentRoot: the root of whatever snapshot is current.
// Its answers, and those about names in it, are as old as the head was when it was read last, which is at
// most the time that the volume is given; that is how mounts follow the head. FORMAT.md says what follows
// from this.
//
// Metadata through the node's cache: a table is an object like any other. open() takes the ids of tables
// (is_metadata_object) with the handle metadata_handle(), so a MetadataSource can read them with ReadPath
// under this volume as Source.
//
// If the head cannot be read, the one that is known goes on to be used: whoever asks waits for a moment
// (head_patience_ns) and no longer, since what is cached must stay readable while the cluster hangs. At the
// start, when none is known, requests end with the store's error; root() waits for a moment too, and if that
// was in vain hardly at all until it is not, so that sessions of other volumes do not wait for a cluster that
// is away.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "cached/memory_tier/name_table.h"
#include "cached/origin/failure_log.h"
#include "cached/origin/object_store.h"
#include "cached/volume/dataset_reader.h"
#include "cached/volume/directory_totals.h"
#include "cached/volume/known_places.h"
#include "cached/volume/lru_map.h"
#include "cached/volume/name_streams.h"
#include "cached/volume/rados_object.h"
#include "cached/volume/volume.h"

namespace cached::volume {

class RadosVolume : public Volume {
 public:
  struct Options {
    std::string name;     // of the volume in the daemon
    std::string source;   // "rados:POOL/NAME"
    std::string dataset;  // NAME
    uint16_t id = 0;
    uint64_t head_age_ns = 1'000'000'000;       // the head is read again when it is older and asked for
    uint64_t head_patience_ns = 1'000'000'000;  // then the head that is known will do
    uint64_t root_wait_ns = 2'000'000'000;      // for which root() waits at most
    uint32_t origin_timeout_ms = 60'000;        // the store's
    size_t open_objects = 4096;
    size_t open_snapshots = 16;
  };
  static constexpr shm::Handle kCurrentRoot{0, uint64_t{kRootDirectory} << 32};
  // What open() wants with the id of a table of the snapshot of `import_id`.
  static shm::Handle metadata_handle(uint64_t import_id) { return {import_id, UINT64_MAX}; }

  // `home` is shard 0's reactor and `names` the name table it owns; both outlive the volume. `metadata`
  // belongs to `home`'s thread. EINVAL for a name that no data set can have.
  static Result<std::unique_ptr<RadosVolume>> create(const Options& options,
                                                     std::shared_ptr<origin::ObjectStore> store,
                                                     std::unique_ptr<MetadataSource> metadata,
                                                     io::Reactor& home, memory_tier::NameTable& names);

  const std::string& name() const override { return options_.name; }
  const std::string& source() const override { return options_.source; }
  uint16_t id() const override { return options_.id; }
  InodeAnswer root(uint64_t snapshot) override;
  io::Task<InodeAnswer> lookup(io::Reactor& caller, shm::Handle parent, std::string name) override;
  io::Task<InodeAnswer> attributes(io::Reactor& caller, shm::Handle handle) override;
  // From the current root.
  io::Task<InodeAnswer> resolve(io::Reactor& caller, std::string path) override;
  io::Task<BytesAnswer> read_link(io::Reactor& caller, shm::Handle handle) override;
  io::Task<BytesAnswer> get_xattr(io::Reactor& caller, shm::Handle handle, std::string name) override;
  io::Task<BytesAnswer> list_xattrs(io::Reactor& caller, shm::Handle handle) override;
  io::Task<DirectoryAnswer> read_directory(io::Reactor& caller, shm::Handle handle, uint64_t cookie,
                                           bool with_attributes, unsigned maximum_items) override;
  io::Task<StatisticsAnswer> statistics(io::Reactor& caller) override;
  shm::VolumeStatistics known_statistics() const override;
  io::Task<origin::OpenedObject> open(io::Reactor& caller, shm::Handle handle, shm::ObjectId object,
                                      origin::Opener opener) override;
  io::Task<std::vector<origin::FollowingObject>> following(io::Reactor& caller, shm::Handle handle,
                                                           shm::ObjectId object, unsigned count) override;
  const origin::OriginCounters& origin_counters() const override { return origin_counters_; }
  // If there is any, the head is asked for again, so that the next answer is a new one.
  std::string trouble() override;
  uint32_t answer_timeout_ms() const override;
  // Asks for the head in the background, so that what is missing is known before somebody mounts. Any thread;
  // the metadata source must be ready.
  void begin();
  // Of the whole data set as its head says; directories are not counted.
  TreeTotals tree_totals(const std::string& path) override;

 private:
  struct Snapshot {
    uint64_t number = 0;
    SnapshotRecord record;
    std::unique_ptr<SnapshotReader> reader;
    io::Event opened;  // `reader` is there, or `failure` says why not
    Status failure;
    LruMap<uint64_t, AttributeRecord> attributes{1024};
    LruMap<uint64_t, shm::ObjectId> objects{4096};  // ids by number
    // Data sets of what was looked up while directories of the volume were data sets: by entry number for
    // files, by locator (locator_of) for directories.
    KnownPlaces places{262'144};
    NameStreams name_streams;
  };
  using SnapshotPointer = std::shared_ptr<Snapshot>;
  // The head on its way.
  struct HeadReading {
    io::Event ended;
    io::Event enough;  // who has an older head waits no longer
  };
  // An inode that a handle led to.
  struct Found {
    Outcome outcome;
    SnapshotPointer snapshot = nullptr;
    uint32_t directory = 0;  // its own number, 0 if it is none
    uint64_t entry = 0;
    uint64_t validated_at_ns = 0;  // as of when the answer holds
    bool current_root = false;
  };

  RadosVolume(const Options& options, std::shared_ptr<origin::ObjectStore> store,
              std::unique_ptr<MetadataSource> metadata, io::Reactor& home, memory_tier::NameTable& names);

  // All of these on home's thread. The root of a named snapshot; ENOENT if there is none of that number.
  io::Task<InodeAnswer> snapshot_root(uint64_t number);
  // Reads the head if the one that is known is too old. Ok if any is known.
  io::Task<Status> follow(uint64_t maximum_age_ns);
  io::Task<void> ask_for_head(std::shared_ptr<HeadReading> reading);
  io::Task<void> end_patience(std::shared_ptr<HeadReading> reading);
  io::Task<Status> read_head();
  // Whether what the head does not name does not exist.
  bool head_is_fresh() const;
  io::Task<Result<SnapshotPointer>> open_snapshot(SnapshotMark mark);
  io::Task<Result<SnapshotRecord>> load_record(SnapshotMark mark);
  // The handle that clients have of a directory.
  static shm::Handle handle_of(const Found& directory);
  io::Task<Found> find(shm::Handle handle);
  io::Task<Result<Entry>> inode_at(Found where);
  io::Task<Result<shm::InodeInfo>> info_of(SnapshotPointer snapshot, Entry inode, uint64_t validated_at_ns);
  // The inode of `entry` as seen by whoever asks for names in `directory`; enters it into the name table.
  io::Task<InodeAnswer> learn(Found directory, Entry entry);
  io::Task<InodeAnswer> answer_for(Found where);
  // To which data set an inode belongs: what learn() noted, or the volume's own. The table of entries leads
  // from a directory to its entries and not back, so who comes with a handle from before a restart, and looks
  // nothing up, is counted for the volume.
  DataSetMap::Place place_of(Snapshot& snapshot, uint64_t locator) const;
  io::Task<InodeAnswer> lookup_in(Found parent, std::string name);
  // Enters what follows entry `number` of `parent` into the name table, if names are being looked up in their
  // order; later, so that whoever asked for that one has the answer first.
  void learn_ahead(const Found& parent, uint64_t number);
  io::Task<Result<std::vector<Xattr>>> xattrs_of(shm::Handle handle);
  io::Task<DirectoryAnswer> list(Found directory, uint64_t cookie, bool with_attributes,
                                 unsigned maximum_items);
  io::Task<origin::OpenedObject> open_here(shm::Handle handle, shm::ObjectId object);
  // A reader of the object `record` of the snapshot.
  io::Task<Result<std::shared_ptr<origin::ObjectReader>>> open_record(SnapshotPointer snapshot,
                                                                      ObjectRecord record);
  io::Task<std::vector<origin::FollowingObject>> following_here(shm::Handle handle, shm::ObjectId object,
                                                                unsigned count);
  Outcome failed(const Status& status);
  void note_trouble(const Status& status);
  // Counts what lies below a directory of the current snapshot, a batch of entries at a time.
  io::Task<void> count_directory(std::string path);
  io::Task<Result<TreeTotals>> count_below(Found directory);

  const Options options_;
  const std::shared_ptr<origin::ObjectStore> store_;
  const std::unique_ptr<MetadataSource> metadata_;
  io::Reactor& home_;
  memory_tier::NameTable& names_;
  origin::OriginCounters origin_counters_;
  RadosObject::Context context_;

  Head head_;
  bool head_known_ = false;
  uint64_t head_read_at_ns_ = 0;
  std::shared_ptr<HeadReading> head_reading_;  // while it is being read
  Status head_status_;                         // of the last attempt
  SnapshotPointer current_;
  LruMap<uint64_t, SnapshotPointer> snapshots_;  // by import id
  LruMap<shm::ObjectId, std::shared_ptr<origin::ObjectReader>> objects_;
  std::atomic<bool> root_in_vain_{false};  // the last root() waited without an answer

  DirectoryTotals directory_totals_;  // by import id

  mutable std::mutex mutex_;  // guards all below, which any thread may ask for
  shm::VolumeStatistics statistics_;
  uint64_t current_import_ = 0;  // 0: there was none yet
  std::string trouble_;
};

}  // namespace cached::volume
