// NameStreams: sees that the names of a directory are looked up one after another, in their order, and says
// which entries to learn ahead of that.
//
// A lookup that the name table does not answer costs a client a question and two processes a wake-up each;
// learning an entry of a table that is at hand costs some microseconds. Who reads a tree from its beginning
// to its end asks once for up to kMaximumNamesAhead names that way. Lookups that are answered from the name
// table are not seen here, so a stream goes on behind what was learned for it. Random lookups learn nothing:
// three in a row must be in order.
//
// One thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cached/volume/lru_map.h"

namespace cached::volume {

inline constexpr unsigned kMinimumNamesAhead = 8;
inline constexpr unsigned kMaximumNamesAhead = 64;  // 0.2 ms of work at most, before others have their turn
inline constexpr size_t kNameStreams = 64;          // directories that are followed at a time

class NameStreams {
 public:
  // Entries [first, first + count); nothing if count is 0.
  struct Ahead {
    uint64_t first = 0;
    unsigned count = 0;
    friend bool operator==(const Ahead&, const Ahead&) = default;
  };

  // Entry `number` of `directory` was looked up. Entries of a directory have successive numbers in the order
  // of their names.
  Ahead observe(uint32_t directory, uint64_t number) {
    Stream* const known = streams_.get(directory);
    Stream& stream = known != nullptr ? *known : *streams_.put(directory, Stream{});
    const bool goes_on =
        stream.next != 0 && number >= stream.last && number < stream.next + kMinimumNamesAhead;
    stream.run = goes_on ? stream.run + 1 : 1;
    stream.last = number;
    if (!goes_on) stream.window = 0;
    if (!goes_on || number >= stream.next) stream.next = number + 1;
    if (stream.run < kRun || number + 1 < stream.next) return {};
    stream.window = std::clamp(2 * stream.window, kMinimumNamesAhead, kMaximumNamesAhead);
    const Ahead ahead{.first = stream.next, .count = stream.window};
    stream.next += stream.window;
    return ahead;
  }

 private:
  static constexpr unsigned kRun = 3;
  struct Stream {
    uint64_t last = 0;    // looked up last
    uint64_t next = 0;    // the first that was neither looked up nor learned ahead; 0: no lookup yet
    unsigned run = 0;     // lookups in order, the last one included
    unsigned window = 0;  // learned ahead the last time
  };
  LruMap<uint32_t, Stream> streams_{kNameStreams};
};

}  // namespace cached::volume
