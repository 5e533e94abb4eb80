// Reading and changing heads: see volume_head.h.
#include "cached/import/volume_head.h"

#include <sodium.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace cached::import {
namespace {

using volume::Head;

constexpr unsigned kAttempts = 50;
constexpr uint64_t kVolumesPage = 1000;

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

Status no_volume(const std::string& volume) {
  return Status(ENOENT,
                "there is no volume " + volume + " here; cachedctl volume list names those that there are");
}

struct Versioned {
  Head head;
  uint64_t version = 0;
};

Result<Versioned> load_versioned(origin::ObjectStore& store, const std::string& volume) {
  if (!volume::valid_volume_name(volume)) {
    return Status(EINVAL,
                  "\"" + volume + "\" cannot be the name of a volume: use 1 to 64 of A-Z a-z 0-9 . _ -");
  }
  Result<origin::VersionedBytes> bytes =
      store.read_small(volume::head_name(volume), volume::kMaximumHeadBytes).wait();
  if (bytes.error_number() == ENOENT) return no_volume(volume);
  if (!bytes.ok()) return bytes.status();
  Result<Head> head = volume::decode_head(bytes->bytes, volume);
  if (!head.ok()) return head.status();
  return Versioned{std::move(head).value(), bytes->version};
}

// Long enough for the faster one to finish, different for each contender.
void back_off(unsigned attempt) {
  std::this_thread::sleep_for(
      std::chrono::milliseconds(1 + ::randombytes_uniform(std::min(200U, 10 * (attempt + 1)))));
}

}  // namespace

uint64_t random_id() {
  uint64_t id = 0;
  while (id == 0) ::randombytes_buf(&id, sizeof id);
  return id;
}

Result<Head> load_head(origin::ObjectStore& store, const std::string& volume) {
  Result<Versioned> loaded = load_versioned(store, volume);
  if (!loaded.ok()) return loaded.status();
  if (loaded->head.destroyed) return no_volume(volume);
  return std::move(loaded->head);
}

Status ensure_volume(origin::ObjectStore& store, const std::string& volume) {
  const Result<Versioned> present = load_versioned(store, volume);
  if (present.ok() && present->head.destroyed) {
    return Status(EBUSY,
                  "volume " + volume + " is being destroyed; let cachedctl volume destroy finish first");
  }
  if (present.ok()) return Status();
  if (present.error_number() != ENOENT) return present.status();
  CACHED_RETURN_IF_ERROR(
      store.omap_set({origin::Pool::kMetadata, volume::kVolumesObject}, {{volume, ""}}).wait());
  Head head;
  head.volume_id[0] = random_id();
  head.volume_id[1] = random_id();
  head.nonce = random_id();
  const Status made = store.create(volume::head_name(volume), as_bytes(encode_head(head))).wait();
  return made.error_number() == EEXIST ? Status() : made;
}

Status update_head(origin::ObjectStore& store, const std::string& volume,
                   const std::function<Status(Head*)>& change) {
  for (unsigned attempt = 0; attempt < kAttempts; ++attempt) {
    Result<Versioned> loaded = load_versioned(store, volume);
    if (!loaded.ok()) return loaded.status();
    Head& head = loaded->head;
    CACHED_RETURN_IF_ERROR(change(&head));
    ++head.generation;
    head.nonce = random_id();
    const std::string bytes = encode_head(head);
    const Status replaced = store.replace(volume::head_name(volume), loaded->version, as_bytes(bytes)).wait();
    if (replaced.error_number() != ECANCELED) return replaced;
    back_off(attempt);
  }
  return Status(EBUSY, "the head of volume " + volume + " is changed by others all the time; try again");
}

Result<volume::SnapshotRecord> load_snapshot(origin::ObjectStore& store, const std::string& volume,
                                             const volume::SnapshotMark& mark) {
  const std::string what = "snapshot " + std::to_string(mark.number) + " of volume " + volume;
  const Result<origin::VersionedBytes> bytes =
      store.read_small(volume::snapshot_name(volume, mark.import_id), volume::kMaximumRecordBytes).wait();
  if (!bytes.ok()) return bytes.status().with_context(what);
  Result<volume::SnapshotRecord> record = volume::decode_snapshot(bytes->bytes, what);
  if (!record.ok()) return record;
  if (!(volume::checksum_of(bytes->bytes) == mark.record) || record->import_id != mark.import_id)
    return Status(EIO, what + " is damaged: its record is not the one that was published");
  return record;
}

Result<std::vector<std::string>> list_volumes(origin::ObjectStore& store) {
  std::vector<std::string> names;
  for (bool more = true; more;) {
    const Result<origin::OmapPage> page = store
                                              .omap_get({origin::Pool::kMetadata, volume::kVolumesObject},
                                                        names.empty() ? "" : names.back(), kVolumesPage)
                                              .wait();
    if (page.error_number() == ENOENT) return names;
    if (!page.ok()) return page.status();
    for (const origin::OmapEntry& entry : page->entries) names.push_back(entry.key);
    more = page->more && !page->entries.empty();
  }
  return names;
}

}  // namespace cached::import
