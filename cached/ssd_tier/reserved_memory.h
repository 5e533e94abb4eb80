// ReservedMemory: address space of a fixed size, whose pages take memory from their first use until they are
// given back.
//
// What grows in it never moves and is never copied beside itself, so that the kernel counts what is used and
// no holes besides; an allocator keeps the pieces that a growing table leaves behind.
//
// One thread.
#pragma once

#include <cstddef>

namespace cached::ssd_tier {

class ReservedMemory {
 public:
  ReservedMemory() = default;
  // Reserves `size_bytes`. Where the kernel refuses, size() is 0.
  explicit ReservedMemory(size_t size_bytes);
  ~ReservedMemory();
  ReservedMemory(ReservedMemory&& other) noexcept;
  ReservedMemory& operator=(ReservedMemory&& other) noexcept;

  std::byte* data() const { return data_; }
  size_t size() const { return size_bytes_; }

  // Makes a range of whole pages usable; it is zero. Before its first use, and again after give_back(). False
  // where the kernel has no memory.
  bool commit(size_t offset, size_t length_bytes);
  // Takes back the memory of a range of whole pages, which were committed.
  void give_back(size_t offset, size_t length_bytes);

 private:
  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
};

}  // namespace cached::ssd_tier
