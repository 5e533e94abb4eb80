// A data set as a volume: see rados_volume.h.
#include "cached/volume/rados_volume.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <climits>
#include <future>

#include "base/log.h"
#include "cached/origin/rados_store.h"

namespace cached::volume {
namespace {

// A position in a listing: the snapshot it began in, so that a listing of the current root is of one
// snapshot, and the number of the next entry. 0 is the beginning.
// Of counting what lies below a directory: entries at once, some 0.2 ms of work, and the time between.
constexpr size_t kCountedAtOnce = 512;
constexpr uint64_t kCountPauseNs = 1'000'000;
constexpr uint64_t kSnapshotTagMask = (uint64_t{1} << 31) - 1;
uint64_t cookie_of(uint64_t snapshot, uint64_t next_entry) {
  return (snapshot & kSnapshotTagMask) << 32 | next_entry;
}

constexpr uint64_t kRootWaitInVainNs = 50 * kNanosecondsPerMillisecond;
// Between two packs lie the objects of large files.
constexpr unsigned kObjectsLookedAhead = 4;

constexpr uint64_t locator_of(uint32_t directory, uint64_t entry) {
  return uint64_t{directory} << 32 | entry;
}

uint8_t type_of(const Entry& inode, uint32_t mode) {
  switch (inode.kind) {
    case EntryKind::kFile:
      return DT_REG;
    case EntryKind::kDirectory:
      return DT_DIR;
    case EntryKind::kSymlink:
      return DT_LNK;
    default:
      return static_cast<uint8_t>(IFTODT(mode));
  }
}

}  // namespace

Result<std::unique_ptr<RadosVolume>> RadosVolume::create(const Options& options,
                                                         std::shared_ptr<origin::ObjectStore> store,
                                                         std::unique_ptr<MetadataSource> metadata,
                                                         io::Reactor& home, memory_tier::NameTable& names) {
  if (!valid_volume_name(options.dataset)) {
    return Status(EINVAL, "volume " + options.name + ": \"" + printable(options.dataset) +
                              "\" cannot be the name of a data set: use 1 to 64 of A-Z a-z 0-9 . _ -");
  }
  return std::unique_ptr<RadosVolume>(
      new RadosVolume(options, std::move(store), std::move(metadata), home, names));
}

RadosVolume::RadosVolume(const Options& options, std::shared_ptr<origin::ObjectStore> store,
                         std::unique_ptr<MetadataSource> metadata, io::Reactor& home,
                         memory_tier::NameTable& names)
    : options_(options),
      store_(std::move(store)),
      metadata_(std::move(metadata)),
      home_(home),
      names_(names),
      context_{.store = store_,
               .damage = std::make_shared<origin::FailureLog>("volume " + options.name),
               .volume = options.dataset,
               .counters = &origin_counters_},
      snapshots_(options.open_snapshots),
      objects_(options.open_objects) {}

std::string RadosVolume::trouble() {
  const origin::StoreState state = store_->state();
  std::string known;
  {
    const std::lock_guard lock(mutex_);
    known = trouble_;
  }
  if (state.phase == origin::StoreState::Phase::kFailed) known = state.why;
  if (state.phase == origin::StoreState::Phase::kConnecting) known = "connecting to the cluster";
  if (!known.empty()) begin();
  return known;
}

void RadosVolume::begin() {
  const auto ask = [](RadosVolume* self) -> io::Task<void> {
    (void)co_await self->follow(self->options_.head_age_ns);
  };
  home_.post([this, ask] { io::spawn(ask(this)); });
}

uint32_t RadosVolume::answer_timeout_ms() const {
  // A request makes more than one operation, but what comes after one that was in vain is not tried.
  return origin::longest_operation_ms(options_.origin_timeout_ms) + kAnswerSlackMs;
}

void RadosVolume::note_trouble(const Status& status) {
  if (!status.ok()) context_.damage->report_outage("its head", status.message());
  if (status.ok()) context_.damage->report_recovery();
  const std::lock_guard lock(mutex_);
  trouble_ = status.message();
}

Outcome RadosVolume::failed(const Status& status) {
  if (status.error_number() != ENOENT && status.error_number() != ESTALE)
    context_.damage->report("metadata of data set " + options_.dataset, status.message());
  // Of the store's errors, and there are many, a reader has no use for another one.
  const bool of_file = status.error_number() == ENOENT || status.error_number() == ESTALE;
  return Outcome{.error = of_file ? status.error_number() : EIO};
}

// The head. ---------------------------------------------------------------------------------------------

io::Task<Status> RadosVolume::follow(uint64_t maximum_age_ns) {
  const uint64_t now_ns = home_.clock().monotonic_ns();
  if (current_ != nullptr && now_ns - head_read_at_ns_ <= maximum_age_ns) co_return Status();
  std::shared_ptr<HeadReading> reading = head_reading_;
  if (reading == nullptr) {
    reading = head_reading_ = std::make_shared<HeadReading>();
    io::spawn(ask_for_head(reading));
    if (!reading->ended.is_set()) io::spawn(end_patience(reading));
  }
  if (current_ != nullptr) {
    co_await reading->enough;
  } else {
    co_await reading->ended;
  }
  co_return current_ != nullptr ? Status() : head_status_;
}

io::Task<void> RadosVolume::ask_for_head(std::shared_ptr<HeadReading> reading) {
  head_status_ = co_await read_head();
  note_trouble(head_status_);
  head_reading_ = nullptr;
  reading->ended.set();
  reading->enough.set();
}

io::Task<void> RadosVolume::end_patience(std::shared_ptr<HeadReading> reading) {
  co_await home_.sleep_until(home_.clock().monotonic_ns() + options_.head_patience_ns);
  if (reading->ended.is_set()) co_return;
  {
    const std::lock_guard lock(mutex_);
    trouble_ = store_->description() + " does not answer: the head of data set " + options_.dataset +
               " cannot be read" + (current_ == nullptr ? "" : "; the snapshot that is known is shown");
  }
  reading->enough.set();
}

bool RadosVolume::head_is_fresh() const {
  return head_known_ && head_reading_ == nullptr && head_status_.ok();
}

io::Task<Status> RadosVolume::read_head() {
  const uint64_t asked_at_ns = home_.clock().monotonic_ns();
  const origin::StoreState state = store_->state();
  if (state.phase == origin::StoreState::Phase::kFailed && !head_known_) co_return Status(EIO, state.why);
  Result<origin::VersionedBytes> bytes =
      co_await store_->read_small(head_name(options_.dataset), kMaximumHeadBytes).on(home_);
  if (bytes.error_number() == ENOENT) {
    co_return Status(ENOENT, "there is no data set " + options_.dataset + " in " + store_->description() +
                                 "; cachedctl import makes one");
  }
  if (!bytes.ok()) co_return bytes.status();
  Result<Head> head = decode_head(bytes->bytes, options_.dataset);
  if (!head.ok()) co_return head.status();
  const SnapshotMark* const mark = head->find_snapshot(head->current);
  if (head->destroyed || mark == nullptr) {
    co_return Status(ENOENT, "data set " + options_.dataset + " has no snapshot; cachedctl import makes one");
  }
  if (current_ == nullptr || current_->record.import_id != mark->import_id) {
    Result<SnapshotPointer> snapshot = co_await open_snapshot(*mark);
    if (!snapshot.ok()) co_return snapshot.status();
    if (current_ != nullptr)
      log_info("volume {}: snapshot {} is current now, after {}", options_.name, mark->number,
               current_->number);
    current_ = std::move(snapshot).value();
    const std::lock_guard lock(mutex_);
    statistics_.bytes = current_->record.bytes;
    statistics_.files = current_->record.files;
    statistics_.complete = 1;
    current_import_ = current_->record.import_id;
  }
  head_ = std::move(head).value();
  head_known_ = true;
  head_read_at_ns_ = asked_at_ns;
  co_return Status();
}

io::Task<Result<SnapshotRecord>> RadosVolume::load_record(SnapshotMark mark) {
  const std::string what = "snapshot " + std::to_string(mark.number) + " of data set " + options_.dataset;
  Result<origin::VersionedBytes> bytes =
      co_await store_->read_small(snapshot_name(options_.dataset, mark.import_id), kMaximumRecordBytes)
          .on(home_);
  // ENOENT would say something about a file.
  if (bytes.error_number() == ENOENT) co_return Status(EIO, what + " is damaged: its record is missing");
  if (!bytes.ok()) co_return bytes.status();
  Result<SnapshotRecord> record = decode_snapshot(bytes->bytes, what);
  if (!record.ok()) co_return record.status();
  if (!(checksum_of(bytes->bytes) == mark.record) || record->import_id != mark.import_id)
    co_return Status(EIO, what + " is damaged: its record is not the one that was published");
  co_return record;
}

io::Task<Result<RadosVolume::SnapshotPointer>> RadosVolume::open_snapshot(SnapshotMark mark) {
  if (const SnapshotPointer* const known = snapshots_.get(mark.import_id)) {
    const SnapshotPointer snapshot = *known;
    co_await snapshot->opened;
    if (!snapshot->failure.ok()) co_return snapshot->failure;
    co_return snapshot;
  }
  const auto snapshot = std::make_shared<Snapshot>();
  // Known before it is read: others wait for it, and a source that goes through the node's cache asks open()
  // for the tables.
  snapshots_.put(mark.import_id, snapshot);
  Result<SnapshotRecord> record = co_await load_record(mark);
  snapshot->failure = record.status();
  if (record.ok()) {
    snapshot->number = mark.number;
    snapshot->record = *record;
    Result<std::unique_ptr<SnapshotReader>> reader =
        co_await SnapshotReader::open(std::move(record).value(), *metadata_);
    snapshot->failure = reader.status();
    if (reader.ok()) snapshot->reader = std::move(reader).value();
  }
  const Status failure = snapshot->failure;
  if (!failure.ok()) snapshots_.erase(mark.import_id);
  snapshot->opened.set();
  if (!failure.ok()) co_return failure;
  co_return snapshot;
}

// Handles. ----------------------------------------------------------------------------------------------

io::Task<RadosVolume::Found> RadosVolume::find(shm::Handle handle) {
  Found found;
  found.current_root = handle == kCurrentRoot;
  found.directory = static_cast<uint32_t>(handle.low >> 32);
  found.entry = handle.low & UINT32_MAX;
  if (found.current_root) {
    const Status status = co_await follow(options_.head_age_ns);
    if (!status.ok()) co_return Found{failed(status)};
    found.snapshot = current_;
    found.validated_at_ns = head_read_at_ns_;
    co_return found;
  }
  found.validated_at_ns = home_.clock().monotonic_ns();
  if (current_ != nullptr && current_->record.import_id == handle.high) {
    found.snapshot = current_;
    co_return found;
  }
  if (const SnapshotPointer* const open = snapshots_.get(handle.high); open != nullptr && (*open)->reader) {
    found.snapshot = *open;
    co_return found;
  }
  // One that was published since the head was read, or was not used for long.
  const auto marked = [&] {
    return std::find_if(head_.snapshots.begin(), head_.snapshots.end(),
                        [&](const SnapshotMark& mark) { return mark.import_id == handle.high; });
  };
  if (marked() == head_.snapshots.end()) {
    const Status status = co_await follow(options_.head_age_ns);
    if (!status.ok()) co_return Found{failed(status)};
  }
  const auto mark = marked();
  if (mark == head_.snapshots.end()) co_return Found{Outcome{.error = head_is_fresh() ? ESTALE : EIO}};
  Result<SnapshotPointer> snapshot = co_await open_snapshot(*mark);
  if (!snapshot.ok()) co_return Found{failed(snapshot.status())};
  found.snapshot = std::move(snapshot).value();
  co_return found;
}

io::Task<Result<Entry>> RadosVolume::inode_at(Found where) {
  if (where.entry >= where.snapshot->record.entries) co_return Status(ESTALE, "no such inode");
  Result<Entry> entry = co_await where.snapshot->reader->entry(where.entry);
  if (!entry.ok()) co_return entry.status();
  if (entry->kind == EntryKind::kLink || entry->own_directory != where.directory)
    co_return Status(ESTALE, "no such inode");
  co_return entry;
}

io::Task<Result<shm::InodeInfo>> RadosVolume::info_of(SnapshotPointer snapshot, Entry inode,
                                                      uint64_t validated_at_ns) {
  AttributeRecord attributes;
  if (const AttributeRecord* const known = snapshot->attributes.get(inode.attributes)) {
    attributes = *known;
  } else {
    const Result<AttributeRecord> read = co_await snapshot->reader->attributes(inode.attributes);
    if (!read.ok()) co_return read.status();
    attributes = *read;
    snapshot->attributes.put(inode.attributes, attributes);
  }
  shm::InodeInfo info;
  if (inode.kind == EntryKind::kFile && inode.size > 0) {
    const shm::ObjectId* const known = snapshot->objects.get(inode.object);
    if (known != nullptr) {
      info.object = *known;
    } else {
      const Result<ObjectRecord> record = co_await snapshot->reader->object(inode.object);
      if (!record.ok()) co_return record.status();
      if (record->size < inode.size || inode.object_offset > record->size - inode.size)
        co_return Status(EIO, "a file is longer than the object that it lies in");
      info.object = record->id;
      snapshot->objects.put(inode.object, record->id);
    }
  }
  info.handle = {snapshot->record.import_id, locator_of(inode.own_directory, inode.number)};
  info.validated_at_ns = validated_at_ns;
  info.layout_base = inode.object_offset;
  info.ino = inode.ino;
  info.size = inode.size;
  info.blocks_512 = inode.blocks_512;
  info.atime_s = inode.atime.seconds;
  info.mtime_s = inode.mtime.seconds;
  info.ctime_s = inode.ctime.seconds;
  info.atime_ns = inode.atime.nanoseconds;
  info.mtime_ns = inode.mtime.nanoseconds;
  info.ctime_ns = inode.ctime.nanoseconds;
  info.mode = attributes.mode;
  info.nlink = inode.nlink;
  info.uid = attributes.uid;
  info.gid = attributes.gid;
  info.rdev = static_cast<uint32_t>(inode.device);
  if (attributes.xattr_bytes == 0) info.flags |= shm::kInodeNoXattrs;
  // Whatever a kernel believes of a name in the root must end, whoever told it, for the head to be followed.
  if (inode.directory > kRootDirectory) info.flags |= shm::kInodeImmutable;
  co_return info;
}

shm::Handle RadosVolume::handle_of(const Found& directory) {
  if (directory.current_root) return kCurrentRoot;
  return {directory.snapshot->record.import_id, locator_of(directory.directory, directory.entry)};
}

// Questions. --------------------------------------------------------------------------------------------

io::Task<InodeAnswer> RadosVolume::answer_for(Found where) {
  if (!where.outcome.ok()) co_return InodeAnswer{where.outcome};
  const Result<Entry> inode = co_await inode_at(where);
  if (!inode.ok()) co_return InodeAnswer{failed(inode.status())};
  Result<shm::InodeInfo> info = co_await info_of(where.snapshot, *inode, where.validated_at_ns);
  if (!info.ok()) co_return InodeAnswer{failed(info.status())};
  if (where.current_root) info->handle = kCurrentRoot;
  names_.put_inode(options_.id, *info);
  co_return InodeAnswer{Outcome{}, *info};
}

DataSetMap::Place RadosVolume::place_of(Snapshot& snapshot, uint64_t locator) const {
  const std::shared_ptr<const DataSetMap> map = data_sets();
  if (locator >> 32 == kRootDirectory || !map->has_directories()) return map->root();
  return snapshot.places.find(*map, locator);
}

InodeAnswer RadosVolume::root(uint64_t snapshot) {
  // Whoever is late finds nobody waiting: the promise belongs to both.
  const auto promise = std::make_shared<std::promise<InodeAnswer>>();
  std::future<InodeAnswer> future = promise->get_future();
  const auto ask = [](RadosVolume* self, uint64_t number,
                      std::shared_ptr<std::promise<InodeAnswer>> place) -> io::Task<void> {
    if (number != 0) {
      place->set_value(co_await self->snapshot_root(number));
      co_return;
    }
    const Found found = co_await self->find(kCurrentRoot);
    place->set_value(co_await self->answer_for(found));
  };
  home_.post([this, snapshot, promise, ask] { io::spawn(ask(this, snapshot, promise)); });
  const uint64_t wait_ns = root_in_vain_ ? kRootWaitInVainNs : options_.root_wait_ns;
  root_in_vain_ = future.wait_for(std::chrono::nanoseconds(wait_ns)) != std::future_status::ready;
  if (root_in_vain_) return InodeAnswer{Outcome{.error = ETIMEDOUT}};
  return future.get();
}

io::Task<InodeAnswer> RadosVolume::snapshot_root(uint64_t number) {
  Status status = co_await follow(options_.head_age_ns);
  const SnapshotMark* mark = status.ok() ? head_.find_snapshot(number) : nullptr;
  if (status.ok() && mark == nullptr) {
    // Whoever asks by number may have read it a moment ago.
    status = co_await follow(0);
    mark = head_.find_snapshot(number);
  }
  if (status.ok() && mark == nullptr)
    status = Status(head_is_fresh() ? ENOENT : EIO, "no such snapshot, as far as the head is known");
  if (!status.ok()) co_return InodeAnswer{failed(status)};
  const Found found = co_await find({mark->import_id, locator_of(kRootDirectory, 0)});
  co_return co_await answer_for(found);
}

io::Task<InodeAnswer> RadosVolume::learn(Found directory, Entry entry) {
  Entry inode = entry;
  if (entry.kind == EntryKind::kLink) {
    Result<Entry> found = co_await directory.snapshot->reader->inode_of(entry);
    if (!found.ok()) co_return InodeAnswer{failed(found.status())};
    inode = std::move(found).value();
  }
  Result<shm::InodeInfo> info =
      co_await info_of(directory.snapshot, std::move(inode), directory.validated_at_ns);
  if (!info.ok()) co_return InodeAnswer{failed(info.status())};
  const std::shared_ptr<const DataSetMap> map = data_sets();
  info->data_set = map->root().tag;
  if (map->has_directories()) {
    const uint64_t parent = locator_of(directory.directory, directory.entry);
    const DataSetMap::Place place = map->below(place_of(*directory.snapshot, parent), entry.name);
    directory.snapshot->places.put(*map, info->handle.low, place);
    info->data_set = place.tag;
  }
  names_.put_inode(options_.id, *info);
  names_.put_name(options_.id, handle_of(directory), entry.name, info->handle, directory.validated_at_ns);
  co_return InodeAnswer{Outcome{}, *info};
}

void RadosVolume::learn_ahead(const Found& parent, uint64_t number) {
  const NameStreams::Ahead ahead = parent.snapshot->name_streams.observe(parent.directory, number);
  if (ahead.count == 0) return;
  const auto learn_all = [](RadosVolume* self, Found directory, NameStreams::Ahead range) -> io::Task<void> {
    (void)co_await self->list(directory, range.first, true, range.count);
  };
  home_.post([this, learn_all, parent, ahead] { io::spawn(learn_all(this, parent, ahead)); });
}

io::Task<InodeAnswer> RadosVolume::lookup_in(Found parent, std::string name) {
  if (!parent.outcome.ok()) co_return InodeAnswer{parent.outcome};
  if (parent.directory == 0) co_return InodeAnswer{Outcome{.error = ENOTDIR}};
  Result<std::optional<Entry>> entry = co_await parent.snapshot->reader->find(parent.directory, name);
  if (!entry.ok()) co_return InodeAnswer{failed(entry.status())};
  if (entry->has_value()) {
    learn_ahead(parent, (*entry)->number);
    co_return co_await learn(parent, std::move(**entry));
  }
  names_.put_absent(options_.id, handle_of(parent), name, parent.validated_at_ns);
  co_return InodeAnswer{Outcome{.error = ENOENT}};
}

io::Task<InodeAnswer> RadosVolume::lookup(io::Reactor& caller, shm::Handle parent, std::string name) {
  if (name.empty() || name == "." || name == "..") co_return InodeAnswer{Outcome{.error = EINVAL}};
  if (name.size() > kMaximumNameBytes) co_return InodeAnswer{Outcome{.error = ENAMETOOLONG}};
  co_await home_.hop();
  const Found found = co_await find(parent);
  const InodeAnswer answer = co_await lookup_in(found, std::move(name));
  co_await caller.hop();
  co_return answer;
}

io::Task<InodeAnswer> RadosVolume::attributes(io::Reactor& caller, shm::Handle handle) {
  co_await home_.hop();
  const Found found = co_await find(handle);
  const InodeAnswer answer = co_await answer_for(found);
  co_await caller.hop();
  co_return answer;
}

io::Task<InodeAnswer> RadosVolume::resolve(io::Reactor& caller, std::string path) {
  if (path.size() >= PATH_MAX) co_return InodeAnswer{Outcome{.error = ENAMETOOLONG}};
  co_await home_.hop();
  Found at = co_await find(kCurrentRoot);
  InodeAnswer answer = co_await answer_for(at);
  for (size_t begin = 0; begin < path.size() && answer.outcome.ok();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    answer = co_await lookup_in(at, path.substr(begin, end - begin));
    begin = end + 1;
    at.current_root = false;
    at.directory = static_cast<uint32_t>(answer.info.handle.low >> 32);
    at.entry = answer.info.handle.low & UINT32_MAX;
  }
  co_await caller.hop();
  co_return answer;
}

io::Task<BytesAnswer> RadosVolume::read_link(io::Reactor& caller, shm::Handle handle) {
  co_await home_.hop();
  BytesAnswer answer;
  const Found found = co_await find(handle);
  answer.outcome = found.outcome;
  if (found.outcome.ok()) {
    const Result<Entry> inode = co_await inode_at(found);
    if (!inode.ok()) {
      answer.outcome = failed(inode.status());
    } else if (inode->kind != EntryKind::kSymlink) {
      answer.outcome.error = EINVAL;
    } else {
      answer.bytes = inode->target;
    }
  }
  co_await caller.hop();
  co_return answer;
}

io::Task<Result<std::vector<Xattr>>> RadosVolume::xattrs_of(shm::Handle handle) {
  const Found found = co_await find(handle);
  if (!found.outcome.ok()) co_return Status(found.outcome.error, "the inode cannot be found");
  const Result<Entry> inode = co_await inode_at(found);
  if (!inode.ok()) co_return inode.status();
  const Result<AttributeRecord> attributes = co_await found.snapshot->reader->attributes(inode->attributes);
  if (!attributes.ok()) co_return attributes.status();
  co_return co_await found.snapshot->reader->xattrs(*attributes);
}

io::Task<BytesAnswer> RadosVolume::get_xattr(io::Reactor& caller, shm::Handle handle, std::string name) {
  co_await home_.hop();
  BytesAnswer answer;
  const Result<std::vector<Xattr>> xattrs = co_await xattrs_of(handle);
  if (!xattrs.ok()) {
    answer.outcome = failed(xattrs.status());
  } else {
    const auto found =
        std::find_if(xattrs->begin(), xattrs->end(), [&](const Xattr& xattr) { return xattr.name == name; });
    if (found == xattrs->end()) answer.outcome.error = ENODATA;
    if (found != xattrs->end()) answer.bytes = found->value;
  }
  co_await caller.hop();
  co_return answer;
}

io::Task<BytesAnswer> RadosVolume::list_xattrs(io::Reactor& caller, shm::Handle handle) {
  co_await home_.hop();
  BytesAnswer answer;
  const Result<std::vector<Xattr>> xattrs = co_await xattrs_of(handle);
  if (!xattrs.ok()) {
    answer.outcome = failed(xattrs.status());
  } else {
    for (const Xattr& xattr : *xattrs) answer.bytes += xattr.name + '\0';
  }
  co_await caller.hop();
  co_return answer;
}

io::Task<DirectoryAnswer> RadosVolume::list(Found directory, uint64_t cookie, bool with_attributes,
                                            unsigned maximum_items) {
  DirectoryAnswer answer;
  const uint64_t from = cookie & UINT32_MAX;
  Result<std::vector<Entry>> entries =
      co_await directory.snapshot->reader->list(directory.directory, from, maximum_items);
  if (!entries.ok()) co_return DirectoryAnswer{failed(entries.status())};
  answer.end = entries->size() < maximum_items;
  for (Entry& entry : *entries) {
    DirectoryItem item;
    item.name = entry.name;
    item.next_cookie = cookie_of(directory.snapshot->number, entry.number + 1);
    // Links and special files need their inode for number and type, the others only for attributes.
    const bool plain = entry.kind != EntryKind::kLink && entry.kind != EntryKind::kSpecial;
    if (plain && !with_attributes) {
      item.ino = entry.ino;
      item.type = type_of(entry, 0);
    } else {
      const InodeAnswer inode = co_await learn(directory, std::move(entry));
      if (!inode.outcome.ok()) co_return DirectoryAnswer{inode.outcome};
      item.ino = inode.info.ino;
      item.type = static_cast<uint8_t>(IFTODT(inode.info.mode));
      item.has_info = with_attributes;
      item.info = inode.info;
    }
    answer.items.push_back(std::move(item));
  }
  co_return answer;
}

io::Task<DirectoryAnswer> RadosVolume::read_directory(io::Reactor& caller, shm::Handle handle,
                                                      uint64_t cookie, bool with_attributes,
                                                      unsigned maximum_items) {
  co_await home_.hop();
  DirectoryAnswer answer;
  Found found = co_await find(handle);
  if (found.outcome.ok() && found.current_root && cookie != 0 &&
      (found.snapshot->number & kSnapshotTagMask) != cookie >> 32) {
    // The head moved on during the listing: it goes on where it began.
    const auto begun = std::find_if(
        head_.snapshots.begin(), head_.snapshots.end(),
        [&](const SnapshotMark& mark) { return (mark.number & kSnapshotTagMask) == cookie >> 32; });
    if (begun == head_.snapshots.end()) {
      found.outcome.error = ESTALE;
    } else {
      found = co_await find({begun->import_id, locator_of(kRootDirectory, 0)});
    }
  }
  if (!found.outcome.ok()) {
    answer.outcome = found.outcome;
  } else if (found.directory == 0) {
    answer.outcome.error = ENOTDIR;
  } else {
    answer = co_await list(found, cookie, with_attributes, maximum_items);
  }
  co_await caller.hop();
  co_return answer;
}

io::Task<StatisticsAnswer> RadosVolume::statistics(io::Reactor& caller) {
  co_await home_.hop();
  const Status status = co_await follow(options_.head_age_ns);
  StatisticsAnswer answer;
  if (!status.ok()) answer.outcome = failed(status);
  answer.statistics = known_statistics();
  co_await caller.hop();
  co_return answer;
}

shm::VolumeStatistics RadosVolume::known_statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

TreeTotals RadosVolume::tree_totals(const std::string& path) {
  const std::lock_guard lock(mutex_);
  if (path.empty()) return {statistics_.bytes, statistics_.files, statistics_.complete != 0};
  if (current_import_ == 0) return {};
  bool count = false;
  const TreeTotals totals = directory_totals_.find(path, current_import_, &count);
  if (count) home_.post([this, path] { io::spawn(count_directory(path)); });
  return totals;
}

io::Task<void> RadosVolume::count_directory(std::string path) {
  std::string way = path;
  const InodeAnswer answer = co_await resolve(home_, std::move(way));
  Found found{answer.outcome};
  if (answer.outcome.ok()) found = co_await find(answer.info.handle);
  const uint64_t state = found.outcome.ok() ? found.snapshot->record.import_id : 0;
  const Result<TreeTotals> totals = co_await count_below(found);
  directory_totals_.end(options_.name, path, state, totals);
}

io::Task<Result<TreeTotals>> RadosVolume::count_below(Found directory) {
  if (!directory.outcome.ok() || directory.directory == 0) co_return Status(ENOENT, "no such directory");
  SnapshotReader& reader = *directory.snapshot->reader;
  std::vector<uint32_t> directories{directory.directory};
  TreeTotals totals;
  while (!directories.empty()) {
    const uint32_t number = directories.back();
    directories.pop_back();
    for (uint64_t from = 0;;) {
      const Result<std::vector<Entry>> entries = co_await reader.list(number, from, kCountedAtOnce);
      if (!entries.ok()) co_return entries.status();
      for (const Entry& entry : *entries) {
        if (entry.kind == EntryKind::kDirectory) directories.push_back(entry.own_directory);
        if (entry.kind != EntryKind::kFile) continue;
        ++totals.files;
        totals.bytes += entry.size;
      }
      // Others have their turn: the pages may all be at hand.
      co_await home_.sleep_until(home_.clock().monotonic_ns() + kCountPauseNs);
      if (entries->size() < kCountedAtOnce) break;
      from = entries->back().number + 1;
    }
  }
  totals.counted = true;
  co_return totals;
}

// Objects. ----------------------------------------------------------------------------------------------

io::Task<origin::OpenedObject> RadosVolume::open(io::Reactor& caller, shm::Handle handle,
                                                 shm::ObjectId object, origin::Opener) {
  co_await home_.hop();
  origin::OpenedObject opened = co_await open_here(handle, object);
  co_await caller.hop();
  co_return opened;
}

io::Task<origin::OpenedObject> RadosVolume::open_here(shm::Handle handle, shm::ObjectId object) {
  const SnapshotPointer* const at = is_metadata_object(object) ? nullptr : snapshots_.get(handle.high);
  const uint16_t data_set = at == nullptr ? data_sets()->root().tag : place_of(**at, handle.low).tag;
  // An id never names other bytes, so whoever knows it may read them, whatever became of the snapshot.
  if (const auto* const known = objects_.get(object))
    co_return origin::OpenedObject{Outcome{}, *known, data_set};
  if (is_metadata_object(object)) {
    const SnapshotPointer* const snapshot = snapshots_.get(handle.high);
    if (snapshot == nullptr) co_return origin::OpenedObject{Outcome{.error = ESTALE}};
    for (size_t i = 0; i < kTables; ++i) {
      const TablePlace& place = (*snapshot)->record.tables[i];
      if (!(place.object == object) || place.pages == 0) continue;
      const auto table = RadosObject::table(context_, static_cast<Table>(i), place);
      objects_.put(object, table);
      co_return origin::OpenedObject{Outcome{}, table, data_set};
    }
    co_return origin::OpenedObject{Outcome{.error = ESTALE}};
  }
  const Found found = co_await find(handle);
  if (!found.outcome.ok()) co_return origin::OpenedObject{found.outcome};
  const Result<Entry> inode = co_await inode_at(found);
  if (!inode.ok()) co_return origin::OpenedObject{failed(inode.status())};
  if (inode->kind != EntryKind::kFile || inode->size == 0)
    co_return origin::OpenedObject{Outcome{.error = ESTALE, .changed = true}};
  const Result<ObjectRecord> record = co_await found.snapshot->reader->object(inode->object);
  if (!record.ok()) co_return origin::OpenedObject{failed(record.status())};
  if (!(record->id == object)) co_return origin::OpenedObject{Outcome{.error = ESTALE, .changed = true}};
  Result<std::shared_ptr<origin::ObjectReader>> reader = co_await open_record(found.snapshot, *record);
  if (!reader.ok()) co_return origin::OpenedObject{failed(reader.status())};
  objects_.put(object, *reader);
  co_return origin::OpenedObject{Outcome{}, std::move(reader).value(), data_set};
}

io::Task<Result<std::shared_ptr<origin::ObjectReader>>> RadosVolume::open_record(SnapshotPointer snapshot,
                                                                                 ObjectRecord record) {
  Result<std::vector<Extent>> extents = co_await snapshot->reader->extents(record);
  if (!extents.ok()) co_return extents.status();
  Result<ObjectLayout> layout = ObjectLayout::make(record, std::move(extents).value());
  if (!layout.ok()) co_return layout.status();
  const uint64_t base = record.first_checksum;
  RadosObject::Checksums checksums = [this, snapshot, base](
                                         io::Reactor& caller, uint64_t first,
                                         uint64_t count) -> io::Task<Result<std::vector<uint64_t>>> {
    // Parameters of a coroutine live as long as it; what a lambda captured lives as long as the reader.
    const auto read = [](RadosVolume* self, SnapshotPointer from, io::Reactor& to, uint64_t begin,
                         uint64_t number) -> io::Task<Result<std::vector<uint64_t>>> {
      co_await self->home_.hop();
      Result<std::vector<uint64_t>> loaded = co_await from->reader->checksums(begin, number);
      co_await to.hop();
      co_return loaded;
    };
    return read(this, snapshot, caller, base + first, count);
  };
  co_return std::shared_ptr<origin::ObjectReader>(
      std::make_shared<RadosObject>(context_, std::move(layout).value(), std::move(checksums)));
}

io::Task<std::vector<origin::FollowingObject>> RadosVolume::following(io::Reactor& caller, shm::Handle handle,
                                                                      shm::ObjectId object, unsigned count) {
  co_await home_.hop();
  std::vector<origin::FollowingObject> packs = co_await following_here(handle, object, count);
  co_await caller.hop();
  co_return packs;
}

// The table of objects has them in the order in which the entries name them first.
io::Task<std::vector<origin::FollowingObject>> RadosVolume::following_here(shm::Handle handle,
                                                                           shm::ObjectId object,
                                                                           unsigned count) {
  std::vector<origin::FollowingObject> packs;
  const Found found = co_await find(handle);
  if (!found.outcome.ok()) co_return packs;
  const Result<Entry> inode = co_await inode_at(found);
  if (!inode.ok() || inode->kind != EntryKind::kFile || inode->size == 0) co_return packs;
  const uint64_t end =
      std::min(found.snapshot->record.objects, inode->object + 1 + uint64_t{kObjectsLookedAhead} * count);
  for (uint64_t number = inode->object; number < end && packs.size() < count; ++number) {
    const Result<ObjectRecord> record = co_await found.snapshot->reader->object(number);
    if (!record.ok()) break;
    if (number == inode->object) {
      if (!(record->id == object)) break;
      continue;
    }
    if ((record->flags & kObjectPack) == 0) continue;
    if (objects_.get(record->id) == nullptr) {
      Result<std::shared_ptr<origin::ObjectReader>> reader = co_await open_record(found.snapshot, *record);
      if (!reader.ok()) break;
      objects_.put(record->id, std::move(reader).value());
    }
    packs.push_back({record->id, record->size});
  }
  co_return packs;
}

}  // namespace cached::volume
