// Removing snapshots, orphans and volumes: see collector.h.
#include "cached/import/collector.h"

#include <algorithm>
#include <mutex>

#include "base/clock.h"
#include "base/log.h"
#include "cached/import/journal.h"
#include "cached/import/snapshot_access.h"
#include "cached/import/volume_head.h"

namespace cached::import {
namespace {

using StorePointer = std::shared_ptr<origin::ObjectStore>;
using ObjectSet = std::unordered_set<shm::ObjectId>;

constexpr unsigned kRemovalsInFlight = 32;

// Removals in flight, counted; the first error stays. What is not there is removed already.
class Remover {
 public:
  explicit Remover(origin::ObjectStore& store) : store_(store), window_(kRemovalsInFlight) {}
  void remove(origin::ObjectName name) {
    window_.start(store_.remove(std::move(name)), origin::Done<void>([this](const Status& status) {
                    const std::lock_guard lock(mutex_);
                    if (status.ok()) ++removed_;
                    if (!status.ok() && status.error_number() != ENOENT && status_.ok()) status_ = status;
                  }));
  }
  Status finish() {
    window_.drain();
    const std::lock_guard lock(mutex_);
    return status_;
  }
  uint64_t removed() {
    const std::lock_guard lock(mutex_);
    return removed_;
  }

 private:
  origin::ObjectStore& store_;
  std::mutex mutex_;
  Status status_;
  uint64_t removed_ = 0;
  origin::CallWindow window_;  // last: its end waits for calls that use what stands above
};

bool is_due(const volume::SnapshotMark& mark, int64_t now_ns) {
  return mark.delete_at_ns != 0 && mark.delete_at_ns <= now_ns;
}

// Adds the data objects of a snapshot.
Status add_objects(const StorePointer& store, const std::string& volume, const volume::SnapshotMark& mark,
                   ObjectSet* objects) {
  const Result<std::unique_ptr<SnapshotAccess>> snapshot = SnapshotAccess::open(store, volume, mark);
  if (!snapshot.ok()) return snapshot.status();
  return (*snapshot)->for_each_object([&](const volume::ObjectRecord& record) {
    objects->insert(record.id);
    return Status();
  });
}

Status remove_data(SnapshotAccess* snapshot, const std::string& volume, const ObjectSet& live,
                   Remover* remover) {
  CACHED_RETURN_IF_ERROR(snapshot->for_each_object([&](const volume::ObjectRecord& record) {
    if (live.contains(record.id)) return Status();
    const Result<volume::ObjectLayout> layout = snapshot->layout(record);
    if (!layout.ok()) return layout.status();
    layout->for_each_piece([&](uint64_t piece) {
      remover->remove(volume::piece_name(volume, record.id, piece));
      return true;
    });
    return Status();
  }));
  return remover->finish();
}

Status remove_tables(origin::ObjectStore& store, const std::string& volume, const volume::SnapshotMark& mark,
                     Remover* remover) {
  // Without a record there are no tables any more: it goes last.
  const Result<volume::SnapshotRecord> record = load_snapshot(store, volume, mark);
  if (record.ok()) {
    for (const volume::TablePlace& place : record->tables) {
      for (uint64_t piece = 0; piece * volume::kPieceBytes < place.pages * volume::kPageBytes; ++piece) {
        remover->remove(volume::piece_name(volume, place.object, piece));
      }
    }
    CACHED_RETURN_IF_ERROR(remover->finish());
  }
  remover->remove(volume::snapshot_name(volume, mark.import_id));
  return remover->finish();
}

Status remove_due(const StorePointer& store, const std::string& volume, const volume::SnapshotMark& mark,
                  const ObjectSet& live, CollectReport* report) {
  Remover remover(*store);
  const Result<std::unique_ptr<SnapshotAccess>> snapshot = SnapshotAccess::open(store, volume, mark);
  Status status = snapshot.ok() ? remove_data(snapshot->get(), volume, live, &remover) : snapshot.status();
  // Damage: an earlier attempt has removed some of the tables, and its data before them; or bytes were lost,
  // then the data is found as orphans.
  if (status.error_number() == EIO || status.error_number() == ENOENT) {
    log_warning(
        "snapshot {} of volume {} cannot be read any more ({}); cachedctl volume collect --orphans "
        "finds what it may have left",
        mark.number, volume, status.message());
    status = Status();
  }
  CACHED_RETURN_IF_ERROR(status);
  CACHED_RETURN_IF_ERROR(remove_tables(*store, volume, mark, &remover));
  CACHED_RETURN_IF_ERROR(update_head(*store, volume, [&](volume::Head* head) {
    std::erase_if(head->snapshots, [&](const volume::SnapshotMark& other) {
      return other.number == mark.number && other.delete_at_ns != 0;
    });
    return Status();
  }));
  ++report->snapshots;
  report->objects += remover.removed();
  return Status();
}

Status forget_imports(origin::ObjectStore& store, const std::string& volume) {
  const Result<volume::Head> before = load_head(store, volume);
  if (!before.ok()) return before.status();
  std::vector<uint64_t> dead;
  for (const volume::ImportMark& mark : before->imports) {
    const Result<ImportOwner> owner = load_owner(store, volume, mark.id);
    if (!owner.ok() && owner.error_number() != ENOENT) return owner.status();
    if (!owner.ok() || !owner->alive(system_clock().realtime_ns())) dead.push_back(mark.id);
  }
  if (dead.empty()) return Status();
  return update_head(store, volume, [&](volume::Head* head) {
    std::erase_if(head->imports, [&](const volume::ImportMark& mark) {
      return std::find(dead.begin(), dead.end(), mark.id) != dead.end();
    });
    return Status();
  });
}

// What a head says about objects: see collector.h.
class Census {
 public:
  static Result<Census> take(const StorePointer& store, const std::string& volume) {
    const Result<volume::Head> head = load_head(*store, volume);
    if (!head.ok()) return head.status();
    Census census;
    const int64_t now_ns = system_clock().realtime_ns();
    for (const volume::SnapshotMark& mark : head->snapshots) {
      census.snapshots_.insert(mark.import_id);
      const Status added = add_objects(store, volume, mark, &census.objects_);
      // Of one that is being removed some tables may be gone, and its data with them.
      if (!added.ok() && !is_due(mark, now_ns)) return added;
    }
    for (const volume::ImportMark& mark : head->imports) census.imports_.insert(mark.id);
    return census;
  }
  bool is_orphan(const volume::ParsedName& name) const {
    using Kind = volume::ParsedName::Kind;
    if (name.kind == Kind::kForeign || name.kind == Kind::kHead || imports_.contains(name.import_id))
      return false;
    if (name.kind == Kind::kPiece && !volume::is_metadata_object(name.object))
      return !objects_.contains(name.object);
    if (name.kind == Kind::kPiece || name.kind == Kind::kSnapshot)
      return !snapshots_.contains(name.import_id);
    return true;
  }

 private:
  std::unordered_set<uint64_t> snapshots_;
  std::unordered_set<uint64_t> imports_;
  ObjectSet objects_;
};

}  // namespace

Status mark_snapshot(origin::ObjectStore& store, const std::string& volume, uint64_t number,
                     int64_t delete_at_ns) {
  return update_head(store, volume, [&](volume::Head* head) {
    volume::SnapshotMark* const mark = head->find_snapshot(number);
    if (mark == nullptr) {
      return Status(ENOENT, "volume " + volume + " has no snapshot " + std::to_string(number) +
                                "; cachedctl volume snapshots lists those that it has");
    }
    if (head->current == number) {
      return Status(EBUSY, "snapshot " + std::to_string(number) + " is the current one of volume " + volume +
                               "; import another one first, or destroy the volume");
    }
    if (mark->delete_at_ns == 0 || mark->delete_at_ns > delete_at_ns) mark->delete_at_ns = delete_at_ns;
    return Status();
  });
}

Result<std::vector<origin::ObjectName>> find_orphans(const StorePointer& store, const std::string& volume) {
  std::vector<origin::ObjectName> orphans;
  {
    const Result<Census> census = Census::take(store, volume);
    if (!census.ok()) return census.status();
    for (const origin::Pool pool : {origin::Pool::kMetadata, origin::Pool::kData}) {
      CACHED_RETURN_IF_ERROR(store->list(pool, volume + "/", [&](const std::string& name) {
        const volume::ParsedName parsed = volume::parse_name(volume, name);
        const bool own_pool = parsed.kind != volume::ParsedName::Kind::kPiece ||
                              (pool == origin::Pool::kMetadata) == volume::is_metadata_object(parsed.object);
        if (own_pool && census->is_orphan(parsed)) orphans.push_back({pool, name});
        return true;
      }));
    }
  }
  if (orphans.empty()) return orphans;
  // Imports that began after the first census was taken are in this one.
  const Result<Census> census = Census::take(store, volume);
  if (!census.ok()) return census.status();
  std::erase_if(orphans, [&](const origin::ObjectName& name) {
    return !census->is_orphan(volume::parse_name(volume, name.name));
  });
  // One pool for both kinds shows everything twice.
  std::sort(orphans.begin(), orphans.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  orphans.erase(std::unique(orphans.begin(), orphans.end(),
                            [](const auto& a, const auto& b) { return a.name == b.name; }),
                orphans.end());
  return orphans;
}

Result<CollectReport> collect(const StorePointer& store, const std::string& volume,
                              const CollectOptions& options) {
  CollectReport report;
  if (options.unfinished) CACHED_RETURN_IF_ERROR(forget_imports(*store, volume));
  const Result<volume::Head> head = load_head(*store, volume);
  if (!head.ok()) return head.status();
  const int64_t now_ns = system_clock().realtime_ns();
  ObjectSet live;
  bool any_due = false;
  for (const volume::SnapshotMark& mark : head->snapshots) any_due = any_due || is_due(mark, now_ns);
  for (const volume::SnapshotMark& mark : head->snapshots) {
    if (is_due(mark, now_ns)) continue;
    if (any_due) CACHED_RETURN_IF_ERROR(add_objects(store, volume, mark, &live));
    const bool sooner = report.next_delete_at_ns == 0 || mark.delete_at_ns < report.next_delete_at_ns;
    if (mark.delete_at_ns != 0 && sooner) report.next_delete_at_ns = mark.delete_at_ns;
  }
  for (const volume::SnapshotMark& mark : head->snapshots) {
    if (is_due(mark, now_ns)) CACHED_RETURN_IF_ERROR(remove_due(store, volume, mark, live, &report));
  }
  if (!options.orphans) return report;
  const Result<std::vector<origin::ObjectName>> orphans = find_orphans(store, volume);
  if (!orphans.ok()) return orphans.status();
  Remover remover(*store);
  for (const origin::ObjectName& name : *orphans) remover.remove(name);
  CACHED_RETURN_IF_ERROR(remover.finish());
  report.objects += remover.removed();
  return report;
}

Result<uint64_t> destroy_volume(origin::ObjectStore& store, const std::string& volume) {
  CACHED_RETURN_IF_ERROR(update_head(store, volume, [](volume::Head* head) {
    head->destroyed = true;
    head->current = 0;
    head->snapshots.clear();
    head->imports.clear();
    return Status();
  }));
  Remover remover(store);
  for (const origin::Pool pool : {origin::Pool::kData, origin::Pool::kMetadata}) {
    CACHED_RETURN_IF_ERROR(store.list(pool, volume + "/", [&](const std::string& name) {
      const auto kind = volume::parse_name(volume, name).kind;
      if (kind != volume::ParsedName::Kind::kForeign && kind != volume::ParsedName::Kind::kHead)
        remover.remove({pool, name});
      return true;
    }));
  }
  CACHED_RETURN_IF_ERROR(remover.finish());
  CACHED_RETURN_IF_ERROR(
      store.omap_remove({origin::Pool::kMetadata, volume::kVolumesObject}, {volume}).wait());
  remover.remove(volume::head_name(volume));
  CACHED_RETURN_IF_ERROR(remover.finish());
  return remover.removed();
}

}  // namespace cached::import
