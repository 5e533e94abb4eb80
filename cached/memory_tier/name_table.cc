// Writing the name and inode tables: the same rule for both, so it is written once for any record.
#include "cached/memory_tier/name_table.h"

namespace cached::memory_tier {
namespace {

uint64_t validated_at(const shm::NameRecord& record) {
  return record.validated_at_ns;
}
uint64_t validated_at(const shm::InodeRecord& record) {
  return record.info.validated_at_ns;
}

auto same_name(uint32_t volume, const shm::NameHash& hash) {
  return [volume, hash](const shm::NameRecord& record) {
    return record.volume == volume && record.name_hash_high == hash.high && record.name_hash_low == hash.low;
  };
}
auto same_inode(uint32_t volume, const shm::Handle& handle) {
  return [volume, handle](const shm::InodeRecord& record) {
    return record.volume == volume && record.info.handle == handle;
  };
}

// The place of the record with the oldest validated_at among the candidates for `hash`, all of them occupied.
template <typename Record>
shm::SeqPosition oldest_place(const shm::SeqTableWriter<Record>& table, uint64_t hash) {
  shm::SeqPosition oldest = table.victim_place(hash, 0);
  for (unsigned choice = 1; choice < 2 * shm::kRecordsPerBucket; ++choice) {
    const shm::SeqPosition position = table.victim_place(hash, choice);
    if (validated_at(table.payload_at(position)) < validated_at(table.payload_at(oldest))) oldest = position;
  }
  return oldest;
}

template <typename Record, typename Matches>
void put(shm::SeqTableWriter<Record>* table, uint64_t hash, Matches matches, const Record& record,
         uint64_t* entries, uint64_t* displacements) {
  if (const auto same = table->find(hash, matches)) {
    if (validated_at(table->payload_at(*same)) <= validated_at(record)) table->put(*same, hash, record);
    return;
  }
  if (const auto place = table->free_place(hash)) {
    table->put(*place, hash, record);
    ++*entries;
    return;
  }
  table->put(oldest_place(*table, hash), hash, record);
  ++*displacements;
}

template <typename Record, typename Matches>
bool remove(shm::SeqTableWriter<Record>* table, uint64_t hash, Matches matches, uint64_t* entries) {
  const auto position = table->find(hash, matches);
  if (!position) return false;
  table->remove(*position);
  --*entries;
  return true;
}

}  // namespace

NameTable::NameTable(const uint64_t name_hash_key[2], shm::SeqTableWriter<shm::NameRecord> names,
                     shm::SeqTableWriter<shm::InodeRecord> inodes)
    : name_hash_key_{name_hash_key[0], name_hash_key[1]}, names_(names), inodes_(inodes) {}

void NameTable::put_name(uint32_t volume, const shm::Handle& parent, std::string_view name,
                         const shm::Handle& child, uint64_t validated_at_ns) {
  const shm::NameHash hash = shm::hash_name(name_hash_key_, volume, parent, name);
  shm::NameRecord record;
  record.name_hash_high = hash.high;
  record.name_hash_low = hash.low;
  record.child = child;
  record.validated_at_ns = validated_at_ns;
  record.volume = volume;
  put_name_record(record);
}

void NameTable::put_absent(uint32_t volume, const shm::Handle& parent, std::string_view name,
                           uint64_t validated_at_ns) {
  const shm::NameHash hash = shm::hash_name(name_hash_key_, volume, parent, name);
  shm::NameRecord record;
  record.name_hash_high = hash.high;
  record.name_hash_low = hash.low;
  record.validated_at_ns = validated_at_ns;
  record.flags = shm::kNameAbsent;
  record.volume = volume;
  put_name_record(record);
}

void NameTable::put_name_record(const shm::NameRecord& record) {
  const shm::NameHash hash{record.name_hash_high, record.name_hash_low};
  put(&names_, hash.low, same_name(record.volume, hash), record, &stats_.names, &stats_.name_displacements);
}

bool NameTable::remove_name(uint32_t volume, const shm::Handle& parent, std::string_view name) {
  const shm::NameHash hash = shm::hash_name(name_hash_key_, volume, parent, name);
  return remove(&names_, hash.low, same_name(volume, hash), &stats_.names);
}

void NameTable::put_inode(uint32_t volume, const shm::InodeInfo& info) {
  shm::InodeRecord record;
  record.info = info;
  record.volume = volume;
  put(&inodes_, shm::hash_inode(info.handle, volume), same_inode(volume, info.handle), record, &stats_.inodes,
      &stats_.inode_displacements);
}

bool NameTable::remove_inode(uint32_t volume, const shm::Handle& handle) {
  return remove(&inodes_, shm::hash_inode(handle, volume), same_inode(volume, handle), &stats_.inodes);
}

std::optional<shm::NameRecord> NameTable::find_name(uint32_t volume, const shm::Handle& parent,
                                                    std::string_view name) const {
  const shm::NameHash hash = shm::hash_name(name_hash_key_, volume, parent, name);
  const auto position = names_.find(hash.low, same_name(volume, hash));
  if (!position) return std::nullopt;
  return names_.payload_at(*position);
}

std::optional<shm::InodeInfo> NameTable::find_inode(uint32_t volume, const shm::Handle& handle) const {
  const auto position = inodes_.find(shm::hash_inode(handle, volume), same_inode(volume, handle));
  if (!position) return std::nullopt;
  return inodes_.payload_at(*position).info;
}

}  // namespace cached::memory_tier
