#include "cached/ssd_tier/reserved_memory.h"

#include <sys/mman.h>

#include <utility>

namespace cached::ssd_tier {

// Without access, which counts as nothing where the kernel limits what is promised (vm.overcommit_memory).
ReservedMemory::ReservedMemory(size_t size_bytes) {
  if (size_bytes == 0) return;
  void* const memory =
      ::mmap(nullptr, size_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return;
  data_ = static_cast<std::byte*>(memory);
  size_bytes_ = size_bytes;
}

ReservedMemory::~ReservedMemory() {
  if (data_ != nullptr) ::munmap(data_, size_bytes_);
}

ReservedMemory::ReservedMemory(ReservedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_bytes_(std::exchange(other.size_bytes_, 0)) {}

ReservedMemory& ReservedMemory::operator=(ReservedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

bool ReservedMemory::commit(size_t offset, size_t length_bytes) {
  return ::mprotect(data_ + offset, length_bytes, PROT_READ | PROT_WRITE) == 0;
}

void ReservedMemory::give_back(size_t offset, size_t length_bytes) {
  ::madvise(data_ + offset, length_bytes, MADV_DONTNEED);
}

}  // namespace cached::ssd_tier
