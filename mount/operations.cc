#include "mount/operations.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>

#include <climits>
#include <cstring>

#include "base/clock.h"
#include "base/log.h"
#include "mount/freshness.h"

namespace cached::mount {

namespace {

constexpr unsigned kRequestBytes = 1024 * 1024;
// Requests for read-ahead and asynchronous direct I/O that the kernel may have under way; its default of 12
// starves sequential readers when there are several.
constexpr unsigned kBackgroundRequests = 64;
constexpr unsigned kCongestionThreshold = 48;
constexpr uint64_t kStatFsBlockBytes = 4096;
// How long the kernel may believe in a name of a volume that tells its changes (operations_notice.cc).
constexpr uint64_t kToldNameTimeoutNs = 100 * kNanosecondsPerMillisecond;

// Answers getxattr and listxattr with `value`, or with its size if that is what was asked.
void reply_xattr(fuse_req_t request, std::string_view value, size_t size) {
  if (size == 0) {
    fuse_reply_xattr(request, value.size());
  } else if (value.size() > size) {
    reply_error(request, ERANGE);
  } else {
    fuse_reply_buf(request, value.data(), value.size());
  }
}

}  // namespace

Operations::Operations(shm::Client& client, const shm::InodeInfo& root, const Options& options)
    : client_(client),
      volume_(options.volume),
      subdirectory_(options.subdirectory),
      config_text_(render_config(options)),
      attribute_timeout_ns_(options.attribute_timeout_ns),
      entry_timeout_ns_(options.entry_timeout_ns),
      negative_timeout_ns_(options.negative_timeout_ns),
      started_at_s_(system_clock().realtime_ns() / 1'000'000'000),
      inodes_(root),
      workers_(client),
      invalidator_(inodes_, refusals_),
      tells_changes_(client.tells_changes()) {}

void Operations::start(fuse_session* session) {
  invalidator_.start([session](uint64_t nodeid, Invalidator::Scope scope) {
    const off_t offset = scope == Invalidator::Scope::kPages ? 0 : -1;
    const int error = fuse_lowlevel_notify_inval_inode(session, nodeid, offset, 0);
    // ENOENT: the kernel does not hold the inode any more.
    if (error != 0 && error != -ENOENT) log_debug("invalidation of an inode: {}", std::strerror(-error));
  });
  client_.on_notices([this](const std::vector<shm::Notice>& notices) { take_notices(notices); });
}

uint64_t Operations::now_ns() const {
  return system_clock().monotonic_ns();
}

void Operations::set_up_connection(fuse_conn_info* connection) {
  connection->max_write = kRequestBytes;  // sets max_pages, which bounds reads too
  connection->max_read = kRequestBytes;   // the same in the mount options
  connection->max_background = kBackgroundRequests;
  connection->congestion_threshold = kCongestionThreshold;
  const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_AUTO_INVAL_DATA |
                          FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_POSIX_ACL | FUSE_CAP_CACHE_SYMLINKS |
                          FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO;
  const unsigned unwanted =
      FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE;
  connection->want |= wanted & connection->capable;
  connection->want &= ~unwanted;
}

template <typename Body, typename Arguments>
void Operations::dispatch(fuse_req_t request, Operation operation, fuse_ino_t id, const Body& body,
                          const Arguments& arguments) {
  Operations& self = *static_cast<Operations*>(fuse_req_userdata(request));
  Worker* worker = self.workers_.current();
  if (worker == nullptr) {
    reply_error(request, EIO);
    return;
  }
  worker->counters.count(operation);
  if (!self.access_log_.active() || is_virtual(id)) {
    body(self, *worker);
    return;
  }
  // Described before it runs: afterwards nothing of it may be touched.
  AccessLog::begin(request, operation, arguments(self));
  body(self, *worker);
  self.access_log_.end();
}

void Operations::refuse_change(fuse_req_t request, fuse_ino_t id) {
  dispatch(
      request, Operation::kRefusedChange, id,
      [request](Operations&, Worker&) { reply_error(request, EROFS); },
      [id](const Operations& o) { return fmt::format("{}", o.ino_of(id)); });
}

// flush and fsync are missing on purpose: libfuse answers ENOSYS, after which the kernel stops asking.
// releasedir is missing because libfuse's own answer, success, is all there is to say.
void Operations::add_reading_operations(fuse_lowlevel_ops* table) {
  table->init = [](void*, fuse_conn_info* connection) { set_up_connection(connection); };
  table->lookup = [](fuse_req_t r, fuse_ino_t parent, const char* name) {
    dispatch(
        r, Operation::kLookup, parent, [=](Operations& o, Worker& w) { o.lookup(w, r, parent, name); },
        [=](const Operations& o) { return fmt::format("{},{}", o.ino_of(parent), printable(name)); });
  };
  table->forget = [](fuse_req_t r, fuse_ino_t id, uint64_t count) {
    static_cast<Operations*>(fuse_req_userdata(r))->forget(id, count);
    fuse_reply_none(r);
  };
  table->forget_multi = [](fuse_req_t r, size_t count, fuse_forget_data* forgets) {
    Operations& self = *static_cast<Operations*>(fuse_req_userdata(r));
    for (size_t i = 0; i < count; ++i) self.forget(forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(r);
  };
  table->getattr = [](fuse_req_t r, fuse_ino_t id, fuse_file_info*) {
    dispatch(
        r, Operation::kGetAttributes, id, [=](Operations& o, Worker& w) { o.get_attributes(w, r, id); },
        [=](const Operations& o) { return fmt::format("{}", o.ino_of(id)); });
  };
  table->readlink = [](fuse_req_t r, fuse_ino_t id) {
    dispatch(
        r, Operation::kReadLink, id, [=](Operations& o, Worker& w) { o.read_link(w, r, id); },
        [=](const Operations& o) { return fmt::format("{}", o.ino_of(id)); });
  };
  table->open = [](fuse_req_t r, fuse_ino_t id, fuse_file_info* info) {
    dispatch(
        r, Operation::kOpen, id, [=](Operations& o, Worker& w) { o.open(w, r, id, info); },
        [=](const Operations& o) { return fmt::format("{},{:#o}", o.ino_of(id), info->flags); });
  };
  table->read = [](fuse_req_t r, fuse_ino_t id, size_t size, off_t offset, fuse_file_info* info) {
    dispatch(
        r, Operation::kRead, id,
        [=](Operations& o, Worker& w) { o.read(w, r, id, size, static_cast<uint64_t>(offset), info); },
        [=](const Operations& o) { return fmt::format("{},{},{}", o.ino_of(id), size, offset); });
  };
  table->release = [](fuse_req_t r, fuse_ino_t id, fuse_file_info* info) {
    dispatch(
        r, Operation::kRelease, id, [=](Operations& o, Worker&) { o.release(r, id, info); },
        [=](const Operations& o) { return fmt::format("{}", o.ino_of(id)); });
  };
  table->opendir = [](fuse_req_t r, fuse_ino_t id, fuse_file_info* info) {
    dispatch(
        r, Operation::kOpenDirectory, id, [=](Operations& o, Worker& w) { o.open_directory(w, r, id, info); },
        [=](const Operations& o) { return fmt::format("{}", o.ino_of(id)); });
  };
  table->readdir = [](fuse_req_t r, fuse_ino_t id, size_t size, off_t cookie, fuse_file_info*) {
    dispatch(
        r, Operation::kReadDirectory, id,
        [=](Operations& o, Worker& w) {
          o.read_directory(w, r, id, size, static_cast<uint64_t>(cookie), false);
        },
        [=](const Operations& o) { return fmt::format("{},{},{}", o.ino_of(id), size, cookie); });
  };
  table->readdirplus = [](fuse_req_t r, fuse_ino_t id, size_t size, off_t cookie, fuse_file_info*) {
    dispatch(
        r, Operation::kReadDirectoryPlus, id,
        [=](Operations& o, Worker& w) {
          o.read_directory(w, r, id, size, static_cast<uint64_t>(cookie), true);
        },
        [=](const Operations& o) { return fmt::format("{},{},{}", o.ino_of(id), size, cookie); });
  };
  table->statfs = [](fuse_req_t r, fuse_ino_t id) {
    dispatch(
        r, Operation::kStatFs, id, [=](Operations& o, Worker& w) { o.statfs(w, r); },
        [](const Operations&) { return std::string(); });
  };
  table->getxattr = [](fuse_req_t r, fuse_ino_t id, const char* name, size_t size) {
    dispatch(
        r, Operation::kGetXattr, id, [=](Operations& o, Worker& w) { o.get_xattr(w, r, id, name, size); },
        [=](const Operations& o) { return fmt::format("{},{},{}", o.ino_of(id), printable(name), size); });
  };
  table->listxattr = [](fuse_req_t r, fuse_ino_t id, size_t size) {
    dispatch(
        r, Operation::kListXattr, id, [=](Operations& o, Worker& w) { o.list_xattr(w, r, id, size); },
        [=](const Operations& o) { return fmt::format("{},{}", o.ino_of(id), size); });
  };
}

void Operations::add_refused_operations(fuse_lowlevel_ops* table) {
  constexpr auto refuse = [](fuse_req_t request, fuse_ino_t id, auto...) { refuse_change(request, id); };
  table->setattr = refuse;
  table->mknod = refuse;
  table->mkdir = refuse;
  table->unlink = refuse;
  table->rmdir = refuse;
  table->rename = refuse;
  table->link = refuse;
  table->write = refuse;
  table->create = refuse;
  table->setxattr = refuse;
  table->removexattr = refuse;
  table->fallocate = refuse;
  table->copy_file_range = refuse;
  // Its first argument is the target.
  table->symlink = [](fuse_req_t request, const char*, fuse_ino_t parent, const char*) {
    refuse_change(request, parent);
  };
}

const fuse_lowlevel_ops& Operations::table() {
  static const fuse_lowlevel_ops operations = [] {
    fuse_lowlevel_ops table{};
    add_reading_operations(&table);
    add_refused_operations(&table);
    return table;
  }();
  return operations;
}

Status Operations::resolve(Worker& worker, Inode* inode) {
  std::optional<std::string> path = inodes_.path(inode);
  if (!path.has_value()) return Status(ESTALE, "the inode's path is not known any more");
  if (!subdirectory_.empty()) *path = path->empty() ? subdirectory_ : subdirectory_ + "/" + *path;
  const Result<shm::InodeInfo> found = worker.channel->resolve(inode->handle(), *path);
  if (!found.ok()) {
    const bool gone = found.error_number() == ENOENT || found.error_number() == ENOTDIR;
    return gone ? Status(ESTALE, "nothing is at the inode's path any more") : found.status();
  }
  if (found->handle != inode->handle()) return Status(ESTALE, "another inode is at the inode's path now");
  inode->adopt(*found);
  return Status();
}

Status Operations::refresh(Worker& worker, Inode* inode, uint64_t maximum_age_ns) {
  const Attributes known = inode->attributes();
  if (is_fresh(known.validated_at_ns, now_ns(), maximum_age_ns, known.immutable())) return Status();
  if (!client_.attached()) {
    shm::InodeInfo last_known;
    if (worker.channel->cached_attributes(inode->handle(), &last_known)) inode->adopt(last_known);
    return Status();
  }
  const Result<shm::InodeInfo> fresh = with_resolve(worker, inode, [&] {
    return worker.channel->attributes(inode->handle(), shm::Freshness{.maximum_age_ns = maximum_age_ns});
  });
  if (fresh.ok()) {
    inode->adopt(*fresh);
    return Status();
  }
  // The daemon went away while it was asked.
  if (fresh.error_number() == EIO && !client_.attached()) return Status();
  return fresh.status();
}

void Operations::after_invalidation(Inode* inode, std::function<void()> reply) {
  if (inode->pages_stale()) {
    // The operation ends on the invalidator's thread, and is logged there.
    invalidator_.drop_pages(inode, [this, reply = std::move(reply), record = AccessLog::take()] {
      AccessLog::resume(record);
      reply();
      access_log_.end();
    });
  } else {
    reply();
  }
}

bool Operations::note_revalidated(fuse_req_t request, Inode* inode) {
  if (!refusals_.settling(*inode)) return false;
  refusals_.note_revalidated(*inode, fuse_req_ctx(request)->pid);
  return true;
}

double Operations::name_seconds(uint64_t validated_at_ns, uint64_t now_ns, uint64_t timeout_ns,
                                bool immutable) const {
  const uint64_t rest = rest_ns(validated_at_ns, now_ns, timeout_ns, immutable);
  return to_seconds(tells_changes_ ? std::min(rest, kToldNameTimeoutNs) : rest);
}

fuse_entry_param Operations::entry_of(Inode& inode, uint64_t name_validated_at_ns) const {
  const Attributes attributes = inode.tell_attributes();
  const uint64_t now = now_ns();
  const bool immutable = attributes.immutable();
  fuse_entry_param entry{};
  entry.ino = inodes_.nodeid(&inode);
  entry.attr = to_stat(attributes);
  entry.attr_timeout =
      kernel_attribute_seconds(attributes.validated_at_ns, now, attribute_timeout_ns_, immutable);
  entry.entry_timeout = name_seconds(name_validated_at_ns, now, entry_timeout_ns_, immutable);
  return entry;
}

// Tells the kernel that there is no such name, and for how long it need not ask again.
void Operations::reply_absent(fuse_req_t request, const Inode& parent, uint64_t validated_at_ns) {
  const bool immutable = parent.attributes().immutable();
  fuse_entry_param entry{};
  entry.entry_timeout = name_seconds(validated_at_ns, now_ns(), negative_timeout_ns_, immutable);
  if (entry.entry_timeout > 0) {
    fuse_reply_entry(request, &entry);
  } else {
    reply_error(request, ENOENT);
  }
}

void Operations::lookup(Worker& worker, fuse_req_t request, fuse_ino_t parent_id, const char* name) {
  if (parent_id == kRootNodeId) {
    if (const VirtualFile* const file = virtual_file(name)) return reply_virtual_entry(request, *file);
  }
  if (std::strlen(name) > NAME_MAX) {
    reply_error(request, ENAMETOOLONG);
    return;
  }
  Inode* parent = inodes_.from_nodeid(parent_id);
  const auto ask = [&](uint64_t maximum_age_ns) {
    return with_resolve(worker, parent, [&] {
      return worker.channel->lookup(parent->handle(), name, shm::Freshness{.maximum_age_ns = maximum_age_ns});
    });
  };
  Result<shm::LookupResult> found = ask(entry_timeout_ns_);
  // Names that exist and names that do not may have different timeouts; which one counts is known only now.
  if (found.ok() && !found->exists && client_.attached() &&
      !is_fresh(found->name_validated_at_ns, now_ns(), negative_timeout_ns_,
                parent->attributes().immutable())) {
    found = ask(negative_timeout_ns_);
  }
  if (!found.ok()) {
    reply_error(request, found.error_number());
    return;
  }
  if (!found->exists) return reply_absent(request, *parent, found->name_validated_at_ns);
  Inode* inode = inodes_.reference(found->info, parent, name);
  after_invalidation(inode, [this, request, inode, validated_at_ns = found->name_validated_at_ns] {
    fuse_entry_param entry = entry_of(*inode, validated_at_ns);
    if (note_revalidated(request, inode)) entry.attr_timeout = 0;
    // An interrupted lookup does not count.
    if (fuse_reply_entry(request, &entry) != 0) inodes_.release(inode);
  });
}

void Operations::forget(fuse_ino_t id, uint64_t count) {
  if (Worker* worker = workers_.current(); worker != nullptr) worker->counters.count(Operation::kForget);
  if (!is_virtual(id)) inodes_.release(inodes_.from_nodeid(id), count);
}

void Operations::get_attributes(Worker& worker, fuse_req_t request, fuse_ino_t id) {
  if (is_virtual(id)) {
    const struct stat attributes = attributes_of(kVirtualFiles[id - kStatsNodeId], started_at_s_);
    fuse_reply_attr(request, &attributes, to_seconds(attribute_timeout_ns_));
    return;
  }
  Inode* inode = inodes_.from_nodeid(id);
  if (const Status status = refresh(worker, inode, attribute_timeout_ns_); !status.ok()) {
    reply_error(request, status.error_number());
    return;
  }
  after_invalidation(inode, [this, request, inode] {
    const Attributes attributes = inode->tell_attributes();
    const struct stat shown = to_stat(attributes);
    const double timeout_s = note_revalidated(request, inode)
                                 ? 0
                                 : kernel_attribute_seconds(attributes.validated_at_ns, now_ns(),
                                                            attribute_timeout_ns_, attributes.immutable());
    fuse_reply_attr(request, &shown, timeout_s);
  });
}

void Operations::read_link(Worker& worker, fuse_req_t request, fuse_ino_t id) {
  if (is_virtual(id)) {
    reply_error(request, EINVAL);
    return;
  }
  Inode* inode = inodes_.from_nodeid(id);
  const Result<std::string> target =
      with_resolve(worker, inode, [&] { return worker.channel->read_link(inode->handle()); });
  if (target.ok()) {
    fuse_reply_readlink(request, target->c_str());
  } else {
    reply_error(request, target.error_number());
  }
}

void Operations::statfs(Worker& worker, fuse_req_t request) {
  shm::VolumeStatistics statistics;
  Status status;
  if (client_.attached()) {
    const Result<shm::VolumeStatistics> fresh = worker.channel->statistics();
    status = fresh.status();
    if (fresh.ok()) statistics = *fresh;
  } else {
    const std::lock_guard lock(statistics_mutex_);
    statistics = last_statistics_;
  }
  if (!status.ok()) {
    reply_error(request, status.error_number());
    return;
  }
  {
    const std::lock_guard lock(statistics_mutex_);
    last_statistics_ = statistics;
  }
  struct statvfs shown {};
  shown.f_bsize = kStatFsBlockBytes;
  shown.f_frsize = kStatFsBlockBytes;
  shown.f_blocks = (statistics.bytes + kStatFsBlockBytes - 1) / kStatFsBlockBytes;
  shown.f_files = statistics.files;
  shown.f_namemax = NAME_MAX;
  fuse_reply_statfs(request, &shown);
}

Result<bool> Operations::has_no_xattrs(Worker& worker, Inode* inode) {
  CACHED_RETURN_IF_ERROR(refresh(worker, inode, attribute_timeout_ns_));
  return (inode->attributes().flags & shm::kInodeNoXattrs) != 0;
}

void Operations::get_xattr(Worker& worker, fuse_req_t request, fuse_ino_t id, const char* name, size_t size) {
  if (is_virtual(id)) {
    reply_error(request, ENODATA);
    return;
  }
  Inode* inode = inodes_.from_nodeid(id);
  const Result<bool> none = has_no_xattrs(worker, inode);
  if (!none.ok() || *none) {
    reply_error(request, none.ok() ? ENODATA : none.error_number());
    return;
  }
  const Result<std::string> value =
      with_resolve(worker, inode, [&] { return worker.channel->get_xattr(inode->handle(), name); });
  if (value.ok()) {
    reply_xattr(request, *value, size);
  } else {
    reply_error(request, value.error_number());
  }
}

void Operations::list_xattr(Worker& worker, fuse_req_t request, fuse_ino_t id, size_t size) {
  if (is_virtual(id)) return reply_xattr(request, "", size);
  Inode* inode = inodes_.from_nodeid(id);
  const Result<bool> none = has_no_xattrs(worker, inode);
  if (!none.ok()) {
    reply_error(request, none.error_number());
    return;
  }
  if (*none) return reply_xattr(request, "", size);
  const Result<std::string> names =
      with_resolve(worker, inode, [&] { return worker.channel->list_xattrs(inode->handle()); });
  if (names.ok()) {
    reply_xattr(request, *names, size);
  } else {
    reply_error(request, names.error_number());
  }
}

void Operations::reply_virtual_entry(fuse_req_t request, const VirtualFile& file) {
  fuse_entry_param entry{};
  entry.ino = file.nodeid;
  entry.attr = attributes_of(file, started_at_s_);
  entry.attr_timeout = to_seconds(attribute_timeout_ns_);
  entry.entry_timeout = to_seconds(entry_timeout_ns_);
  fuse_reply_entry(request, &entry);
}

StatsSnapshot Operations::snapshot() {
  StatsSnapshot snapshot;
  snapshot.volume = volume_;
  snapshot.attached = client_.attached();
  snapshot.inodes = inodes_.size();
  snapshot.workers = workers_.count();
  snapshot.page_invalidations = invalidator_.page_invalidations();
  snapshot.refused_reads = refused_reads_.load(std::memory_order_relaxed);
  snapshot.access_log_dropped = access_log_.dropped();
  snapshot.operations = workers_.operations();
  for (unsigned i = 0; i < snapshot.counters.size(); ++i) {
    snapshot.counters[i] = client_.counter(static_cast<shm::Counter>(i));
  }
  return snapshot;
}

}  // namespace cached::mount
