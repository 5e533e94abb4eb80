// The import's bytes: what need not be stored again, packs, large files. See importer.h.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/clock.h"
#include "base/units.h"
#include "cached/import/importer_impl.h"

namespace cached::import {
namespace {

constexpr unsigned kAttempts = 3;
constexpr size_t kPackFiles = 16'384;
// Two changes within one tick of a file system's clock have one ctime: a file younger than this is waited
// for.
constexpr int64_t kClockTickNs = 50'000'000;

// Reads `length` bytes at `offset`; EAGAIN if the file ends before.
Status read_fully(int fd, std::byte* buffer, uint64_t length, uint64_t offset) {
  for (uint64_t done = 0; done < length;) {
    const ssize_t got = ::pread(fd, buffer + done, length - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status::from_errno("it cannot be read");
    if (got == 0) return Status(EAGAIN, "it became shorter");
    done += static_cast<uint64_t>(got);
  }
  return Status();
}

// The calling thread's place for a piece, the same each time: fresh memory costs as much as reading into it.
std::span<std::byte> piece_buffer() {
  thread_local const auto memory = std::make_unique_for_overwrite<std::byte[]>(volume::kPieceBytes);
  return {memory.get(), volume::kPieceBytes};
}

void wait_for_tick(const SourceInode& inode) {
  const int64_t age_ns = system_clock().realtime_ns() - clamped_ns(inode.ctime);
  if (inode.unsettled && age_ns >= 0 && age_ns < kClockTickNs)
    std::this_thread::sleep_for(std::chrono::nanoseconds(kClockTickNs - age_ns));
}

// Takes over what another look at the file told. Extended attributes and holes stay as they were scanned.
void adopt(const SourceInode& now, SourceInode* inode) {
  SourceInode updated = now;
  updated.xattrs = std::move(inode->xattrs);
  updated.holes = inode->holes;
  *inode = std::move(updated);
}

// The checksums of the blocks of a piece: `stored` bytes of it are data, zeros follow up to `length`.
std::vector<uint64_t> checksums_of(std::span<const std::byte> stored, uint64_t length) {
  static const std::vector<std::byte> kZeros(volume::kChecksumBlockBytes);
  std::vector<uint64_t> checksums;
  for (uint64_t at = 0; at < length; at += volume::kChecksumBlockBytes) {
    const uint64_t block = std::min(volume::kChecksumBlockBytes, length - at);
    if (at + block <= stored.size()) {
      checksums.push_back(volume::block_checksum(stored.subspan(at, block)));
    } else if (at >= stored.size()) {
      checksums.push_back(volume::block_checksum(std::span(kZeros).first(block)));
    } else {
      std::vector<std::byte> mixed(block);
      std::memcpy(mixed.data(), stored.data() + at, stored.size() - at);
      checksums.push_back(volume::block_checksum(mixed));
    }
  }
  return checksums;
}

}  // namespace

bool Importer::Item::is_ready() const {
  return (pack == nullptr || pack->done.ready()) && (large == nullptr || large->pieces->ready());
}

Status Importer::add_content(Item* item, BaseCursor* base) {
  if (reuse_base(item, base) || reuse_journal(item)) return Status();
  if (item->inode.size > volume::kMaximumObjectBytes) {
    problem(item->path, "it is longer than 512 TiB");
    item->failed = true;
    return Status();
  }
  if (item->inode.size > volume::kPackedFileLimit || item->inode.holes) {
    const JournalContent::Content* const part =
        item->inode.unsettled ? nullptr : found_.find(content_key(item->inode));
    return start_large(item, part == nullptr ? nullptr : part->object);
  }
  add_to_pack(item);
  return Status();
}

bool Importer::reuse_base(Item* item, BaseCursor* base) {
  const Result<const volume::Entry*> found = base->find(item->entry.name);
  if (!found.ok()) warn_of_base(found.status());
  if (!found.ok() || *found == nullptr) return false;
  const Result<volume::Entry> before = volume::run_blocking(base_->reader().inode_of(**found));
  if (!before.ok()) warn_of_base(before.status());
  if (!before.ok() || before->kind != volume::EntryKind::kFile || before->unsettled) return false;
  const SourceInode& now = item->inode;
  if (before->ino != tree_->shown_inode(now) || before->size != now.size || !(before->mtime == now.mtime) ||
      !(before->ctime == now.ctime)) {
    return false;
  }
  item->object = base_object(before->object);
  item->offset = before->object_offset;
  item->found = item->object != nullptr;
  return item->found;
}

std::shared_ptr<const StoredObject> Importer::base_object(uint64_t number) {
  if (const auto* const kept = base_objects_.get(number)) return *kept;
  Result<StoredObject> loaded = base_->stored_object(number);
  if (!loaded.ok()) {
    warn_of_base(loaded.status());
    return nullptr;
  }
  const auto object = std::make_shared<const StoredObject>(std::move(loaded).value());
  base_objects_.put(number, object);
  return object;
}

bool Importer::reuse_journal(Item* item) {
  if (item->inode.unsettled) return false;
  const JournalContent::Content* const content = found_.find(content_key(item->inode));
  if (content == nullptr || !content->object->complete()) return false;
  item->found = true;
  item->object = content->object->whole();
  item->offset = content->offset;
  return true;
}

// Packs. ----------------------------------------------------------------------------------------------------

void Importer::add_to_pack(Item* item) {
  const uint64_t size = item->inode.size;
  if (pack_ != nullptr &&
      (align_up(pack_->planned_bytes, volume::pack_alignment(size)) + size > volume::kPieceBytes ||
       pack_->items.size() == kPackFiles)) {
    send_pack();
  }
  if (pack_ == nullptr) pack_ = std::make_shared<Pack>();
  pack_->planned_bytes = align_up(pack_->planned_bytes, volume::pack_alignment(size)) + size;
  pack_->items.push_back(item);
  item->pack = pack_;
}

void Importer::send_pack() {
  if (pack_ == nullptr) return;
  data_pool_->submit([this, pack = std::exchange(pack_, nullptr)] {
    if (!failed_ && !stopping_) store_pack(pack.get());
    pack->done.count_down();
  });
}

Result<uint64_t> Importer::read_packed(Item* item, std::byte* buffer, uint64_t room) {
  const Result<UniqueFd> fd = tree_->open_file(item->path);
  if (!fd.ok()) return fd.status();
  for (unsigned attempt = 0; attempt < kAttempts; ++attempt) {
    wait_for_tick(item->inode);
    const Result<SourceInode> before = tree_->inspect_file(fd->get());
    if (!before.ok()) return before.status();
    if (before->device != item->inode.device || before->inode != item->inode.inode ||
        !S_ISREG(before->mode)) {
      return Status(ESTALE, "it was replaced during the import");
    }
    if (before->size > room) return Status(EAGAIN, "it grows during the import");
    const Status read = read_fully(fd->get(), buffer, before->size, 0);
    if (!read.ok() && read.error_number() != EAGAIN) return read;
    const Result<SourceInode> after = tree_->inspect_file(fd->get());
    if (!after.ok()) return after.status();
    const bool same = read.ok() && after->same_version(*before);
    adopt(*after, &item->inode);
    if (same) return before->size;
  }
  return Status(EAGAIN, "it changes during the import");
}

void Importer::store_pack(Pack* pack) {
  const std::span<std::byte> bytes = piece_buffer();
  uint64_t used = 0;
  for (Item* const item : pack->items) {
    const uint64_t begin = std::min(align_up(used, volume::pack_alignment(item->inode.size)), bytes.size());
    const Result<uint64_t> length = read_packed(item, bytes.data() + begin, bytes.size() - begin);
    if (!length.ok()) {
      item->failed = true;
      problem(item->path, length.status().message());
      continue;
    }
    std::memset(bytes.data() + used, 0, begin - used);
    item->offset = begin;
    used = *length > 0 ? begin + *length : used;
  }
  if (used == 0) return;
  auto object = std::make_shared<StoredObject>();
  object->record.id = new_object_id();
  object->record.size = used;
  object->record.flags = volume::kObjectDense | volume::kObjectPack;
  const std::span<const std::byte> stored = bytes.first(used);
  object->checksums = checksums_of(stored, used);
  object->record.checksum_count = object->checksums.size();
  const Status status =
      store_->create(volume::piece_name(options_.volume, object->record.id, 0), stored).wait();
  if (!status.ok()) return fail(status);
  stored_bytes_ += used;
  journal_->add_piece(*object, {0, object->checksums});
  for (Item* const item : pack->items) {
    if (item->failed) continue;
    item->object = object;
    bytes_ += item->inode.size;
    if (!item->inode.unsettled) journal_->add_file(content_key(item->inode), object->record.id, item->offset);
  }
}

// Large files. ----------------------------------------------------------------------------------------------

Status Importer::start_large(Item* item, std::shared_ptr<JournalContent::Object> known) {
  const auto give_up = [&](const std::string& why) {
    problem(item->path, why);
    item->failed = true;
    item->large = nullptr;
    return Status();
  };
  Result<UniqueFd> fd = tree_->open_file(item->path);
  if (!fd.ok()) return give_up(fd.status().message());
  wait_for_tick(item->inode);
  const Result<SourceInode> now = tree_->inspect_file(fd->get());
  if (!now.ok()) return give_up(now.status().message());
  if (now->inode != item->inode.inode || now->device != item->inode.device || !S_ISREG(now->mode))
    return give_up("it was replaced during the import");
  if (!now->same_version(item->inode)) known = nullptr;
  adopt(*now, &item->inode);
  StoredObject object;
  object.record.id = known == nullptr ? new_object_id() : known->stored.record.id;
  object.record.size = item->inode.size;
  object.record.flags = item->inode.holes ? 0U : volume::kObjectDense;
  if (item->inode.holes) {
    Result<std::vector<volume::Extent>> extents = tree_->extents(fd->get(), item->inode.size);
    if (!extents.ok()) return give_up(extents.status().message());
    object.extents = std::move(extents).value();
  }
  volume::ObjectLayout layout = volume::ObjectLayout::plan(object.record, object.extents);
  object.record = layout.record();
  object.checksums.resize(layout.checksums());
  std::vector<uint64_t> missing;
  uint64_t present_bytes = 0;
  layout.for_each_piece([&](uint64_t piece) {
    const std::vector<uint64_t>* const done = known == nullptr ? nullptr : known->checksums_of(piece);
    if (done == nullptr || done->size() != layout.blocks_of(piece)) {
      missing.push_back(piece);
    } else {
      std::copy(done->begin(), done->end(),
                object.checksums.begin() +
                    static_cast<ptrdiff_t>(*layout.checksum_of_block(piece * volume::kBlocksPerPiece)));
      present_bytes += layout.stored_bytes(piece);
    }
    return true;
  });
  const unsigned attempt = item->large == nullptr ? 1 : item->large->attempt + 1;
  item->large = std::shared_ptr<LargeFile>(new LargeFile{
      item, std::move(fd).value(), std::move(layout), std::move(object), nullptr, {}, {}, {}, {}, attempt});
  LargeFile* const file = item->large.get();
  file->pieces = std::make_unique<Latch>(static_cast<unsigned>(missing.size()));
  file->counted = present_bytes;
  bytes_ += present_bytes;
  for (const uint64_t piece : missing) {
    CACHED_RETURN_IF_ERROR(journal_->write(false));
    data_pool_->submit([this, keep = item->large, piece] {
      if (!failed_ && !stopping_ && !keep->again) store_piece(keep.get(), piece);
      keep->pieces->count_down();
    });
  }
  return Status();
}

void Importer::store_piece(LargeFile* file, uint64_t piece) {
  const uint64_t length = file->layout.stored_bytes(piece);
  const std::span<std::byte> bytes = piece_buffer().first(length);
  const Status read = read_fully(file->fd.get(), bytes.data(), length, piece * volume::kPieceBytes);
  if (!read.ok()) {
    const std::lock_guard lock(mutex_);
    file->trouble = read.message();
    file->again = true;
    return;
  }
  const uint64_t logical = std::min(volume::kPieceBytes, file->layout.size() - piece * volume::kPieceBytes);
  StoredPiece stored{piece, checksums_of(bytes, logical)};
  std::copy(stored.checksums.begin(), stored.checksums.end(),
            file->object.checksums.begin() +
                static_cast<ptrdiff_t>(*file->layout.checksum_of_block(piece * volume::kBlocksPerPiece)));
  const shm::ObjectId& id = file->object.record.id;
  const Status status = store_->create(volume::piece_name(options_.volume, id, piece), bytes).wait();
  if (status.error_number() == EEXIST) {
    // A piece that an interrupted import stored and did not note, with other bytes: not our file's.
    file->again = true;
    return;
  }
  if (!status.ok()) return fail(status);
  stored_bytes_ += length;
  bytes_ += length;
  file->counted += length;
  journal_->add_piece(file->object, stored);
  if (!file->noted.exchange(true) && !file->item->inode.unsettled)
    journal_->add_file(content_key(file->item->inode), id, 0);
}

Status Importer::settle_large(Item* item) {
  for (;;) {
    LargeFile* const file = item->large.get();
    file->pieces->wait();
    CACHED_RETURN_IF_ERROR(failure());
    const Result<SourceInode> after = tree_->inspect_file(file->fd.get());
    if (after.ok() && after->same_version(item->inode) && !file->again) {
      item->object = std::make_shared<const StoredObject>(std::move(file->object));
      bytes_ += item->inode.size - file->counted;  // holes
      return Status();
    }
    bytes_ -= file->counted;
    if (file->attempt == kAttempts) {
      problem(item->path, file->trouble.empty() ? "it changes during the import" : file->trouble);
      item->failed = true;
      return Status();
    }
    if (after.ok()) adopt(*after, &item->inode);
    CACHED_RETURN_IF_ERROR(start_large(item, nullptr));
    if (item->failed) return Status();
  }
}

}  // namespace cached::import
