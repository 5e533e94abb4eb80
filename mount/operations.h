// The FUSE operations: what the kernel asks, answered from the client library.
//
// Each request runs on one of libfuse's worker threads, with that thread's channel, and ends with one reply;
// the few replies that have to wait for an invalidation of pages are handed to the invalidator with all they
// need.
//
// Freshness. What an inode knows of itself may be used for `attr_timeout` after it was validated at the
// source, here and in the kernel together (freshness.h). With the daemon away it is used for as long as that
// lasts: a read-only mount does not fail for want of fresher attributes.
//
// A file that changed in place. Files of a dir: volume may be written at the source while the kernel holds
// pages of them. Whoever learns of a new object id adopts it, which marks the kernel's pages as stale if it
// may have any. Then
//
// - GETATTR, LOOKUP and OPEN, with which a read() begins, are answered after the pages were dropped;
// - a buffered READ may belong to a read() that has copied old pages: it is refused (refusals.h), and the
//   attributes are expired so that the next read() begins with GETATTR. If no page was ever served, the new
//   bytes are served at once;
// - a direct READ involves no pages: the new bytes at once, and the attributes are expired for the others;
// - an entry of READDIRPLUS goes out without attributes, so that the kernel has to ask.
//
// All that is left is the mapping of a file that changes: it shows the new version page by page, as the
// manual says.
//
// After the reply to a request nothing that the request kept alive may be touched: the kernel may forget the
// inode or release the open file at once.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "mount/access_log.h"
#include "mount/fuse.h"
#include "mount/inode_table.h"
#include "mount/invalidator.h"
#include "mount/options.h"
#include "mount/refusals.h"
#include "mount/virtual_files.h"
#include "mount/worker.h"
#include "shm/client.h"

namespace cached::mount {

class Operations {
 public:
  // `client` must outlive it. `options` is copied as far as needed.
  // `root` is the directory to show: the volume's root, or the subdirectory that `options` names.
  Operations(shm::Client& client, const shm::InodeInfo& root, const Options& options);

  // libfuse's table; the session's user data must be the Operations.
  static const fuse_lowlevel_ops& table();
  // Starts the invalidator and listens to the daemon; both talk to the kernel through `session`.
  void start(fuse_session* session);
  Invalidator& invalidator() { return invalidator_; }
  // Replies to all requests that wait for something to happen, and listens to the daemon no more. The loop
  // has ended, the session has not.
  void end_waiting() {
    access_log_.shut_down();
    client_.on_notices(nullptr);
  }

 private:
  static void set_up_connection(fuse_conn_info* connection);
  // Runs `body` on the thread's worker. `id` and `arguments()` describe the operation for `.accesslog`.
  template <typename Body, typename Arguments>
  static void dispatch(fuse_req_t request, Operation operation, fuse_ino_t id, const Body& body,
                       const Arguments& arguments);
  // The number by which the inode is known outside.
  uint64_t ino_of(fuse_ino_t id) const { return inodes_.from_nodeid(id)->attributes().ino; }
  static void refuse_change(fuse_req_t request, fuse_ino_t id);
  static void add_reading_operations(fuse_lowlevel_ops* table);
  static void add_refused_operations(fuse_lowlevel_ops* table);

  // operations.cc: names and attributes
  void lookup(Worker& worker, fuse_req_t request, fuse_ino_t parent_id, const char* name);
  void forget(fuse_ino_t id, uint64_t count);
  void get_attributes(Worker& worker, fuse_req_t request, fuse_ino_t id);
  void read_link(Worker& worker, fuse_req_t request, fuse_ino_t id);
  void statfs(Worker& worker, fuse_req_t request);
  void get_xattr(Worker& worker, fuse_req_t request, fuse_ino_t id, const char* name, size_t size);
  void list_xattr(Worker& worker, fuse_req_t request, fuse_ino_t id, size_t size);
  void reply_absent(fuse_req_t request, const Inode& parent, uint64_t validated_at_ns);
  void reply_virtual_entry(fuse_req_t request, const VirtualFile& file);
  // Entry parameters of `inode`, whose name was validated at `name_validated_at_ns`.
  fuse_entry_param entry_of(Inode& inode, uint64_t name_validated_at_ns) const;
  // For how long the kernel may believe what was validated about a name, of the time that the mount gives.
  double name_seconds(uint64_t validated_at_ns, uint64_t now_ns, uint64_t timeout_ns, bool immutable) const;
  // Notes that the thread behind `request` is about to learn the attributes of `inode`, if that matters.
  // True: it does, and the kernel must ask again each time (refusals.h).
  bool note_revalidated(fuse_req_t request, Inode* inode);
  // Runs `reply` now, or, if the kernel's pages of `inode` are stale, after they were dropped.
  void after_invalidation(Inode* inode, std::function<void()> reply);
  // Makes the attributes of `inode` at most `maximum_age_ns` old. While the daemon is away: as good as can be
  // had.
  Status refresh(Worker& worker, Inode* inode, uint64_t maximum_age_ns);
  // Whether the inode is known to have no extended attributes, as of attributes that are fresh.
  Result<bool> has_no_xattrs(Worker& worker, Inode* inode);
  // Gives the daemon a handle back that it forgot. ESTALE if another inode is at that path now.
  Status resolve(Worker& worker, Inode* inode);
  // `call()`, repeated once after resolve() if the daemon does not know the handle of `inode`.
  template <typename Call>
  auto with_resolve(Worker& worker, Inode* inode, const Call& call) -> decltype(call());

  // operations_file.cc: open files
  void open(Worker& worker, fuse_req_t request, fuse_ino_t id, const fuse_file_info* info);
  void open_virtual(fuse_req_t request, fuse_ino_t id, const fuse_file_info* info);
  void release(fuse_req_t request, fuse_ino_t id, const fuse_file_info* info);
  void read(Worker& worker, fuse_req_t request, fuse_ino_t id, size_t size, uint64_t offset,
            const fuse_file_info* info);
  void read_virtual(fuse_req_t request, fuse_ino_t id, size_t size, uint64_t offset,
                    const fuse_file_info* info);
  struct ReadRequest;
  bool keep_cache(const Inode& inode) const;
  Status refresh_for_read(Worker& worker, const ReadRequest& read, ReadSource* source);
  bool refuse_read(const ReadRequest& read, const ReadSource& source, bool beyond_end);
  bool serve_read(Worker& worker, const ReadRequest& read, const ReadSource& source, Status* error);
  static void reply_read(const ReadRequest& read, shm::ReadView view);
  Status recover_read(Worker& worker, const ReadRequest& read, const Status& error);

  // operations_notice.cc: what the daemon tells of changes
  void take_notices(const std::vector<shm::Notice>& notices);
  void outdate(Inode* inode, uint64_t told_at_ns);

  // operations_directory.cc: listings
  class Listing;
  void open_directory(Worker& worker, fuse_req_t request, fuse_ino_t id, const fuse_file_info* info);
  void read_directory(Worker& worker, fuse_req_t request, fuse_ino_t id, size_t size, uint64_t cookie,
                      bool plus);

  StatsSnapshot snapshot();
  uint64_t now_ns() const;

  shm::Client& client_;
  const std::string volume_;
  const std::string subdirectory_;  // what is shown of the volume; empty: all of it
  const std::string config_text_;   // of `.config`
  const uint64_t attribute_timeout_ns_;
  const uint64_t entry_timeout_ns_;
  const uint64_t negative_timeout_ns_;
  const int64_t started_at_s_;

  InodeTable inodes_;
  Workers workers_;
  Refusals refusals_;
  Invalidator invalidator_;
  const bool tells_changes_;  // of the volume: the daemon says what changed
  AccessLog access_log_;
  std::atomic<uint64_t> refused_reads_{0};

  std::mutex statistics_mutex_;
  shm::VolumeStatistics last_statistics_;  // answers statfs while the daemon is away
};

template <typename Call>
auto Operations::with_resolve(Worker& worker, Inode* inode, const Call& call) -> decltype(call()) {
  auto result = call();
  if (result.ok() || worker.channel->trouble() != shm::Trouble::kHandleUnknown) return result;
  Status resolved = resolve(worker, inode);
  if (!resolved.ok()) return resolved;
  return call();
}

}  // namespace cached::mount
