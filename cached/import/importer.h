// Importer: packs a directory into a volume and publishes it as a snapshot.
//
// It runs in the process of whoever asked (cachedctl), not in the daemon: a slow or hanging source, a full
// pool or a crash then touches no reader, the source is read with the rights of who asked, and an import can
// run on another machine than those that read.
//
// How it runs. The caller's thread walks the tree breadth first, in order, and is the only one that writes
// tables. Ahead of it, scan threads list directories and examine inodes; behind it, data threads read files,
// make packs and store pieces, one each at a time and blocking, which keeps as many requests in flight as
// there are threads. Items leave the queue in order, when their content is stored. What bounds memory: the
// queue of items, the pools' queues, one buffer of 4 MiB a data thread.
//
// What is not stored again: files whose version (device, inode, size, mtime, ctime) the base snapshot has
// under the same path, and what the journals of interrupted imports have. A directory that was renamed is
// stored again.
//
// A file is read between two looks at its inode; if they differ it is read again, three times at most. What
// changes all the time, vanishes or cannot be read is named in the report, and then nothing is published:
// what was stored stays noted, so that the next run has little to do.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "cached/import/journal.h"
#include "cached/import/snapshot_access.h"
#include "cached/import/snapshot_builder.h"
#include "cached/import/source_tree.h"
#include "cached/import/worker_pool.h"
#include "cached/origin/object_store.h"
#include "cached/volume/dataset_layout.h"
#include "cached/volume/lru_map.h"
#include "cached/volume/tree_counter.h"

namespace cached::import {

struct ImportOptions {
  std::string directory;
  std::string volume;
  unsigned scan_threads = 8;
  unsigned data_threads = 16;
  // A file that changed less than this ago is imported, and read again by the next import.
  int64_t settle_ns = 2'000'000'000;
};

// How far an import is; any thread, any time.
struct ImportProgress {
  uint64_t files = 0;  // names in the snapshot so far
  uint64_t bytes = 0;  // of regular files, stored or found stored
  uint64_t total_files = 0;
  uint64_t total_bytes = 0;
  bool total_known = false;  // the totals are counted alongside, and grow until then
  bool publishing = false;
};

struct ImportReport {
  uint64_t snapshot = 0;  // 0: not published
  volume::SnapshotRecord record;
  uint64_t reused_files = 0;
  uint64_t reused_bytes = 0;
  uint64_t stored_bytes = 0;  // data written by this import
  uint64_t resumed_imports = 0;
  std::vector<std::string> problems;  // what changed or could not be read; at most kMaximumProblems
  uint64_t problem_count = 0;
};
inline constexpr size_t kMaximumProblems = 100;

class Importer {
 public:
  Importer(std::shared_ptr<origin::ObjectStore> store, ImportOptions options);
  ~Importer();

  // Imports and publishes. An error means that nothing was published: ECANCELED after stop() or when another
  // import published meanwhile, ENOSPC for a full pool, EAGAIN if there were problems (see report()), others
  // as they come. All of them are resumed by the next import. Once.
  Status run();
  // Valid after run(), whatever its end.
  const ImportReport& report() const { return report_; }
  ImportProgress progress() const;
  // Makes run() end soon. Any thread, and signal handlers.
  void stop() { stopping_ = true; }

 private:
  struct Item;
  struct Pack;
  struct LargeFile;
  struct Scan;
  struct PendingDirectory {
    std::string path;
    uint32_t number = 0;
    uint64_t device = 0;
    uint64_t inode = 0;
    uint32_t base_number = 0;  // of the same path in the base, 0: not there
  };
  // The entries of a directory of the base, met in order of name.
  class BaseCursor;

  Status prepare();
  Status take_over(const volume::Head& head);
  Status walk();
  Status finish();
  Status publish(const volume::SnapshotRecord& record);
  void clean_up();

  void start_scans();
  void scan(const std::shared_ptr<Scan>& scan) const;
  void scan_names(Scan* scan, size_t begin, size_t end) const;
  Status walk_directory(const std::shared_ptr<Scan>& scan);
  Status add_root();
  Status add_item(const PendingDirectory& directory, const std::string& name, SourceInode inode,
                  BaseCursor* base);
  Status add_content(Item* item, BaseCursor* base);
  bool reuse_base(Item* item, BaseCursor* base);
  // An object of the base; null, with a warning, if the base is damaged there.
  std::shared_ptr<const StoredObject> base_object(uint64_t number);
  void warn_of_base(const Status& status);
  bool reuse_journal(Item* item);

  void add_to_pack(Item* item);
  void send_pack();
  void store_pack(Pack* pack);
  Result<uint64_t> read_packed(Item* item, std::byte* buffer, uint64_t room);
  Status start_large(Item* item, std::shared_ptr<JournalContent::Object> known);
  void store_piece(LargeFile* file, uint64_t piece);
  Status settle_large(Item* item);

  Status emit_some();
  Status emit_front();

  void problem(const std::string& path, const std::string& what);
  void fail(const Status& status);
  Status failure();
  shm::ObjectId new_object_id() { return {import_id_, next_counter_.fetch_add(1)}; }

  const std::shared_ptr<origin::ObjectStore> store_;
  const ImportOptions options_;
  const uint64_t import_id_;
  int64_t started_at_ns_ = 0;
  ImportReport report_;
  std::unique_ptr<SourceTree> tree_;
  std::unique_ptr<volume::TreeCounter> counter_;
  std::atomic<const volume::TreeCounter*> counting_{nullptr};  // counter_, for progress()

  volume::Head head_;  // as of the registration
  std::unique_ptr<SnapshotAccess> base_;
  volume::LruMap<uint64_t, std::shared_ptr<const StoredObject>> base_objects_{64};  // by number in the base
  bool base_warned_ = false;
  std::vector<uint64_t> resumed_;  // imports whose work is continued
  JournalContent found_;
  std::unique_ptr<JournalWriter> journal_;
  std::unique_ptr<SnapshotBuilder> builder_;

  std::deque<PendingDirectory> pending_;
  std::deque<std::shared_ptr<Scan>> scans_;
  uint32_t next_directory_ = volume::kRootDirectory + 1;
  std::deque<std::unique_ptr<Item>> items_;
  std::shared_ptr<Pack> pack_;  // being planned
  // Hard links: (device, inode) -> entry of the first name, 0 until it has one.
  std::map<std::pair<uint64_t, uint64_t>, uint64_t> links_;

  std::atomic<uint64_t> next_counter_{1};
  std::atomic<uint64_t> files_{0};
  std::atomic<uint64_t> bytes_{0};
  std::atomic<uint64_t> stored_bytes_{0};
  std::atomic<bool> publishing_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;  // guards failure_ and the report's problems
  Status failure_;
  // Last: their threads use what stands above.
  std::unique_ptr<WorkerPool> scan_pool_;
  std::unique_ptr<WorkerPool> data_pool_;
};

}  // namespace cached::import
