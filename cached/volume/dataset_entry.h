// Entries of a data set's tree, and the pages that hold them: the table of entries and its index.
//
// Pages are written once, front to back, by EntryPageWriter. EntryPageReader walks one page: it can pass over
// entries looking at names alone, which is what a lookup does, and decode those that it stops at.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "cached/volume/dataset_bytes.h"
#include "cached/volume/dataset_format.h"

namespace cached::volume {

enum class EntryKind : uint8_t { kFile, kDirectory, kSymlink, kSpecial, kLink };

struct Timestamp {
  int64_t seconds = 0;
  uint32_t nanoseconds = 0;
  friend bool operator==(const Timestamp&, const Timestamp&) = default;
};

inline constexpr uint32_t kRootDirectory =
    1;  // the root's own number; it lies, without a name, in directory 0

struct Entry {
  uint64_t number = 0;     // of the entry
  uint32_t directory = 0;  // that it lies in
  EntryKind kind = EntryKind::kFile;
  std::string name;
  // kLink: the entry of the inode, and nothing below.
  uint64_t link_to = 0;
  uint64_t attributes = 0;  // number of the record
  uint64_t ino = 0;
  uint32_t nlink = 1;
  uint64_t size = 0;
  uint64_t blocks_512 = 0;
  Timestamp mtime, atime, ctime;
  bool unsettled = false;      // could still change without its times telling
  uint64_t object = 0;         // kFile with size > 0: number in the table of objects
  uint64_t object_offset = 0;  // where it begins there; a multiple of 16
  uint32_t own_directory = 0;  // kDirectory: its number
  uint64_t device = 0;         // kSpecial: st_rdev
  std::string target;          // kSymlink
};

// st_blocks of an entry that does not say: whole 4 KiB for files, none for others.
uint64_t usual_blocks(EntryKind kind, uint64_t size);

// Collects the payload of one page.
class EntryPageWriter {
 public:
  // Appends `entry`; false, with nothing changed, if the page has no room for it. Entries come in the order
  // of the table; one always fits into an empty page.
  bool add(const Entry& entry);
  bool empty() const { return count_ == 0; }
  uint64_t first_entry() const { return first_.number; }
  // The first entry's place, for the index.
  uint32_t first_directory() const { return first_.directory; }
  const std::string& first_name() const { return first_.name; }
  // The payload; the writer is empty afterwards.
  std::string take();

 private:
  void write_times(const Entry& entry, ByteWriter* body) const;
  void write_body(const Entry& entry, ByteWriter* body) const;

  ByteWriter payload_;
  Entry first_;  // which is also the base of differences
  uint32_t directory_ = 0;
  std::string name_;  // of the entry before
  uint64_t count_ = 0;
};

// Walks the entries of one page, whose payload must stay where it is.
class EntryPageReader {
 public:
  explicit EntryPageReader(const PageView& page);
  // Moves to the next entry; false at the end of the page, or at damage (see status()).
  bool next();
  // The current entry's number, directory and name; the name lives until next().
  uint64_t number() const { return number_; }
  uint32_t directory() const { return directory_; }
  std::string_view name() const { return name_; }
  // Decodes the current entry. EIO for damage.
  Result<Entry> entry() const;
  Status status() const;

 private:
  void read_times(ByteReader* body, Entry* entry) const;

  ByteReader payload_;
  int64_t base_mtime_ = 0;
  uint64_t base_ino_ = 0;
  uint64_t base_object_ = 0;
  uint64_t base_child_ = 0;
  uint64_t next_number_;
  uint64_t number_ = 0;
  uint32_t directory_ = 0;
  std::string name_;
  uint8_t shape_ = 0;
  std::string_view body_;
  bool damaged_ = false;
};

// The index: the first entry of each page of entries, front-coded.
struct IndexKey {
  uint64_t first_entry = 0;
  uint32_t directory = 0;
  std::string name;
};
class IndexWriter {
 public:
  // The bytes that are appended to the index for `key`, which comes after all before it.
  std::string add(const IndexKey& key);

 private:
  IndexKey before_;
};
// Takes the whole index apart. EIO if it does not have `pages` keys in strict order.
Result<std::vector<IndexKey>> decode_index(std::string_view bytes, uint64_t pages);

}  // namespace cached::volume
