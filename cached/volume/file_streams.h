// FileStreams: sees that the files of a directory are read one after another, in the order in which the
// directory lists them or in that of their names, and says which come next.
//
// A small file that is not cached costs its reader four wake-ups and several system calls, one after the
// other, while nothing else happens. Who reads a directory in order gets the next files named, opened and
// fetched while he reads; many of them together cost a fraction of what each costs alone.
//
// Only reads that had to ask the origin are noted, so what follows a stream is noted again behind what was
// read ahead of it. The first few in a directory make its names worth listing, once; three in order are a
// stream, and what is read ahead doubles while it goes on. A stream that came to the end of its directory is
// expected to go on with the first file of another. Who reads at random has three in order by chance only
// where a directory has few files, and then reads them soon anyhow.
//
// One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cached/volume/lru_map.h"
#include "shm/types.h"

namespace cached::volume {

// Content of files up to so many bytes is fetched ahead; larger ones have a read-ahead of their own.
inline constexpr uint64_t kSmallFileBytes = 1024 * 1024;

// The names of a directory's regular files, in both orders. Immutable.
class FileOrder {
 public:
  // `names`: as the directory lists them. Costs a sort; belongs on a BlockingPool.
  explicit FileOrder(const std::vector<std::string>& names);

  uint32_t size() const { return static_cast<uint32_t>(begins_.size()); }
  // About what it takes of memory.
  uint64_t bytes() const;
  std::string_view listed(uint32_t place) const;
  std::string_view sorted(uint32_t place) const { return listed(by_name_[place]); }
  struct Places {
    uint32_t listed = 0;
    uint32_t sorted = 0;
  };
  // Nothing: no file had that name.
  std::optional<Places> find(std::string_view name) const;

 private:
  std::string text_;              // the names, one behind the other
  std::vector<uint32_t> begins_;  // of each in it, as listed
  std::vector<uint32_t> by_name_;
};

class FileStreams {
 public:
  // How many files are named ahead of a stream: at first, and at most.
  struct Window {
    uint32_t shortest = 16;
    uint32_t longest = 128;
  };
  FileStreams();
  explicit FileStreams(Window window);

  static constexpr unsigned kReadsBeforeListing = 3;
  static constexpr unsigned kReadsInOrder = 3;
  static constexpr uint32_t kDisorder = 8;    // files: several threads read one stream, and some are skipped
  static constexpr size_t kDirectories = 64;  // that are followed at a time
  static constexpr uint64_t kOrderBytes = 32ULL << 20;   // of all their names
  static constexpr uint32_t kNamesToRelistDivisor = 16;  // unknown names before a directory is listed again

  // The file `name` of `directory` was asked for at the origin by a reader. True: there is something to do,
  // and nobody does it yet; begin with wants_order().
  bool note(const shm::Handle& directory, const std::string& name);
  // Whether the directory's names are to be listed now, and set_order() or give_up() called.
  bool wants_order(const shm::Handle& directory);
  void set_order(const shm::Handle& directory, std::shared_ptr<const FileOrder> order);
  // There is none to be had: the directory is left alone for as long as it is remembered.
  void give_up(const shm::Handle& directory);
  // The next files to read ahead, `count` at most. None: that was all; note() will say when there is more.
  std::vector<std::string> take(const shm::Handle& directory, uint32_t count);
  // Whether the stream that was followed in the directory has had all of it named.
  bool at_end(const shm::Handle& directory);
  // A stream that was followed in `from` will go on at the beginning of `directory`, in which none is known
  // yet: its first files can be taken now. False: somebody was there before.
  bool begin(const shm::Handle& directory, std::shared_ptr<const FileOrder> order, const shm::Handle& from);

 private:
  // How far reads came in one of the orders.
  struct Run {
    uint32_t last = 0;      // place of the farthest read
    uint32_t next = 0;      // behind what was read or named
    uint32_t end = 0;       // behind what is to be named
    unsigned in_order = 0;  // reads, so far
    uint32_t window = 0;
    void follow(uint32_t place, bool goes_on, const Window& limits);
  };
  enum class Names : uint8_t { kUnknown, kWanted, kListing, kKnown, kNotToBeHad };
  struct Directory {
    Names names = Names::kUnknown;
    std::shared_ptr<const FileOrder> order;
    std::vector<std::string> early;  // what was read before the order was known
    uint32_t strangers = 0;          // reads of files that the order does not know
    bool goes_on = false;            // a stream from another directory may go on here
    bool busy = false;               // somebody takes
    Run listed;
    Run sorted;
    // The one that a stream follows, if there is one.
    Run& stream() { return listed.in_order >= sorted.in_order ? listed : sorted; }
  };

  Directory& directory_of(const shm::Handle& directory);
  // Forgets the directory that was used longest ago; there is one.
  void forget_oldest();
  // Whether there is something to take now.
  bool advance(Directory* directory, const std::string& name);

  const Window window_;
  LruMap<shm::Handle, Directory> directories_{kDirectories};
  uint64_t order_bytes_ = 0;
  bool came_to_an_end_ = false;  // a stream did, and no other directory was read since
};

}  // namespace cached::volume
