// Reading a volume back: see verifier.h.
#include "cached/import/verifier.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_set>

#include "base/log.h"
#include "cached/import/collector.h"
#include "cached/import/snapshot_access.h"
#include "cached/import/volume_head.h"
#include "cached/import/worker_pool.h"

namespace cached::import {
namespace {

using StorePointer = std::shared_ptr<origin::ObjectStore>;

constexpr size_t kFilesNamed = 3;

// One run of verify_volume().
class Verification {
 public:
  Verification(StorePointer store, const VerifyOptions& options, std::atomic<uint64_t>* bytes_done)
      : store_(std::move(store)), options_(options), bytes_done_(bytes_done) {}

  Result<VerifyReport> run() {
    const Result<volume::Head> head = load_head(*store_, options_.volume);
    if (!head.ok()) return head.status();
    if (options_.snapshot != 0 && head->find_snapshot(options_.snapshot) == nullptr)
      return Status(ENOENT, fmt::format("volume {} has no snapshot {}", options_.volume, options_.snapshot));
    for (const volume::SnapshotMark& mark : head->snapshots) {
      const bool wanted = options_.snapshot == 0 ? mark.delete_at_ns == 0 : mark.number == options_.snapshot;
      if (wanted) CACHED_RETURN_IF_ERROR(verify_snapshot(mark));
    }
    if (options_.snapshot == 0) {
      const Result<std::vector<origin::ObjectName>> orphans = find_orphans(store_, options_.volume);
      // A snapshot that cannot be read is in the report already, and then nobody can tell.
      if (orphans.ok()) report_.orphans = orphans->size();
      if (!orphans.ok() && report_.problem_count == 0) return orphans.status();
    }
    return report_;
  }

 private:
  void problem(const std::string& text) {
    const std::lock_guard lock(mutex_);
    ++report_.problem_count;
    if (report_.problems.size() < kMaximumVerifyProblems) report_.problems.push_back(text);
  }
  // Errors of the cluster end the verification; EIO and ENOENT are what it looks for.
  static bool is_damage(const Status& status) {
    return status.error_number() == EIO || status.error_number() == ENOENT || status.error_number() == EPROTO;
  }

  Status verify_snapshot(const volume::SnapshotMark& mark) {
    const std::string what = fmt::format("snapshot {}", mark.number);
    const Result<std::unique_ptr<SnapshotAccess>> snapshot =
        SnapshotAccess::open(store_, options_.volume, mark);
    if (!snapshot.ok() && !is_damage(snapshot.status())) return snapshot.status();
    if (!snapshot.ok()) {
      problem(what + ": " + snapshot.status().message());
      return Status();
    }
    ++report_.snapshots;
    const uint64_t before = report_.problem_count;
    CACHED_RETURN_IF_ERROR(verify_tables(snapshot->get(), what));
    if (report_.problem_count > before) return Status();
    damaged_.clear();
    CACHED_RETURN_IF_ERROR(verify_data(snapshot->get()));
    return damaged_.empty() ? Status() : name_files(snapshot->get(), what);
  }

  Status verify_tables(SnapshotAccess* snapshot, const std::string& what) {
    for (size_t i = 0; i < volume::kTables; ++i) {
      const auto table = static_cast<volume::Table>(i);
      for (uint64_t page = 0; page < snapshot->record().tables[i].pages; ++page) {
        const Status status = volume::run_blocking(snapshot->reader().check(table, page));
        if (!status.ok() && !is_damage(status)) return status;
        if (!status.ok()) problem(what + ": " + status.message());
        ++report_.pages;
      }
    }
    return Status();
  }

  Status verify_data(SnapshotAccess* snapshot) {
    Status status;
    {
      WorkerPool pool("verify", options_.threads, options_.threads);
      status = snapshot->for_each_object([&](const volume::ObjectRecord& record) -> Status {
        if (!seen_.insert(record.id).second) return failure();
        Result<volume::ObjectLayout> layout = snapshot->layout(record);
        if (!layout.ok()) return layout.status();
        Result<std::vector<uint64_t>> checksums = snapshot->checksums(record);
        if (!checksums.ok()) return checksums.status();
        const auto shared = std::make_shared<const std::pair<volume::ObjectLayout, std::vector<uint64_t>>>(
            std::move(layout).value(), std::move(checksums).value());
        shared->first.for_each_piece([&](uint64_t piece) {
          pool.submit([this, shared, piece] { verify_piece(shared->first, shared->second, piece); });
          return failure().ok();
        });
        return failure();
      });
    }
    return status.ok() ? failure() : status;
  }

  void verify_piece(const volume::ObjectLayout& layout, const std::vector<uint64_t>& checksums,
                    uint64_t piece) {
    const uint64_t stored = layout.stored_bytes(piece);
    const uint64_t begin = piece * volume::kPieceBytes;
    std::vector<std::byte> bytes(std::min(volume::kPieceBytes, layout.size() - begin));
    std::vector<iovec> iovecs{{bytes.data(), stored}};
    const origin::ObjectName name = volume::piece_name(options_.volume, layout.record().id, piece);
    const Result<uint64_t> got = store_->read(name, 0, std::move(iovecs)).wait();
    if (!got.ok() && !is_damage(got.status())) return fail(got.status());
    bool good = got.ok() && *got == stored;
    for (uint64_t block = 0; good && block < layout.blocks_of(piece); ++block) {
      const uint64_t at = block * volume::kChecksumBlockBytes;
      const auto content =
          std::span(bytes).subspan(at, std::min<uint64_t>(volume::kChecksumBlockBytes, bytes.size() - at));
      good = volume::block_checksum(content) ==
             checksums[*layout.checksum_of_block(piece * volume::kBlocksPerPiece + block)];
    }
    if (!good)
      problem(name.name + ": " + (got.ok() ? "its bytes are not those that were imported" : "it is missing"));
    const std::lock_guard lock(mutex_);
    if (!good) damaged_[layout.record().id].push_back({begin, bytes.size()});
    ++report_.objects;
    report_.bytes += stored;
    if (bytes_done_ != nullptr) *bytes_done_ += stored;
  }

  // Says which files lie in what is damaged.
  Status name_files(SnapshotAccess* snapshot, const std::string& what) {
    std::map<uint64_t, const std::vector<volume::Extent>*> objects;
    uint64_t number = 0;
    CACHED_RETURN_IF_ERROR(snapshot->for_each_object([&](const volume::ObjectRecord& record) {
      if (const auto found = damaged_.find(record.id); found != damaged_.end())
        objects[number] = &found->second;
      ++number;
      return Status();
    }));
    std::vector<std::pair<uint32_t, std::string>> directories{{volume::kRootDirectory, ""}};
    uint64_t touched = 0;
    for (size_t i = 0; i < directories.size(); ++i) {
      const auto [directory, path] = directories[i];
      const auto entries = volume::run_blocking(snapshot->reader().list(directory, 0, SIZE_MAX));
      if (!entries.ok()) return entries.status();
      for (const volume::Entry& entry : *entries) {
        const std::string child = path.empty() ? entry.name : path + "/" + entry.name;
        if (entry.kind == volume::EntryKind::kDirectory) directories.emplace_back(entry.own_directory, child);
        const auto found = entry.kind == volume::EntryKind::kFile && entry.size > 0
                               ? objects.find(entry.object)
                               : objects.end();
        if (found == objects.end() || !touches(*found->second, entry)) continue;
        if (++touched <= kFilesNamed) problem(what + ": the file " + printable(child) + " is damaged");
      }
    }
    if (touched > kFilesNamed) problem(fmt::format("{}: and {} more files are", what, touched - kFilesNamed));
    return Status();
  }

  static bool touches(const std::vector<volume::Extent>& damaged, const volume::Entry& file) {
    return std::any_of(damaged.begin(), damaged.end(), [&](const volume::Extent& extent) {
      return file.object_offset < extent.end() && extent.offset < file.object_offset + file.size;
    });
  }

  void fail(const Status& status) {
    const std::lock_guard lock(mutex_);
    if (failure_.ok()) failure_ = status;
  }
  Status failure() {
    const std::lock_guard lock(mutex_);
    return failure_;
  }

  const StorePointer store_;
  const VerifyOptions options_;
  std::atomic<uint64_t>* const bytes_done_;
  std::unordered_set<shm::ObjectId> seen_;
  std::mutex mutex_;                                                        // guards all below
  std::unordered_map<shm::ObjectId, std::vector<volume::Extent>> damaged_;  // of this snapshot
  VerifyReport report_;
  Status failure_;
};

}  // namespace

Result<VerifyReport> verify_volume(const StorePointer& store, const VerifyOptions& options,
                                   std::atomic<uint64_t>* bytes_done) {
  return Verification(store, options, bytes_done).run();
}

}  // namespace cached::import
