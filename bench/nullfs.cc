// cached-nullfs: the floor of every mount case: a FUSE server that does as little as a server can. It knows a
// fixed tree and answers reads from a static buffer, with the session settings of cached-mount.
#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <fstream>
#include <iostream>
#include <thread>

#include "base/unique_fd.h"
#include "base/units.h"
#include "bench/manifest.h"
#include "bench/null_tree.h"

namespace cached::bench {
namespace {

constexpr unsigned kMaximumIoBytes = 1024 * 1024;

struct NullOptions {
  std::string mountpoint;
  std::string arena = "1GiB";
  std::string memory = "memfd";
  std::string read_ahead = "1MiB";
  std::vector<std::string> files;
  std::vector<std::string> manifests;
  unsigned threads = 4;
  unsigned maximum_background = 64;
  double attribute_timeout_s = 1;
  double entry_timeout_s = 1;
  bool keep_cache = false;
};

// What every operation needs; the session's user data.
struct NullFs {
  NullOptions options;
  NullTree tree;
  char* arena = nullptr;
  uint64_t arena_bytes = 0;
};

const NullFs& of(fuse_req_t request) {
  return *static_cast<const NullFs*>(fuse_req_userdata(request));
}

fuse_entry_param entry_of(const NullFs& fs, uint64_t inode) {
  fuse_entry_param entry{};
  entry.ino = inode;
  entry.attr = fs.tree.attributes(inode);
  entry.attr_timeout = fs.options.attribute_timeout_s;
  entry.entry_timeout = fs.options.entry_timeout_s;
  return entry;
}

// The settings of cached-mount: what the kernel does on its side must not differ.
void set_up(void* user_data, fuse_conn_info* connection) {
  const NullFs& fs = *static_cast<const NullFs*>(user_data);
  connection->max_read = kMaximumIoBytes;
  connection->max_write = kMaximumIoBytes;  // libfuse derives the pages of a request from it, of reads too
  connection->max_background = fs.options.maximum_background;
  connection->congestion_threshold = fs.options.maximum_background * 3 / 4;
  const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_AUTO_INVAL_DATA |
                          FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_POSIX_ACL | FUSE_CAP_CACHE_SYMLINKS |
                          FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO;
  const unsigned unwanted =
      FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE;
  connection->want |= wanted & connection->capable;
  connection->want &= ~unwanted;
}

void look_up(fuse_req_t request, fuse_ino_t parent, const char* name) {
  const NullFs& fs = of(request);
  const uint64_t inode = fs.tree.lookup(parent, name);
  if (inode == 0) {
    fuse_reply_err(request, ENOENT);
    return;
  }
  const fuse_entry_param entry = entry_of(fs, inode);
  fuse_reply_entry(request, &entry);
}

void get_attributes(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
  const NullFs& fs = of(request);
  const struct stat status = fs.tree.attributes(inode);
  fuse_reply_attr(request, &status, fs.options.attribute_timeout_s);
}

void open_file(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
  file->keep_cache = of(request).options.keep_cache;
  fuse_reply_open(request, file);
}

void read_file(fuse_req_t request, fuse_ino_t inode, size_t length, off_t offset, fuse_file_info*) {
  const NullFs& fs = of(request);
  const uint64_t file_bytes = fs.tree.size_bytes(inode);
  const uint64_t from = std::min(static_cast<uint64_t>(offset), file_bytes);
  const uint64_t bytes = std::min<uint64_t>(length, file_bytes - from);
  const uint64_t start = (from + fs.tree.data_offset(inode)) % fs.arena_bytes;
  const uint64_t before_the_end = std::min(bytes, fs.arena_bytes - start);
  const iovec pieces[] = {{fs.arena + start, before_the_end}, {fs.arena, bytes - before_the_end}};
  fuse_reply_iov(request, pieces, before_the_end == bytes ? 1 : 2);
}

// ENOSYS once, and the kernel asks no more.
void flush_file(fuse_req_t request, fuse_ino_t, fuse_file_info*) {
  fuse_reply_err(request, ENOSYS);
}

void release_file(fuse_req_t request, fuse_ino_t, fuse_file_info*) {
  fuse_reply_err(request, 0);
}

void list_directory(fuse_req_t request, fuse_ino_t directory, size_t room, off_t offset,
                    bool with_attributes) {
  const NullFs& fs = of(request);
  std::vector<char> buffer(room);
  size_t used = 0;
  const std::vector<NullTree::Child>& children = fs.tree.children(directory);
  for (size_t i = static_cast<size_t>(offset); i < children.size(); ++i) {
    const fuse_entry_param entry = entry_of(fs, children[i].inode);
    const char* name = children[i].name->c_str();
    const off_t next = static_cast<off_t>(i + 1);
    const size_t need =
        with_attributes
            ? fuse_add_direntry_plus(request, buffer.data() + used, room - used, name, &entry, next)
            : fuse_add_direntry(request, buffer.data() + used, room - used, name, &entry.attr, next);
    if (need > room - used) break;
    used += need;
  }
  fuse_reply_buf(request, buffer.data(), used);
}

void read_directory(fuse_req_t request, fuse_ino_t directory, size_t room, off_t offset, fuse_file_info*) {
  list_directory(request, directory, room, offset, false);
}

void read_directory_plus(fuse_req_t request, fuse_ino_t directory, size_t room, off_t offset,
                         fuse_file_info*) {
  list_directory(request, directory, room, offset, true);
}

fuse_lowlevel_ops operations() {
  fuse_lowlevel_ops table{};
  table.init = set_up;
  table.lookup = look_up;
  table.getattr = get_attributes;
  table.open = open_file;
  table.read = read_file;
  table.flush = flush_file;
  table.release = release_file;
  table.readdir = read_directory;
  table.readdirplus = read_directory_plus;
  return table;
}

// Maps the buffer and touches all of it, so that no read pays for a page's first use.
Status make_arena(NullFs* fs) {
  Result<uint64_t> bytes = parse_size(fs->options.arena);
  if (!bytes.ok()) return bytes.status().with_context("--arena");
  fs->arena_bytes = align_up(*bytes, 4096);
  UniqueFd memory;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  if (fs->options.memory == "memfd") {
    memory.reset(::memfd_create("nullfs-arena", MFD_CLOEXEC));
    if (!memory.valid() || ::ftruncate(memory.get(), static_cast<off_t>(fs->arena_bytes)) != 0) {
      return Status::from_errno("cannot make a memfd of " + fs->options.arena);
    }
    flags = MAP_SHARED;
  }
  void* mapped = ::mmap(nullptr, fs->arena_bytes, PROT_READ | PROT_WRITE, flags, memory.get(), 0);
  if (mapped == MAP_FAILED) return Status::from_errno("cannot map " + fs->options.arena);
  std::memset(mapped, 'n', fs->arena_bytes);
  fs->arena = static_cast<char*>(mapped);
  return Status();
}

Status make_tree(NullFs* fs) {
  for (const std::string& file : fs->options.files) {
    const size_t colon = file.rfind(':');
    if (colon == std::string::npos) return Status(EINVAL, "--file: not NAME:SIZE: " + file);
    Result<uint64_t> bytes = parse_size(file.substr(colon + 1));
    if (!bytes.ok()) return bytes.status().with_context("--file " + file);
    CACHED_RETURN_IF_ERROR(fs->tree.add_file(file.substr(0, colon), *bytes));
  }
  for (const std::string& manifest : fs->options.manifests) {
    Result<std::vector<ManifestEntry>> entries = read_manifest(manifest);
    if (!entries.ok()) return entries.status();
    for (const ManifestEntry& entry : *entries)
      CACHED_RETURN_IF_ERROR(fs->tree.add_file(entry.path, entry.size_bytes));
  }
  return Status();
}

// The kernel bounds read-ahead by its own default whatever INIT says; what counts is the mount's bdi, after
// INIT.
Status set_read_ahead(const NullOptions& options) {
  Result<uint64_t> bytes = parse_size(options.read_ahead);
  if (!bytes.ok()) return bytes.status().with_context("--read-ahead");
  struct stat root {};
  // Answered by our own threads, and only once INIT is done.
  if (::stat(options.mountpoint.c_str(), &root) != 0) return Status::from_errno("stat " + options.mountpoint);
  const std::string path = "/sys/class/bdi/" + std::to_string(major(root.st_dev)) + ":" +
                           std::to_string(minor(root.st_dev)) + "/read_ahead_kb";
  std::ofstream file(path);
  file << *bytes / kKiB << std::flush;
  return file ? Status() : Status(EIO, "cannot write " + path);
}

int serve(NullFs* fs, fuse_session* session) {
  fuse_loop_config* loop = fuse_loop_cfg_create();
  fuse_loop_cfg_set_clone_fd(loop, 1);
  fuse_loop_cfg_set_max_threads(loop, fs->options.threads);
  std::thread tuner([fs] {
    if (Status status = set_read_ahead(fs->options); !status.ok()) {
      std::cerr << "cached-nullfs: " << status.message() << '\n';
    }
  });
  const int result = fuse_session_loop_mt(session, loop);
  fuse_loop_cfg_destroy(loop);
  fuse_session_unmount(session);  // before the join: it ends a stat() that nobody answers any more
  tuner.join();
  return result;
}

int mount_and_serve(NullFs* fs) {
  const char* arguments[] = {
      "cached-nullfs", "-o",
      "ro,allow_other,default_permissions,max_read=1048576,fsname=nullfs,subtype=cached-nullfs"};
  fuse_args args = FUSE_ARGS_INIT(3, const_cast<char**>(arguments));
  const fuse_lowlevel_ops table = operations();
  fuse_session* session = fuse_session_new(&args, &table, sizeof table, fs);
  if (session == nullptr) return 1;
  int result = 1;
  if (fuse_set_signal_handlers(session) == 0) {
    if (fuse_session_mount(session, fs->options.mountpoint.c_str()) == 0) result = serve(fs, session);
    fuse_remove_signal_handlers(session);
  }
  fuse_session_destroy(session);
  fuse_opt_free_args(&args);
  return result >= 0 ? 0 : 1;  // a positive number is the signal that ended the loop
}

void add_options(CLI::App* app, NullOptions* options) {
  app->add_option("MOUNTPOINT", options->mountpoint, "directory to mount on")->required();
  app->add_option("--arena", options->arena, "size of the buffer that reads are answered from")
      ->capture_default_str();
  app->add_option("--memory", options->memory, "what the buffer is made of")
      ->check(CLI::IsMember({"memfd", "anonymous"}))
      ->capture_default_str();
  app->add_option("--file", options->files, "NAME:SIZE of a file; may be given again");
  app->add_option("--tree", options->manifests,
                  "list with a line 'SIZE PATH' for each file; may be given again");
  app->add_option("--threads", options->threads, "threads, each with a /dev/fuse descriptor")
      ->capture_default_str();
  app->add_option("--max-background", options->maximum_background,
                  "background requests the kernel sends at one time")
      ->capture_default_str();
  app->add_option("--attr-timeout", options->attribute_timeout_s, "seconds")->capture_default_str();
  app->add_option("--entry-timeout", options->entry_timeout_s, "seconds")->capture_default_str();
  app->add_option("--read-ahead", options->read_ahead, "the kernel's read-ahead")->capture_default_str();
  app->add_flag("--keep-cache", options->keep_cache, "keep the kernel's pages from one open to the next");
}

}  // namespace
}  // namespace cached::bench

int main(int argc, char** argv) {
  using namespace cached::bench;
  NullFs fs;
  CLI::App app(
      "Mounts a tree of files without content and answers reads from a static buffer; stays in the "
      "foreground.",
      "cached-nullfs");
  add_options(&app, &fs.options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return 0;
  } catch (const CLI::ParseError& error) {
    std::cerr << "cached-nullfs: " << error.what() << '\n';
    return 2;
  }
  cached::Status status = make_tree(&fs);
  if (status.ok()) status = make_arena(&fs);
  if (!status.ok()) {
    std::cerr << "cached-nullfs: " << status.message() << '\n';
    return 2;
  }
  return mount_and_serve(&fs);
}
