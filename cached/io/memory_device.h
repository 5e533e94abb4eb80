// MemoryDevice: a Device whose bytes lie in memory, for unit tests and for benchmarks of what stands above a
// device. As strict as a real one about alignment and bounds, and as asynchronous: an operation ends in a
// later turn of the reactor's loop.
//
// Zero when made; takes memory only for what was written. Any number of threads; transfers that overlap come
// one after the other. Keeps nothing when destroyed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <string>

#include "cached/io/device.h"

namespace cached::io {

class MemoryDevice : public Device {
 public:
  // `name` is its path(). `geometry` as DeviceGeometry says. ENOMEM where there is no address space for it.
  static Result<std::unique_ptr<MemoryDevice>> create(std::string name, DeviceGeometry geometry);
  ~MemoryDevice() override;

  const std::string& path() const override { return name_; }
  DeviceGeometry geometry() const override { return geometry_; }
  Task<int> readv(Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset_bytes) override;
  Task<int> writev(Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset_bytes) override;
  Task<int> sync(Reactor& reactor) override;
  Result<size_t> read_blocking(void* buffer, size_t length_bytes, uint64_t offset_bytes) override;
  Status write_blocking(const void* buffer, size_t length_bytes, uint64_t offset_bytes) override;
  Status sync_blocking() override;
  void attach(Reactor& reactor) override;
  void detach(Reactor& reactor) override;

 private:
  MemoryDevice(std::string name, DeviceGeometry geometry, std::byte* bytes);
  int read_now(std::span<const iovec> iovecs, uint64_t offset_bytes);
  int write_now(std::span<const iovec> iovecs, uint64_t offset_bytes);

  const std::string name_;
  const DeviceGeometry geometry_;
  std::byte* const bytes_;   // a mapping of capacity_bytes
  std::shared_mutex mutex_;  // guards the bytes
};

}  // namespace cached::io
