// Content: what every byte of a verified file is, as a function of seed, file, version and offset.
//
// A file is a sequence of 8-byte words. Word i of a (seed, file, version) is mix(base + i * kStep), where
// `base` is a strong hash of the three and mix() is a bijection of 64 bits. Consequences that the judge
// relies on:
//  - at one offset, words of two versions of one file, or of two files of one version, always differ (not
//    just probably);
//  - mix() can be inverted, so a word found in a wrong place tells where it belongs, by arithmetic and not by
//    search.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cached::verify {

inline constexpr uint64_t kWordBytes = 8;

class Content {
 public:
  Content(uint64_t seed, uint64_t file_id, uint64_t version);

  // The word with this index, i.e. at byte offset 8 * index.
  uint64_t word(uint64_t index) const;
  // Writes the bytes of [offset, offset + length) to `out`. Any alignment.
  void fill(uint64_t offset, void* out, size_t length) const;
  // Position in `data` (which should be the bytes from `offset` on) of the first byte that is wrong; `length`
  // if all are right. Any alignment.
  size_t first_mismatch(uint64_t offset, const void* data, size_t length) const;
  // The index i for which word(i) == value. Every value has one; a large result means that it is none of this
  // content.
  uint64_t index_of(uint64_t value) const;

 private:
  uint64_t base_;
};

}  // namespace cached::verify
