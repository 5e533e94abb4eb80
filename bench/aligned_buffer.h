// AlignedBuffer: a page-aligned, touched buffer that O_DIRECT accepts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

namespace cached::bench {

class AlignedBuffer {
 public:
  explicit AlignedBuffer(uint64_t size_bytes)
      : bytes_(static_cast<std::byte*>(::operator new(size_bytes, kAlignment))), size_bytes_(size_bytes) {
    // Touched now, so that no first access is charged to an I/O.
    std::memset(bytes_.get(), 0, size_bytes);
  }
  std::byte* data() { return bytes_.get(); }
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  static constexpr std::align_val_t kAlignment{4096};
  struct Free {
    void operator()(std::byte* bytes) const { ::operator delete(bytes, kAlignment); }
  };
  std::unique_ptr<std::byte, Free> bytes_;
  uint64_t size_bytes_;
};

}  // namespace cached::bench
