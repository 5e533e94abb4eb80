// PackStreams: notices that small files are read in the order in which they lie in packs, one after another.
//
// Each such file is opened and read by itself, so nobody who looks at one file can see the stream; who looks
// at the pack can. A pack that is read forwards for a few reads is the begin of a stream: the rest of it is
// worth fetching with one read, and so is the pack behind it. A pack that was announced (fetched ahead
// because the one before it was read) confirms the stream with the first read that asks for it, and the
// window ahead doubles. Who reads at random comes back to a pack long after its entry was forgotten.
//
// Hits in memory are not seen here, and need not be: a reader that is faster than the origin meets packs that
// are on their way, and one that is slower meets the first pack behind the window.
//
// Owned by one shard's thread.
#pragma once

#include <array>
#include <cstdint>

#include "shm/types.h"

namespace cached::readpath {

class PackStreams {
 public:
  static constexpr unsigned kLongestWindow = 4;  // packs ahead
  // What is worth fetching now.
  struct Ahead {
    bool rest = false;   // of this pack
    unsigned packs = 0;  // so many behind it
  };

  // Somebody asks for [begin, end) of a pack, and not all of it was in memory.
  Ahead note(const shm::ObjectId& pack, uint64_t begin, uint64_t end);
  // Whether note() would remember anything of it.
  bool knows(const shm::ObjectId& pack) const { return find(pack) != nullptr; }
  // The pack is fetched ahead of a stream that had `window` packs ahead of it. Nothing new if a reader has
  // met it since it was announced first.
  void announce(const shm::ObjectId& pack, unsigned window);

 private:
  static constexpr unsigned kReadsInOrder = 3;  // make a stream
  static constexpr uint64_t kDisorderBytes =
      512 * 1024;  // several threads read one stream, and files may be skipped

  struct Entry {
    shm::ObjectId pack;
    uint64_t next = 0;       // where the last read ended
    uint64_t last_used = 0;  // 0: free
    unsigned reads = 0;      // in order, so far
    unsigned window = 0;     // packs ahead; 0: not announced
    bool asked = false;      // what is ahead was named
  };
  const Entry* find(const shm::ObjectId& pack) const;
  Entry& entry_of(const shm::ObjectId& pack);

  std::array<Entry, 64> entries_;
  uint64_t uses_ = 0;
};

}  // namespace cached::readpath
