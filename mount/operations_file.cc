// Open files: open, read, release. The hot path of the whole mount is read(): a spin lock twice, one look at
// the clock, the client library, one writev().
#include <fcntl.h>

#include "base/clock.h"
#include "base/units.h"
#include "mount/freshness.h"
#include "mount/operations.h"
#include "mount/read_ahead.h"

namespace cached::mount {

namespace {

// A file whose times are this near may be written to at this moment: its pages are not kept from one open to
// the next.
constexpr int64_t kFluxSeconds = 3;
// A READ of a file that changes again and again is tried with this many versions.
constexpr unsigned kMaximumAttempts = 4;
// How long a refused READ waits until the kernel was told to forget the attributes. Long enough for the
// notice in all but odd cases, and bounded: the READ holds page locks for which the invalidator may be
// waiting.
constexpr std::chrono::milliseconds kExpiryWait{10};

bool is_recent(int64_t time_s, int64_t now_s) {
  return now_s - time_s < kFluxSeconds && time_s - now_s < kFluxSeconds;
}

// Whether the kernel believes that the file is longer than it is: it was told a size that this READ does not
// reach, or asks for pages behind the end. It would fill up a short answer with zeros and show them up to the
// size it believes in. That holds for direct READs too: what they leave short the kernel reads again through
// its pages. Only, they may reach beyond the end without any misbelief, by up to a whole request.
bool reaches_beyond_end(uint64_t offset, uint64_t size, bool direct, const ReadSource& source) {
  const uint64_t end = offset + size;
  return (source.told_size > source.size && end > source.size) ||
         (!direct && end > align_up(source.size, shm::kPageBytes));
}

// What the kernel's file handle of a virtual file points to: the text as of open, or a reader of the log.
std::string* virtual_text(const fuse_file_info* info) {
  return reinterpret_cast<std::string*>(info->fh);
}
AccessLog::Reader* log_reader(const fuse_file_info* info) {
  return reinterpret_cast<AccessLog::Reader*>(info->fh);
}
OpenFile* open_file(const fuse_file_info* info) {
  return reinterpret_cast<OpenFile*>(info->fh);
}

}  // namespace

// A READ under way. `inode` and `file` are valid until the reply.
struct Operations::ReadRequest {
  fuse_req_t request;
  Inode* inode;
  OpenFile* file;
  uint64_t offset;
  uint64_t size;
  bool direct;
};

// The kernel may keep the pages that it has over an open if they are of the present version, and no other is
// about to be written. Asked after an invalidation, if there was one.
bool Operations::keep_cache(const Inode& inode) const {
  const Attributes attributes = inode.attributes();
  if (attributes.immutable()) return true;
  const int64_t now_s = system_clock().realtime_ns() / 1'000'000'000;
  return !inode.pages_stale() && !is_recent(attributes.mtime_s, now_s) &&
         !is_recent(attributes.ctime_s, now_s);
}

void Operations::open(Worker& worker, fuse_req_t request, fuse_ino_t id, const fuse_file_info* info) {
  if ((info->flags & O_ACCMODE) != O_RDONLY || (info->flags & O_TRUNC) != 0) {
    reply_error(request, EROFS);
    return;
  }
  if (is_virtual(id)) return open_virtual(request, id, info);
  Inode* inode = inodes_.from_nodeid(id);
  if (const Status status = refresh(worker, inode, attribute_timeout_ns_); !status.ok()) {
    reply_error(request, status.error_number());
    return;
  }
  after_invalidation(inode, [this, request, inode, reply = *info]() mutable {
    note_revalidated(request, inode);
    auto file = std::make_unique<OpenFile>();
    reply.fh = reinterpret_cast<uint64_t>(file.get());
    reply.keep_cache = keep_cache(*inode) ? 1 : 0;
    // An interrupted open is not released.
    if (fuse_reply_open(request, &reply) == 0) static_cast<void>(file.release());
  });
}

void Operations::open_virtual(fuse_req_t request, fuse_ino_t id, const fuse_file_info* info) {
  fuse_file_info reply = *info;
  reply.direct_io = 1;
  if (id == kAccessLogNodeId) {
    AccessLog::Reader* const reader = access_log_.open();
    if (reader == nullptr) return reply_error(request, EMFILE);
    reply.fh = reinterpret_cast<uint64_t>(reader);
    reply.nonseekable = 1;
    if (fuse_reply_open(request, &reply) != 0) access_log_.close(reader);
    return;
  }
  auto text = std::make_unique<std::string>(id == kStatsNodeId ? render_stats(snapshot()) : config_text_);
  reply.fh = reinterpret_cast<uint64_t>(text.get());
  if (fuse_reply_open(request, &reply) == 0) static_cast<void>(text.release());
}

void Operations::release(fuse_req_t request, fuse_ino_t id, const fuse_file_info* info) {
  if (id == kAccessLogNodeId) {
    access_log_.close(log_reader(info));
  } else if (is_virtual(id)) {
    delete virtual_text(info);
  } else {
    delete open_file(info);
  }
  reply_error(request, 0);
}

void Operations::read_virtual(fuse_req_t request, fuse_ino_t id, size_t size, uint64_t offset,
                              const fuse_file_info* info) {
  if (id == kAccessLogNodeId) return access_log_.read(request, log_reader(info), size);
  const std::string& text = *virtual_text(info);
  if (offset >= text.size()) {
    fuse_reply_buf(request, nullptr, 0);
    return;
  }
  fuse_reply_buf(request, text.data() + offset, std::min(size, text.size() - offset));
}

void Operations::reply_read(const ReadRequest& read, shm::ReadView view) {
  // With one piece libfuse needs no memory of its own.
  if (view.iovec_count() == 1) {
    fuse_reply_buf(read.request, static_cast<const char*>(view.iovecs()->iov_base), view.iovecs()->iov_len);
  } else {
    fuse_reply_iov(read.request, view.iovecs(), static_cast<int>(view.iovec_count()));
  }
}

// Brings `source` up to date if it is too old. If that brought a new version while the kernel has pages of
// the old one, a direct READ sees to it that the kernel asks before it uses them; a buffered one does so when
// it is refused.
Status Operations::refresh_for_read(Worker& worker, const ReadRequest& read, ReadSource* source) {
  if (is_fresh(source->validated_at_ns, now_ns(), attribute_timeout_ns_, source->immutable)) return Status();
  const bool was_refusing = source->refusing;
  CACHED_RETURN_IF_ERROR(refresh(worker, read.inode, attribute_timeout_ns_));
  *source = read.inode->read_source();
  if (read.direct && source->refusing && !was_refusing) {
    invalidator_.expire_attributes(read.inode, std::chrono::milliseconds{0});
  }
  return Status();
}

// Refuses a buffered READ that may belong to a read() that has copied bytes of an older version, see
// refusals.h, and every one that reaches beyond the end of the file: for a page fault that is SIGBUS, as for
// any file that was truncated. False: it is to be served.
bool Operations::refuse_read(const ReadRequest& read, const ReadSource& source, bool beyond_end) {
  const pid_t thread = fuse_req_ctx(read.request)->pid;
  if (!source.refusing && !beyond_end) {
    if (!refusals_.settling(*read.inode) || refusals_.revalidated(*read.inode, thread)) return false;
  }
  if (!beyond_end && !refusals_.refuse(*read.inode, read.offset, read.size, thread)) {
    // A page fault: nobody is going to ask for the attributes, so the old pages are dropped without that.
    if (source.refusing) invalidator_.drop_pages(read.inode, {});
    return false;
  }
  refused_reads_.fetch_add(1, std::memory_order_relaxed);
  // While it settles, the kernel's attributes have no life of their own.
  if (source.refusing || beyond_end) invalidator_.expire_attributes(read.inode, kExpiryWait);
  reply_error(read.request, ESTALE);
  return true;
}

// Reads and replies. False with an ok error: the file changed meanwhile, nothing was sent. False otherwise:
// failed.
bool Operations::serve_read(Worker& worker, const ReadRequest& read, const ReadSource& source,
                            Status* error) {
  const uint64_t length = read.offset < source.size ? std::min(read.size, source.size - read.offset) : 0;
  shm::ReadView view;
  if (length > 0) {
    worker.channel->set_user(fuse_req_ctx(read.request)->uid);
    Result<shm::ReadView> result = worker.channel->read(source.file, read.offset, length);
    if (!result.ok()) {
      *error = result.status();
      return false;
    }
    view = std::move(result).value();
  }
  *error = Status();
  if (!read.direct && !read.inode->commit_read(source.file.object)) return false;
  const Range ahead = read.file->observe(read.offset, length, source.size);
  if (length > 0) {
    reply_read(read, std::move(view));
  } else {
    fuse_reply_buf(read.request, nullptr, 0);
  }
  for_each_hint(ahead, source.file.layout_base, [&](uint64_t begin, uint64_t hint_length) {
    worker.channel->prefetch(source.file, begin, hint_length);
  });
  return true;
}

// Removes the cause of a failed read, if it can be removed; else returns the error.
Status Operations::recover_read(Worker& worker, const ReadRequest& read, const Status& error) {
  switch (worker.channel->trouble()) {
    case shm::Trouble::kHandleUnknown:
      return resolve(worker, read.inode);
    case shm::Trouble::kObjectChanged:
      return refresh(worker, read.inode, 0);
    case shm::Trouble::kNone:
      break;
  }
  return error;
}

void Operations::read(Worker& worker, fuse_req_t request, fuse_ino_t id, size_t size, uint64_t offset,
                      const fuse_file_info* info) {
  if (is_virtual(id)) return read_virtual(request, id, size, offset, info);
  const ReadRequest read{.request = request,
                         .inode = inodes_.from_nodeid(id),
                         .file = open_file(info),
                         .offset = offset,
                         .size = std::min<uint64_t>(size, shm::kMaximumReadBytes),
                         .direct = (info->flags & O_DIRECT) != 0};
  Status error(ESTALE, "the file keeps changing");
  for (unsigned attempt = 0; attempt < kMaximumAttempts; ++attempt) {
    ReadSource source = read.inode->read_source();
    if (error = refresh_for_read(worker, read, &source); !error.ok()) break;
    const bool beyond_end = reaches_beyond_end(read.offset, read.size, read.direct, source);
    const bool suspicious = beyond_end || (!read.direct && (source.refusing || source.settling));
    if (suspicious && refuse_read(read, source, beyond_end)) return;
    if (serve_read(worker, read, source, &error)) return;
    if (error.ok()) {
      error = Status(ESTALE, "the file keeps changing");
      continue;
    }
    if (const Status recovered = recover_read(worker, read, error); !recovered.ok()) {
      error = recovered;
      break;
    }
  }
  reply_error(request, error.error_number());
}

}  // namespace cached::mount
