// The import's course: registration, walk, order of entries, publishing. See importer.h; importer_data.cc
// moves the bytes.
#include "cached/import/importer.h"

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "cached/import/collector.h"
#include "cached/import/importer_impl.h"
#include "cached/import/volume_head.h"

namespace cached::import {
namespace {

using volume::Entry;
using volume::EntryKind;

constexpr size_t kScansAhead = 32;
constexpr size_t kNamesAtOnce = 1024;  // a directory with more is examined by several threads
constexpr size_t kChunksAhead = 16;
constexpr size_t kItemsQueued = 50'000;
constexpr size_t kBaseEntriesAtOnce = 1000;

EntryKind kind_of(uint32_t mode) {
  if (S_ISREG(mode)) return EntryKind::kFile;
  if (S_ISDIR(mode)) return EntryKind::kDirectory;
  if (S_ISLNK(mode)) return EntryKind::kSymlink;
  return EntryKind::kSpecial;
}

std::string child_path(const std::string& directory, const std::string& name) {
  return directory.empty() ? name : directory + "/" + name;
}

bool is_damage(const Status& status) {
  return status.error_number() == EIO || status.error_number() == ENOENT;
}

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

Importer::Importer(std::shared_ptr<origin::ObjectStore> store, ImportOptions options)
    : store_(std::move(store)), options_(std::move(options)), import_id_(random_id()) {}

Importer::~Importer() = default;

ImportProgress Importer::progress() const {
  ImportProgress progress;
  progress.files = files_;
  progress.bytes = bytes_;
  progress.publishing = publishing_;
  if (const volume::TreeCounter* const counter = counting_) {
    const shm::VolumeStatistics counted = counter->known();
    progress.total_files = counted.files;
    progress.total_bytes = counted.bytes;
    progress.total_known = counted.complete != 0;
  }
  return progress;
}

void Importer::problem(const std::string& path, const std::string& what) {
  const std::lock_guard lock(mutex_);
  ++report_.problem_count;
  if (report_.problems.size() < kMaximumProblems)
    report_.problems.push_back(printable(path.empty() ? "." : path) + ": " + what);
}

void Importer::fail(const Status& status) {
  const std::lock_guard lock(mutex_);
  if (failure_.ok()) failure_ = status;
  failed_ = true;
}

Status Importer::failure() {
  if (stopping_) return Status(ECANCELED, "stopped; the same command goes on where this one stopped");
  if (!failed_) return Status();
  const std::lock_guard lock(mutex_);
  return failure_;
}

Status Importer::run() {
  Status status = prepare();
  if (status.ok()) status = walk();
  if (status.ok()) status = finish();
  data_pool_.reset();
  scan_pool_.reset();
  report_.stored_bytes = stored_bytes_;
  if (status.ok()) {
    clean_up();
  } else if (journal_ != nullptr) {
    // What was stored is worth noting, unless it is the store that failed.
    if (const Status noted = journal_->write(true); !noted.ok())
      log_debug("the journal could not be written: {}", noted.message());
  }
  if (status.error_number() == ENOSPC || status.error_number() == EDQUOT) {
    return Status(status.error_number(),
                  status.message() +
                      "; nothing was published. Free some space and run the same command again: "
                      "it goes on where this one stopped");
  }
  return status;
}

Status Importer::prepare() {
  started_at_ns_ = system_clock().realtime_ns();
  Result<std::unique_ptr<SourceTree>> tree = SourceTree::open(options_.directory, options_.settle_ns);
  if (!tree.ok()) return tree.status();
  tree_ = std::move(tree).value();
  CACHED_RETURN_IF_ERROR(ensure_volume(*store_, options_.volume));
  const auto enter = [this](volume::Head* head) {
    if (head->destroyed) return Status(ENOENT, "volume " + options_.volume + " is being destroyed");
    if (head->imports.size() == volume::kMaximumImports) {
      return Status(EBUSY, "volume " + options_.volume + " has " + std::to_string(head->imports.size()) +
                               " unfinished imports; cachedctl volume collect --unfinished forgets them");
    }
    head->imports.push_back({import_id_, head->current, started_at_ns_, 0});
    head_ = *head;
    return Status();
  };
  // The sign of life comes first: who is registered without one counts as dead.
  auto journal = std::make_unique<JournalWriter>(*store_, options_.volume, import_id_);
  CACHED_RETURN_IF_ERROR(journal->write(true));
  CACHED_RETURN_IF_ERROR(update_head(*store_, options_.volume, enter));
  journal_ = std::move(journal);
  CACHED_RETURN_IF_ERROR(take_over(head_));
  if (const volume::SnapshotMark* const mark = head_.find_snapshot(head_.current)) {
    Result<std::unique_ptr<SnapshotAccess>> base = SnapshotAccess::open(store_, options_.volume, *mark);
    if (base.ok()) {
      base_ = std::move(base).value();
    } else if (is_damage(base.status())) {
      warn_of_base(base.status());
    } else {
      return base.status();
    }
  }
  builder_ = std::make_unique<SnapshotBuilder>(*store_, options_.volume, import_id_);
  scan_pool_ = std::make_unique<WorkerPool>("import-scan", options_.scan_threads, 2 * kScansAhead);
  data_pool_ = std::make_unique<WorkerPool>("import-data", options_.data_threads, options_.data_threads);
  counter_ = std::make_unique<volume::TreeCounter>([this] { return tree_->root_fd(); });
  counter_->refresh();
  counting_ = counter_.get();
  return Status();
}

Status Importer::take_over(const volume::Head& head) {
  const int64_t now_ns = system_clock().realtime_ns();
  for (const volume::ImportMark& mark : head.imports) {
    if (mark.id == import_id_) continue;
    const Result<ImportOwner> owner = load_owner(*store_, options_.volume, mark.id);
    if (!owner.ok() && owner.error_number() != ENOENT) return owner.status();
    if (owner.ok() && owner->alive(now_ns)) {
      log_warning("volume {}: another import runs on {} as process {}; whoever publishes first wins",
                  options_.volume, printable(owner->host), owner->pid);
      continue;
    }
    CACHED_RETURN_IF_ERROR(found_.load(*store_, options_.volume, mark.id));
    resumed_.push_back(mark.id);
  }
  report_.resumed_imports = resumed_.size();
  return Status();
}

void Importer::warn_of_base(const Status& status) {
  if (std::exchange(base_warned_, true)) return;
  log_warning(
      "volume {}: the current snapshot cannot be read as a whole ({}); what cannot be is stored again",
      options_.volume, status.message());
}

// Walking. --------------------------------------------------------------------------------------------------

Importer::BaseCursor::BaseCursor(volume::SnapshotReader* base, uint32_t directory)
    : base_(base), directory_(directory) {}

Result<const Entry*> Importer::BaseCursor::find(const std::string& name) {
  if (base_ == nullptr || directory_ == 0) return nullptr;
  for (;;) {
    while (place_ < batch_.size() && batch_[place_].name < name) ++place_;
    if (place_ < batch_.size()) return batch_[place_].name == name ? &batch_[place_] : nullptr;
    if (end_) return nullptr;
    const uint64_t from = batch_.empty() ? 0 : batch_.back().number + 1;
    Result<std::vector<Entry>> batch =
        volume::run_blocking(base_->list(directory_, from, kBaseEntriesAtOnce));
    if (!batch.ok()) return batch.status();
    batch_ = std::move(batch).value();
    place_ = 0;
    end_ = batch_.size() < kBaseEntriesAtOnce;
  }
}

void Importer::start_scans() {
  while (scans_.size() < kScansAhead && !pending_.empty()) {
    auto scan = std::make_shared<Scan>();
    scan->directory = std::move(pending_.front());
    pending_.pop_front();
    scans_.push_back(scan);
    scan_pool_->submit([this, scan] {
      this->scan(scan);
      scan->listed.count_down();
    });
  }
}

void Importer::scan_names(Scan* scan, size_t begin, size_t end) const {
  for (size_t i = begin; i < end && !stopping_; ++i) {
    scan->inodes[i] = tree_->inspect(scan->fd.get(), scan->names[i]);
  }
}

void Importer::scan(const std::shared_ptr<Scan>& scan) const {
  Result<UniqueFd> fd = tree_->open_directory(scan->directory.path);
  if (!fd.ok()) {
    scan->status = fd.status();
    return;
  }
  scan->fd = std::move(fd).value();
  Result<SourceInode> self = tree_->inspect_file(scan->fd.get());
  if (!self.ok() || self->device != scan->directory.device || self->inode != scan->directory.inode) {
    scan->status = self.ok() ? Status(ESTALE, "it was replaced during the import") : self.status();
    return;
  }
  scan->self = std::move(self).value();
  Result<std::vector<std::string>> names = tree_->list(scan->fd.get());
  if (!names.ok()) {
    scan->status = names.status();
    return;
  }
  scan->names = std::move(names).value();
  scan->inodes.resize(scan->names.size(), Status(ECANCELED, "stopped"));
  if (scan->names.size() <= kNamesAtOnce) scan_names(scan.get(), 0, scan->names.size());
}

Status Importer::walk() {
  CACHED_RETURN_IF_ERROR(add_root());
  for (start_scans(); !scans_.empty(); start_scans()) {
    const std::shared_ptr<Scan> scan = scans_.front();
    scan->listed.wait();
    if (!scan->status.ok()) {
      problem(scan->directory.path, scan->status.message());
    } else {
      CACHED_RETURN_IF_ERROR(walk_directory(scan));
    }
    scans_.pop_front();
  }
  send_pack();
  while (!items_.empty()) CACHED_RETURN_IF_ERROR(emit_front());
  return failure();
}

Status Importer::add_root() {
  Result<SourceInode> root = tree_->inspect(tree_->root_fd(), "");
  if (!root.ok()) return root.status();
  const uint32_t base_number = base_ == nullptr ? 0 : volume::kRootDirectory;
  pending_.push_back({"", volume::kRootDirectory, root->device, root->inode, base_number});
  auto item = std::make_unique<Item>();
  item->entry.kind = EntryKind::kDirectory;
  item->entry.own_directory = volume::kRootDirectory;
  item->inode = std::move(root).value();
  items_.push_back(std::move(item));
  return Status();
}

Status Importer::walk_directory(const std::shared_ptr<Scan>& scan) {
  BaseCursor base(base_ == nullptr ? nullptr : &base_->reader(), scan->directory.base_number);
  const size_t count = scan->names.size();
  const bool split = count > kNamesAtOnce;
  std::deque<std::shared_ptr<Latch>> chunks;
  size_t sent = 0;
  Status status;
  for (size_t i = 0; i < count && status.ok(); ++i) {
    if (split && i % kNamesAtOnce == 0) {
      for (; sent < count && sent < i + kChunksAhead * kNamesAtOnce; sent += kNamesAtOnce) {
        auto latch = std::make_shared<Latch>();
        chunks.push_back(latch);
        scan_pool_->submit([this, scan, latch, begin = sent, end = std::min(sent + kNamesAtOnce, count)] {
          scan_names(scan.get(), begin, end);
          latch->count_down();
        });
      }
      chunks.front()->wait();
      chunks.pop_front();
    }
    Result<SourceInode>& inode = scan->inodes[i];
    if (inode.ok()) {
      status = add_item(scan->directory, scan->names[i], std::move(inode).value(), &base);
    } else if (!stopping_) {
      problem(child_path(scan->directory.path, scan->names[i]), inode.status().message());
    }
    inode = Status();  // its memory
    if (status.ok()) status = emit_some();
  }
  const Result<SourceInode> after = tree_->inspect_file(scan->fd.get());
  if (!after.ok() || !after->same_version(scan->self))
    problem(scan->directory.path, "the directory changed during the import");
  return status;
}

Status Importer::add_item(const PendingDirectory& directory, const std::string& name, SourceInode inode,
                          BaseCursor* base) {
  auto item = std::make_unique<Item>();
  item->path = child_path(directory.path, name);
  item->entry.name = name;
  item->entry.directory = directory.number;
  item->entry.kind = kind_of(inode.mode);
  item->inode = std::move(inode);
  if (item->entry.kind == EntryKind::kDirectory) {
    if (next_directory_ == UINT32_MAX) return Status(EFBIG, "the tree has too many directories");
    item->entry.own_directory = next_directory_++;
    const Result<const Entry*> before = base->find(name);
    if (!before.ok()) warn_of_base(before.status());
    const bool there = before.ok() && *before != nullptr && (*before)->kind == EntryKind::kDirectory;
    pending_.push_back({item->path, item->entry.own_directory, item->inode.device, item->inode.inode,
                        there ? (*before)->own_directory : 0});
  } else if (item->inode.nlink > 1 &&
             !links_.try_emplace({item->inode.device, item->inode.inode}, 0).second) {
    item->entry.kind = EntryKind::kLink;
  } else if (item->entry.kind == EntryKind::kFile && item->inode.size > 0) {
    CACHED_RETURN_IF_ERROR(add_content(item.get(), base));
  }
  items_.push_back(std::move(item));
  return Status();
}

// Order. ----------------------------------------------------------------------------------------------------

Status Importer::emit_some() {
  CACHED_RETURN_IF_ERROR(failure());
  CACHED_RETURN_IF_ERROR(journal_->write(false));
  while (!items_.empty() && (items_.size() > kItemsQueued || items_.front()->is_ready())) {
    if (pack_ != nullptr && items_.front()->pack == pack_) send_pack();
    CACHED_RETURN_IF_ERROR(emit_front());
  }
  return Status();
}

Status Importer::emit_front() {
  const std::unique_ptr<Item> item = std::move(items_.front());
  items_.pop_front();
  if (item->pack != nullptr) item->pack->done.wait();
  if (item->large != nullptr) CACHED_RETURN_IF_ERROR(settle_large(item.get()));
  CACHED_RETURN_IF_ERROR(failure());
  if (item->failed) return Status();  // and named
  const SourceInode& inode = item->inode;
  Entry& entry = item->entry;
  const auto link = inode.nlink > 1 ? links_.find({inode.device, inode.inode}) : links_.end();
  if (entry.kind == EntryKind::kLink) {
    if (link->second == 0) return Status();  // of a file that failed
    entry.link_to = link->second;
  } else {
    entry.attributes = builder_->add_attributes(inode.mode, inode.uid, inode.gid, inode.xattrs);
    entry.ino = tree_->shown_inode(inode);
    entry.nlink = inode.nlink;
    entry.size = inode.size;
    entry.blocks_512 = inode.blocks_512;
    entry.mtime = inode.mtime;
    entry.atime = inode.atime;
    entry.ctime = inode.ctime;
    entry.unsettled = inode.unsettled;
    entry.device = inode.special_device;
    entry.target = inode.target;
    if (entry.kind == EntryKind::kFile && inode.size > 0) {
      const uint64_t* const known = builder_->find_object(item->object->record.id);
      entry.object = known != nullptr ? *known : builder_->add_object(*item->object);
      entry.object_offset = item->offset;
    }
  }
  const bool holds_inode = entry.kind != EntryKind::kLink && entry.kind != EntryKind::kDirectory;
  const Result<uint64_t> number = builder_->add_entry(std::move(entry));
  if (!number.ok()) return number.status();
  if (holds_inode && link != links_.end()) link->second = *number;
  ++files_;
  if (item->found) {
    ++report_.reused_files;
    report_.reused_bytes += inode.size;
    bytes_ += inode.size;
  }
  return Status();
}

// Publishing. -----------------------------------------------------------------------------------------------

Status Importer::finish() {
  publishing_ = true;
  if (report_.problem_count > 0) {
    return Status(EAGAIN,
                  fmt::format("{} things in {} changed during the import or could not be read; nothing "
                              "was published. Run the same command again when they are at rest: only "
                              "they are read again",
                              report_.problem_count, printable(options_.directory)));
  }
  CACHED_RETURN_IF_ERROR(failure());
  Result<volume::SnapshotRecord> built = builder_->finish();
  if (!built.ok()) return built.status();
  volume::SnapshotRecord record = std::move(built).value();
  record.volume_id[0] = head_.volume_id[0];
  record.volume_id[1] = head_.volume_id[1];
  record.base = head_.current;
  record.started_at_ns = started_at_ns_;
  record.source = options_.directory;
  record.host = ImportOwner::self().host;
  report_.record = record;
  return publish(record);
}

Status Importer::publish(const volume::SnapshotRecord& record) {
  const std::string bytes = encode_snapshot(record);
  CACHED_RETURN_IF_ERROR(
      store_->create(volume::snapshot_name(options_.volume, import_id_), as_bytes(bytes)).wait());
  const auto change = [&](volume::Head* head) {
    if (const auto* const mark = head->find_snapshot(head->current); mark && mark->import_id == import_id_) {
      // Our own switch, whose answer was lost.
      report_.snapshot = mark->number;
      return Status(EALREADY, "published");
    }
    if (head->destroyed || head->find_import(import_id_) == nullptr || head->current != head_.current) {
      return Status(ECANCELED,
                    fmt::format("another import into volume {} was faster: its current snapshot is {} "
                                "now. Nothing was published; run the same command again, it finds "
                                "what is stored",
                                options_.volume, head->current));
    }
    if (head->snapshots.size() == volume::kMaximumSnapshots)
      return Status(EBUSY, "volume " + options_.volume + " has too many snapshots; remove some");
    report_.snapshot = head->next_number++;
    head->current = report_.snapshot;
    head->snapshots.push_back({report_.snapshot, import_id_, system_clock().realtime_ns(), 0,
                               volume::checksum_of(bytes), record.files, record.bytes});
    std::erase_if(head->imports, [this](const volume::ImportMark& mark) {
      return mark.id == import_id_ || std::find(resumed_.begin(), resumed_.end(), mark.id) != resumed_.end();
    });
    return Status();
  };
  Status status = update_head(*store_, options_.volume, change);
  if (status.error_number() == EALREADY) status = Status();
  if (!status.ok()) report_.snapshot = 0;
  return status;
}

// Takes away what nobody needs any more: what interrupted imports stored for nothing, and snapshots that were
// marked and whose grace is over. Failures leave it to cachedctl volume collect; the snapshot is published.
void Importer::clean_up() {
  const auto note = [](const Status& status) {
    if (!status.ok() && status.error_number() != ENOENT)
      log_warning("something was left behind after the import: {}; cachedctl volume collect removes it",
                  status.message());
  };
  for (const auto& [id, object] : found_.objects()) {
    if (builder_->find_object(id) != nullptr) continue;
    for (const auto& [piece, checksums] : object->pieces) {
      note(store_->remove(volume::piece_name(options_.volume, id, piece)).wait());
    }
  }
  resumed_.push_back(import_id_);
  for (const uint64_t id : resumed_) note(remove_journal(*store_, options_.volume, id));
  note(collect(store_, options_.volume, {}).status());
}

}  // namespace cached::import
