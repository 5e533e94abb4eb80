// A volume: a namespace (handles, names, attributes) and the origin of its objects, behind one interface for
// all kinds.
//
// Calls are coroutines that may be made from any shard; a volume runs them on its metadata shard (shard 0),
// which is also the one writer of the name table, and returns to the caller's reactor. Answers enter the name
// table on the way.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cached/io/reactor.h"
#include "cached/io/task.h"
#include "cached/origin/dir_file.h"
#include "cached/origin/source.h"
#include "cached/volume/data_set_map.h"
#include "shm/file_map.h"
#include "shm/notice.h"
#include "shm/types.h"

namespace cached::volume {

using origin::Outcome;

struct InodeAnswer {
  Outcome outcome;
  shm::InodeInfo info = {};
};

struct BytesAnswer {
  Outcome outcome;
  std::string bytes = {};
};

struct DirectoryItem {
  std::string name;
  uint64_t ino = 0;
  uint64_t next_cookie = 0;
  uint8_t type = 0;  // DT_*
  bool has_info = false;
  shm::InodeInfo info = {};
};

struct DirectoryAnswer {
  Outcome outcome;
  std::vector<DirectoryItem> items = {};
  bool end = false;
};

struct StatisticsAnswer {
  Outcome outcome;
  shm::VolumeStatistics statistics = {};
};

struct MapAnswer {
  Outcome outcome;
  std::vector<shm::MapPiece> pieces = {};
};

// What lies below a directory at the origin.
struct TreeTotals {
  uint64_t bytes = 0;
  uint64_t files = 0;    // regular ones
  bool counted = false;  // false: nothing is known, or the first count is still going on
};

class Volume : public origin::Source {
 public:
  // Immutable for the volume's life; any thread.
  virtual const std::string& name() const = 0;
  virtual const std::string& source() const = 0;
  virtual uint16_t id() const = 0;

  // The root of a snapshot, or (0) of the volume as it is now and will be. Blocking, for ever if the source
  // hangs; called once for each new session, on a thread for this (server/greeter.h). EINVAL: the volume has
  // no snapshots; ENOENT: not that one.
  virtual InodeAnswer root(uint64_t snapshot) = 0;

  virtual io::Task<InodeAnswer> lookup(io::Reactor& caller, shm::Handle parent, std::string name) = 0;
  virtual io::Task<InodeAnswer> attributes(io::Reactor& caller, shm::Handle handle) = 0;
  // Walks `path` ("a/b/c", empty for the root) and makes every inode on it known.
  virtual io::Task<InodeAnswer> resolve(io::Reactor& caller, std::string path) = 0;
  virtual io::Task<BytesAnswer> read_link(io::Reactor& caller, shm::Handle handle) = 0;
  virtual io::Task<BytesAnswer> get_xattr(io::Reactor& caller, shm::Handle handle, std::string name) = 0;
  virtual io::Task<BytesAnswer> list_xattrs(io::Reactor& caller, shm::Handle handle) = 0;
  // Entries from `cookie` on, without "." and "..": at most `maximum_items`.
  virtual io::Task<DirectoryAnswer> read_directory(io::Reactor& caller, shm::Handle handle, uint64_t cookie,
                                                   bool with_attributes, unsigned maximum_items) = 0;
  // Pieces of the map of a kMap file, from the one that covers `offset` on. ESTALE with `changed` if the file
  // has another version. Volumes whose files are one object each have no maps.
  virtual io::Task<MapAnswer> file_map(io::Reactor& caller, shm::Handle handle, shm::ObjectId version,
                                       uint64_t offset);
  // Bytes and files of the data set. Any thread that runs coroutines.
  virtual io::Task<StatisticsAnswer> statistics(io::Reactor& caller) = 0;
  // What is known of them now, without waiting. Any thread.
  virtual shm::VolumeStatistics known_statistics() const = 0;

  virtual const origin::OriginCounters& origin_counters() const = 0;

  // Whether it learns of changes at the source, and tells them through the function given here: records that
  // were answered before and are not right any more. Set and called on shard 0's thread.
  using TellChanges = std::function<void(const std::vector<shm::Notice>&)>;
  virtual bool tells_changes() const { return false; }
  void set_tell_changes(TellChanges tell) { tell_changes_ = std::move(tell); }

  // What keeps the volume from being used now, one line for the operator; empty when nothing does. Any
  // thread.
  virtual std::string trouble() { return {}; }
  // The longest that a request may take because the source does not answer; 0: nothing that clients have to
  // wait longer for than they do for the daemon. Immutable; any thread.
  virtual uint32_t answer_timeout_ms() const { return 0; }
  // What a request may take beside the source's own time.
  static constexpr uint32_t kAnswerSlackMs = 10'000;
  // What lies below the directory `path` (empty: the root), as counted last. Asking begins a count in the
  // background if there is none or it is old. Any thread; may block for a call at the origin.
  // Kinds that cannot count say so.
  virtual TreeTotals tree_totals(const std::string& path) {
    static_cast<void>(path);
    return {};
  }

  // Which of its places belong to which data set, from now on. Any thread.
  void set_data_sets(std::shared_ptr<const DataSetMap> map) { data_sets_.store(std::move(map)); }
  std::shared_ptr<const DataSetMap> data_sets() const { return data_sets_.load(); }

 protected:
  void tell_changes(const std::vector<shm::Notice>& notices) {
    if (tell_changes_ && !notices.empty()) tell_changes_(notices);
  }

 private:
  TellChanges tell_changes_;
  std::atomic<std::shared_ptr<const DataSetMap>> data_sets_{std::make_shared<const DataSetMap>()};
};

inline io::Task<MapAnswer> Volume::file_map(io::Reactor&, shm::Handle, shm::ObjectId, uint64_t) {
  co_return MapAnswer{Outcome{.error = EINVAL}};
}

}  // namespace cached::volume
