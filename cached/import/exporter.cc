// Writing a snapshot out: see exporter.h.
#include "cached/import/exporter.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <future>
#include <mutex>
#include <unordered_map>

#include "base/log.h"
#include "cached/import/snapshot_access.h"
#include "cached/import/source_tree.h"
#include "cached/import/volume_head.h"
#include "cached/import/worker_pool.h"
#include "cached/volume/lru_map.h"

namespace cached::import {
namespace {

using StorePointer = std::shared_ptr<origin::ObjectStore>;
using volume::Entry;
using volume::EntryKind;

constexpr size_t kEntriesAtOnce = 1000;
constexpr size_t kPacksKept = 16;
constexpr size_t kObjectsKept = 64;

using Bytes = std::shared_ptr<const std::vector<std::byte>>;

// A data object with what proves it.
struct ProvableObject {
  volume::ObjectLayout layout;
  std::vector<uint64_t> checksums;
};

// Reads pieces and proves them. A pack is fetched once for all of its files that are written about now.
class PieceReader {
 public:
  PieceReader(StorePointer store, std::string volume)
      : store_(std::move(store)), volume_(std::move(volume)) {}

  Result<Bytes> read(const ProvableObject& object, uint64_t piece) {
    if ((object.layout.record().flags & volume::kObjectPack) == 0) return fetch(object, piece);
    std::promise<Result<Bytes>> promise;
    std::shared_future<Result<Bytes>> future;
    bool ours = false;
    {
      const std::lock_guard lock(mutex_);
      if (const auto* const kept = packs_.get(object.layout.record().id)) {
        future = *kept;
      } else {
        future = promise.get_future().share();
        packs_.put(object.layout.record().id, future);
        ours = true;
      }
    }
    if (ours) promise.set_value(fetch(object, piece));
    return future.get();
  }

 private:
  Result<Bytes> fetch(const ProvableObject& object, uint64_t piece) {
    const uint64_t logical =
        std::min(volume::kPieceBytes, object.layout.size() - piece * volume::kPieceBytes);
    const uint64_t stored = object.layout.stored_bytes(piece);
    auto bytes = std::make_shared<std::vector<std::byte>>(logical);
    std::vector<iovec> iovecs{{bytes->data(), stored}};
    const origin::ObjectName name = volume::piece_name(volume_, object.layout.record().id, piece);
    const Result<uint64_t> got = store_->read(name, 0, std::move(iovecs)).wait();
    if (!got.ok()) return got.status();
    if (*got != stored) return Status(EIO, name.name + " is shorter than it was");
    for (uint64_t block = 0; block < object.layout.blocks_of(piece); ++block) {
      const uint64_t at = block * volume::kChecksumBlockBytes;
      const auto content =
          std::span(*bytes).subspan(at, std::min<uint64_t>(volume::kChecksumBlockBytes, logical - at));
      if (volume::block_checksum(content) !=
          object.checksums[*object.layout.checksum_of_block(piece * volume::kBlocksPerPiece + block)]) {
        return Status(EIO, name.name + " has other bytes than were imported");
      }
    }
    return Bytes(std::move(bytes));
  }

  const StorePointer store_;
  const std::string volume_;
  std::mutex mutex_;  // guards packs_
  volume::LruMap<shm::ObjectId, std::shared_future<Result<Bytes>>> packs_{kPacksKept};
};

Status write_fully(int fd, std::span<const std::byte> bytes, uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Status::from_errno("cannot be written");
    bytes = bytes.subspan(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
  return Status();
}

class Export {
 public:
  Export(const StorePointer& store, const ExportOptions& options, ExportProgress* progress)
      : store_(store), options_(options), progress_(progress), pieces_(store, options.volume) {}

  Result<ExportReport> run() {
    CACHED_RETURN_IF_ERROR(open());
    CACHED_RETURN_IF_ERROR(make_tree());
    make_links();
    finish_directories();
    report_.entries = progress_->entries;
    report_.bytes = progress_->bytes;
    return report_;
  }

 private:
  struct Attributes {
    volume::AttributeRecord record;
    std::vector<volume::Xattr> xattrs;
  };
  struct Directory {
    std::string path;
    Entry entry;
  };
  // A file whose pieces are written by several jobs; the last one gives it its attributes.
  struct File {
    std::string path;
    Entry entry;
    Attributes attributes;
    UniqueFd fd;
    std::shared_ptr<const ProvableObject> object;
    std::atomic<uint64_t> left{0};
  };

  void problem(const std::string& path, const std::string& what) {
    const std::lock_guard lock(mutex_);
    ++report_.problem_count;
    if (report_.problems.size() < kMaximumExportProblems)
      report_.problems.push_back(printable(path.empty() ? "." : path) + ": " + what);
  }
  void problem_errno(const std::string& path, const char* what) {
    problem(path, Status::from_errno(what).message());
  }

  Status open() {
    const Result<volume::Head> head = load_head(*store_, options_.volume);
    if (!head.ok()) return head.status();
    const uint64_t number = options_.snapshot == 0 ? head->current : options_.snapshot;
    const volume::SnapshotMark* const mark = head->find_snapshot(number);
    if (mark == nullptr)
      return Status(ENOENT, fmt::format("volume {} has no snapshot {}", options_.volume, number));
    report_.snapshot = number;
    Result<std::unique_ptr<SnapshotAccess>> snapshot = SnapshotAccess::open(store_, options_.volume, *mark);
    if (!snapshot.ok()) return snapshot.status();
    snapshot_ = std::move(snapshot).value();
    progress_->total_entries = snapshot_->record().entries;
    progress_->total_bytes = snapshot_->record().bytes;
    if (::mkdir(options_.directory.c_str(), 0700) != 0 && errno != EEXIST)
      return Status::from_errno("cannot make the directory " + options_.directory);
    Result<std::unique_ptr<SourceTree>> target = SourceTree::open(options_.directory, 0);
    if (!target.ok()) return target.status();
    target_ = std::move(target).value();
    const Result<std::vector<std::string>> present = target_->list(target_->root_fd());
    if (!present.ok()) return present.status().with_context(options_.directory);
    if (!present->empty())
      return Status(ENOTEMPTY, options_.directory + " is not empty; name an empty or a new directory");
    return Status();
  }

  Result<Attributes> attributes_of(const Entry& entry) {
    const Result<volume::AttributeRecord> record =
        volume::run_blocking(snapshot_->reader().attributes(entry.attributes));
    if (!record.ok()) return record.status();
    Result<std::vector<volume::Xattr>> xattrs = volume::run_blocking(snapshot_->reader().xattrs(*record));
    if (!xattrs.ok()) return xattrs.status();
    return Attributes{*record, std::move(xattrs).value()};
  }

  Status make_tree() {
    WorkerPool pool("export", options_.threads, 2 * options_.threads);
    pool_ = &pool;
    const Result<Entry> root = volume::run_blocking(snapshot_->reader().entry(0));
    if (!root.ok()) return root.status();
    directories_.push_back({"", *root});
    ++progress_->entries;
    for (size_t i = 0; i < directories_.size(); ++i) {
      CACHED_RETURN_IF_ERROR(fill_directory(directories_[i].path, directories_[i].entry.own_directory));
    }
    return Status();
  }

  Status fill_directory(const std::string path, uint32_t number) {
    Result<UniqueFd> opened = target_->open_directory(path);
    if (!opened.ok()) return opened.status();
    const auto fd = std::make_shared<const UniqueFd>(std::move(opened).value());
    for (uint64_t from = 0;;) {
      const auto entries = volume::run_blocking(snapshot_->reader().list(number, from, kEntriesAtOnce));
      if (!entries.ok()) return entries.status();
      for (const Entry& entry : *entries) {
        const std::string child = path.empty() ? entry.name : path + "/" + entry.name;
        CACHED_RETURN_IF_ERROR(make(fd->get(), child, entry));
        ++progress_->entries;
      }
      if (entries->size() < kEntriesAtOnce) return Status();
      from = entries->back().number + 1;
    }
  }

  Status make(int parent, const std::string& path, const Entry& entry) {
    if (entry.kind == EntryKind::kLink) {
      links_.push_back({entry.link_to, path});
      return Status();
    }
    Result<Attributes> attributes = attributes_of(entry);
    if (!attributes.ok()) return attributes.status();
    if (entry.nlink > 1 && entry.kind != EntryKind::kDirectory) first_names_[entry.number] = path;
    const char* const name = entry.name.c_str();
    const auto mode = static_cast<mode_t>(attributes->record.mode);
    switch (entry.kind) {
      case EntryKind::kDirectory:
        if (::mkdirat(parent, name, 0700) != 0)
          return Status::from_errno(printable(path) + " cannot be made");
        directories_.push_back({path, entry});
        return Status();
      case EntryKind::kFile:
        return make_file(parent, path, entry, std::move(attributes).value());
      case EntryKind::kSymlink:
        if (::symlinkat(entry.target.c_str(), parent, name) != 0) problem_errno(path, "cannot be made");
        break;
      default:
        if (::mknodat(parent, name, (mode & S_IFMT) | 0600, entry.device) != 0) {
          problem_errno(path, "cannot be made");
          return Status();
        }
    }
    set_attributes(parent, path, entry, *attributes);
    return Status();
  }

  // Of what has no descriptor of its own: `parent` and the entry's name lead to it.
  void set_attributes(int parent, const std::string& path, const Entry& entry, const Attributes& attributes) {
    const char* const name = entry.name.c_str();
    const volume::AttributeRecord& record = attributes.record;
    if (::fchownat(parent, name, record.uid, record.gid, AT_SYMLINK_NOFOLLOW) != 0)
      problem_errno(path, "its owner cannot be set");
    if (entry.kind != EntryKind::kSymlink && ::fchmodat(parent, name, record.mode & 07777, 0) != 0)
      problem_errno(path, "its mode cannot be set");
    const std::string proc = "/proc/self/fd/" + std::to_string(parent) + "/" + entry.name;
    for (const volume::Xattr& xattr : attributes.xattrs) {
      if (::lsetxattr(proc.c_str(), xattr.name.c_str(), xattr.value.data(), xattr.value.size(), 0) != 0)
        problem_errno(path, ("its attribute " + printable(xattr.name) + " cannot be set").c_str());
    }
    const std::array<timespec, 2> times = times_of(entry);
    if (::utimensat(parent, name, times.data(), AT_SYMLINK_NOFOLLOW) != 0)
      problem_errno(path, "its times cannot be set");
  }

  static std::array<timespec, 2> times_of(const Entry& entry) {
    return {timespec{entry.atime.seconds, static_cast<long>(entry.atime.nanoseconds)},
            timespec{entry.mtime.seconds, static_cast<long>(entry.mtime.nanoseconds)}};
  }

  void set_attributes_of(int fd, const std::string& path, const Entry& entry, const Attributes& attributes) {
    const volume::AttributeRecord& record = attributes.record;
    if (::fchown(fd, record.uid, record.gid) != 0) problem_errno(path, "its owner cannot be set");
    if (::fchmod(fd, record.mode & 07777) != 0) problem_errno(path, "its mode cannot be set");
    for (const volume::Xattr& xattr : attributes.xattrs) {
      if (::fsetxattr(fd, xattr.name.c_str(), xattr.value.data(), xattr.value.size(), 0) != 0)
        problem_errno(path, ("its attribute " + printable(xattr.name) + " cannot be set").c_str());
    }
    const std::array<timespec, 2> times = times_of(entry);
    if (::futimens(fd, times.data()) != 0) problem_errno(path, "its times cannot be set");
  }

  Status make_file(int parent, const std::string& path, const Entry& entry, Attributes attributes) {
    const auto file = std::make_shared<File>();
    file->path = path;
    file->entry = entry;
    file->attributes = std::move(attributes);
    file->fd.reset(
        ::openat(parent, entry.name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file->fd.valid()) return Status::from_errno(printable(path) + " cannot be made");
    if (entry.size > 0) {
      Result<std::shared_ptr<const ProvableObject>> object = object_of(entry.object);
      if (!object.ok()) return object.status();
      file->object = std::move(object).value();
      if (::ftruncate(file->fd.get(), static_cast<off_t>(entry.size)) != 0)
        return Status::from_errno(printable(path) + " cannot be given its length");
    }
    std::vector<uint64_t> pieces;
    if (file->object != nullptr) {
      file->object->layout.for_each_piece([&](uint64_t piece) {
        pieces.push_back(piece);
        return true;
      });
    }
    file->left = std::max<uint64_t>(pieces.size(), 1);
    if (pieces.empty()) finish_file(file.get());
    for (const uint64_t piece : pieces) {
      pool_->submit([this, file, piece] { write_piece(file.get(), piece); });
    }
    return Status();
  }

  Result<std::shared_ptr<const ProvableObject>> object_of(uint64_t number) {
    if (const auto* const kept = objects_.get(number)) return *kept;
    const Result<volume::ObjectRecord> record = volume::run_blocking(snapshot_->reader().object(number));
    if (!record.ok()) return record.status();
    Result<volume::ObjectLayout> layout = snapshot_->layout(*record);
    if (!layout.ok()) return layout.status();
    Result<std::vector<uint64_t>> checksums = snapshot_->checksums(*record);
    if (!checksums.ok()) return checksums.status();
    const auto object = std::make_shared<const ProvableObject>(
        ProvableObject{std::move(layout).value(), std::move(checksums).value()});
    objects_.put(number, object);
    return object;
  }

  // Writes what `piece` of the object has of the file, extent by extent.
  void write_piece(File* file, uint64_t piece) {
    const Result<Bytes> bytes = pieces_.read(*file->object, piece);
    Status status = bytes.status();
    const uint64_t begin = piece * volume::kPieceBytes;
    const uint64_t base = file->entry.object_offset;
    const std::vector<volume::Extent>& extents = file->object->layout.extents();
    const auto first =
        std::partition_point(extents.begin(), extents.end(),
                             [begin](const volume::Extent& extent) { return extent.end() <= begin; });
    for (const volume::Extent& extent : std::span(first, extents.end())) {
      if (!status.ok() || extent.offset >= begin + volume::kPieceBytes) break;
      const uint64_t from = std::max({extent.offset, begin, base});
      const uint64_t to = std::min({extent.end(), begin + volume::kPieceBytes, base + file->entry.size});
      if (from >= to) continue;
      status = write_fully(file->fd.get(), std::span(**bytes).subspan(from - begin, to - from), from - base);
      progress_->bytes += to - from;
    }
    if (!status.ok()) problem(file->path, status.message());
    finish_file(file);
  }

  void finish_file(File* file) {
    if (file->left.fetch_sub(1) == 1)
      set_attributes_of(file->fd.get(), file->path, file->entry, file->attributes);
  }

  void make_links() {
    for (const auto& [number, path] : links_) {
      const auto first = first_names_.find(number);
      if (first == first_names_.end()) {
        problem(path, "the file that it is another name of is not in the snapshot");
        continue;
      }
      const auto [from, from_name] = parent_of(first->second);
      const auto [to, to_name] = parent_of(path);
      const Result<UniqueFd> source = target_->open_directory(from);
      const Result<UniqueFd> target = target_->open_directory(to);
      if (!source.ok() || !target.ok() ||
          ::linkat(source->get(), from_name.c_str(), target->get(), to_name.c_str(), 0) != 0) {
        problem_errno(path, "cannot be linked");
      }
    }
  }

  static std::pair<std::string, std::string> parent_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return {"", path};
    return {path.substr(0, slash), path.substr(slash + 1)};
  }

  void finish_directories() {
    for (auto directory = directories_.rbegin(); directory != directories_.rend(); ++directory) {
      const Result<UniqueFd> fd = target_->open_directory(directory->path);
      const Result<Attributes> attributes = attributes_of(directory->entry);
      if (fd.ok() && attributes.ok()) {
        set_attributes_of(fd->get(), directory->path, directory->entry, *attributes);
      } else {
        problem(directory->path, fd.ok() ? attributes.status().message() : fd.status().message());
      }
    }
  }

  const StorePointer store_;
  const ExportOptions options_;
  ExportProgress* const progress_;
  std::unique_ptr<SnapshotAccess> snapshot_;
  std::unique_ptr<SourceTree> target_;
  PieceReader pieces_;
  WorkerPool* pool_ = nullptr;  // while the tree is made
  std::vector<Directory> directories_;
  std::vector<std::pair<uint64_t, std::string>> links_;
  std::unordered_map<uint64_t, std::string> first_names_;  // of files with several, by entry
  volume::LruMap<uint64_t, std::shared_ptr<const ProvableObject>> objects_{kObjectsKept};
  std::mutex mutex_;  // guards report_
  ExportReport report_;
};

}  // namespace

Result<ExportReport> export_snapshot(const StorePointer& store, const ExportOptions& options,
                                     ExportProgress* progress) {
  return Export(store, options, progress).run();
}

}  // namespace cached::import
