// Streams through packs: see pack_streams.h.
#include "cached/readpath/pack_streams.h"

#include <algorithm>

namespace cached::readpath {

const PackStreams::Entry* PackStreams::find(const shm::ObjectId& pack) const {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.last_used != 0 && entry.pack == pack;
  });
  return found == entries_.end() ? nullptr : &*found;
}

PackStreams::Entry& PackStreams::entry_of(const shm::ObjectId& pack) {
  auto* entry = const_cast<Entry*>(find(pack));
  if (entry == nullptr) {
    entry = &*std::min_element(entries_.begin(), entries_.end(),
                               [](const Entry& a, const Entry& b) { return a.last_used < b.last_used; });
    *entry = Entry{.pack = pack};
  }
  entry->last_used = ++uses_;
  return *entry;
}

PackStreams::Ahead PackStreams::note(const shm::ObjectId& pack, uint64_t begin, uint64_t end) {
  Entry& entry = entry_of(pack);
  if (entry.asked) return {};
  const bool in_order = begin + kDisorderBytes >= entry.next && begin <= entry.next + kDisorderBytes;
  entry.reads = entry.reads == 0 || in_order ? entry.reads + 1 : 1;
  entry.next = end;
  if (entry.window == 0 && entry.reads < kReadsInOrder) return {};
  entry.window = std::min(std::max(1U, entry.window * 2), kLongestWindow);
  entry.asked = true;
  return {.rest = true, .packs = entry.window};
}

void PackStreams::announce(const shm::ObjectId& pack, unsigned window) {
  Entry& entry = entry_of(pack);
  if (!entry.asked) entry.window = std::max(entry.window, window);
}

}  // namespace cached::readpath
