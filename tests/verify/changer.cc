// Changers of source files.
#include "tests/verify/changer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "tests/verify/content.h"

namespace cached::verify {
namespace {

constexpr uint64_t kMaximumGrowthBytes = 128 * 1024;

uint64_t now_ns() {
  return system_clock().monotonic_ns();
}

// One pwrite of [offset, offset + length). A short one is an error: the judge counts on a change being a
// single call.
Status write_at_once(const std::string& path, const Content& content, uint64_t offset, uint64_t length) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return Status::from_errno("cannot open " + path + " for writing");
  std::vector<uint8_t> buffer(length);
  content.fill(offset, buffer.data(), length);
  const ssize_t written = ::pwrite(fd.get(), buffer.data(), length, static_cast<off_t>(offset));
  if (written < 0) return Status::from_errno("cannot write " + path);
  if (static_cast<uint64_t>(written) != length) return Status(EIO, "short write to " + path);
  return Status();
}

}  // namespace

Changer::Changer(const ChangerOptions& options, const Manifest& manifest, std::vector<FileHistory>* histories,
                 unsigned number, unsigned changers)
    : options_(options),
      manifest_(manifest),
      histories_(*histories),
      temporary_path_(fmt::format("{}/.cached-verify-new-{}", options.source, number)),
      random_(options.seed * 999'983 + number) {
  for (uint64_t i = number; i < manifest.files.size(); i += changers) {
    if (Random(options.seed + i).below(100) < options.percent_of_files) mine_.push_back(i);
  }
}

Status Changer::run(const std::atomic<bool>& stop) {
  const auto interval = std::chrono::duration<double, std::milli>(options_.interval_ms);
  while (!stop && !mine_.empty()) {
    CACHED_RETURN_IF_ERROR(change_once(mine_[random_.below(mine_.size())]));
    std::this_thread::sleep_for(interval);
  }
  for (const uint64_t index : mine_) {
    if (!histories_[index].latest().present) CACHED_RETURN_IF_ERROR(apply(index, ChangeKind::kCreate));
  }
  return Status();
}

Status Changer::change_once(uint64_t file_index) {
  const FileState now = histories_[file_index].latest();
  if (!now.present) return apply(file_index, ChangeKind::kCreate);
  ChangeKind kind = options_.kinds[random_.below(options_.kinds.size())];
  const bool too_large_at_once = now.size > kMaximumInPlaceBytes;
  if (now.size == 0 && (kind == ChangeKind::kInPlace || kind == ChangeKind::kTruncate))
    kind = ChangeKind::kGrow;
  if (too_large_at_once && (kind == ChangeKind::kInPlace || kind == ChangeKind::kRewrite))
    kind = ChangeKind::kTruncate;
  if (now.size > 2 * manifest_.files[file_index].size && kind == ChangeKind::kGrow)
    kind = ChangeKind::kTruncate;
  CACHED_RETURN_IF_ERROR(apply(file_index, kind));
  if (kind == ChangeKind::kRewrite) return apply(file_index, ChangeKind::kGrow);
  return Status();
}

Status Changer::apply(uint64_t file_index, ChangeKind kind) {
  const FileEntry& file = manifest_.files[file_index];
  FileHistory& history = histories_[file_index];
  const FileState before = history.latest();
  FileState next = before;
  next.made_by = kind;
  Status status;
  const uint64_t begin_ns = now_ns();
  switch (kind) {
    case ChangeKind::kInPlace:
      next.version++;
      history.begin_change(next, begin_ns);
      status = overwrite(file, next);
      break;
    case ChangeKind::kRename:
    case ChangeKind::kCreate:
      next.version++;
      next.inode++;
      next.present = true;
      next.size = std::max<uint64_t>(file.size / 2 + random_.below(file.size + 1), 1);
      history.begin_change(next, begin_ns);
      status = replace_content(file, next);
      break;
    case ChangeKind::kTruncate:
      next.size = random_.below(4) == 0 ? 0 : random_.below(before.size);
      history.begin_change(next, begin_ns);
      status = truncate(file, next);
      break;
    case ChangeKind::kGrow:
      next.size = before.size + 1 + random_.below(kMaximumGrowthBytes);
      history.begin_change(next, begin_ns);
      status = append(file, before, next);
      break;
    case ChangeKind::kRewrite:
      next.version++;
      next.size = 0;
      history.begin_change(next, begin_ns);
      status = truncate(file, next);
      break;
    case ChangeKind::kRemove:
      next.present = false;
      history.begin_change(next, begin_ns);
      if (::unlink(path_of(file).c_str()) != 0) status = Status::from_errno("cannot remove " + path_of(file));
      break;
    case ChangeKind::kInitial:
      return Status(EINVAL, "a file cannot be changed to its initial state");
  }
  history.end_change(now_ns());
  changes_[change_name(kind)]++;
  return status;
}

Status Changer::overwrite(const FileEntry& file, const FileState& next) {
  return write_at_once(path_of(file), Content(manifest_.seed, file.id, next.version), 0, next.size);
}

Status Changer::append(const FileEntry& file, const FileState& before, const FileState& next) {
  return write_at_once(path_of(file), Content(manifest_.seed, file.id, next.version), before.size,
                       next.size - before.size);
}

Status Changer::truncate(const FileEntry& file, const FileState& next) {
  if (::truncate(path_of(file).c_str(), static_cast<off_t>(next.size)) == 0) return Status();
  return Status::from_errno("cannot truncate " + path_of(file));
}

Status Changer::replace_content(const FileEntry& file, const FileState& next) {
  CACHED_RETURN_IF_ERROR(write_file(temporary_path_, manifest_.seed, file.id, next.version, next.size));
  if (::rename(temporary_path_.c_str(), path_of(file).c_str()) == 0) return Status();
  return Status::from_errno("cannot rename to " + path_of(file));
}

}  // namespace cached::verify
