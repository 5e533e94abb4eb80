// AlignedBuffer: memory for direct I/O, and the one way in which the blocking parts of the SSD tier read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"
#include "base/units.h"
#include "cached/io/device.h"
#include "cached/ssd_tier/format.h"

namespace cached::ssd_tier {

// Owns memory that every device takes: it starts at a page and fills whole pages. Its content is undefined.
class AlignedBuffer {
 public:
  static Result<AlignedBuffer> allocate(size_t size_bytes) {
    const size_t allocated_bytes = align_up(size_bytes, kMaximumBlockBytes);
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(kMaximumBlockBytes, allocated_bytes));
    if (memory == nullptr)
      return Status(ENOMEM, "no " + std::to_string(size_bytes) + " bytes for a transfer");
    return AlignedBuffer(memory, size_bytes);
  }

  // With a copy of `content`, and zeros up to the page's end.
  static Result<AlignedBuffer> copy_of(std::span<const std::byte> content) {
    Result<AlignedBuffer> buffer = allocate(content.size());
    if (!buffer.ok()) return buffer;
    std::memset(buffer->data(), 0, align_up(content.size(), kMaximumBlockBytes));
    std::memcpy(buffer->data(), content.data(), content.size());
    return buffer;
  }

  std::byte* data() { return memory_.get(); }
  size_t size() const { return size_bytes_; }
  std::span<std::byte> bytes() { return {memory_.get(), size_bytes_}; }
  std::span<const std::byte> bytes() const { return {memory_.get(), size_bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  AlignedBuffer(std::byte* memory, size_t size_bytes) : memory_(memory), size_bytes_(size_bytes) {}

  std::unique_ptr<std::byte, Free> memory_;
  size_t size_bytes_;
};

// Reads the whole of a range whose ends are multiples of the device's blocks. EIO for a short read. Blocks.
inline Result<AlignedBuffer> read_aligned(io::Device& device, size_t length_bytes, uint64_t offset_bytes) {
  Result<AlignedBuffer> buffer = AlignedBuffer::allocate(length_bytes);
  if (!buffer.ok()) return buffer;
  const Result<size_t> got = device.read_blocking(buffer->data(), length_bytes, offset_bytes);
  if (!got.ok()) return got.status();
  if (*got != length_bytes) {
    return Status(EIO, device.path() + ": only " + std::to_string(*got) + " of " +
                           std::to_string(length_bytes) + " bytes at " + std::to_string(offset_bytes));
  }
  return buffer;
}

}  // namespace cached::ssd_tier
