// Device: one SSD of the cache as those who read and write it see it: a flat run of bytes, in whole blocks,
// by direct I/O.
//
// The product has one kind (FileDevice: block devices and preallocated files). Tests and benchmarks have
// MemoryDevice, and FaultDevice around any other. A device does not retry, repair or judge: it reports what
// happened, short transfers included, and its caller decides.
//
// Threads. A device belongs to no thread; every shard may use it, each with its own reactor. The methods that
// take a Reactor are called on that reactor's own thread, and their tasks run there; the blocking ones are
// for threads that are not reactors (recovery, tools).
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"
#include "cached/io/reactor.h"
#include "cached/io/task.h"

namespace cached::io {

struct DeviceGeometry {
  uint64_t capacity_bytes = 0;  // a multiple of block_bytes
  // What offset, length and memory address of every transfer are multiples of: a power of two from 512 to
  // 4096.
  uint32_t block_bytes = 0;
};

// The sum of the lengths of `iovecs`.
uint64_t length_of(std::span<const iovec> iovecs);

// 0 for a transfer that a device of `geometry` takes; -EINVAL for one that is empty, is not made of whole
// blocks, has more than IOV_MAX pieces, lies in part outside of the device, or is longer than the kernel
// moves at once (2 GiB less a page).
int check_transfer(const DeviceGeometry& geometry, std::span<const iovec> iovecs, uint64_t offset_bytes);

class Device {
 public:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  // No operation may be under way, and no reactor attached that will still run one.
  virtual ~Device() = default;

  // What it is called in messages: the path it was opened by. Any thread.
  virtual const std::string& path() const = 0;
  // Does not change while the device is open. Any thread.
  virtual DeviceGeometry geometry() const = 0;

  // Reads from `offset_bytes` into `iovecs`, or writes them there. The result is the number of bytes moved,
  // which may be less than asked for (0 included), or -errno; -EINVAL for what check_transfer() refuses,
  // -ECANCELED where the reactor stopped. `iovecs` and the memory that they name must live, and the memory
  // be left alone, until the task has ended: giving up on a task does not end it.
  virtual Task<int> readv(Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset_bytes) = 0;
  virtual Task<int> writev(Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset_bytes) = 0;
  // Makes what was written, by operations that ended before this one began, survive a loss of power. 0 or
  // -errno.
  virtual Task<int> sync(Reactor& reactor) = 0;

  // The same for threads that may block. A read returns how many bytes came, fewer than `length_bytes` only
  // where the device ends early; a write is complete or an error. Messages name the device and the offset.
  virtual Result<size_t> read_blocking(void* buffer, size_t length_bytes, uint64_t offset_bytes) = 0;
  virtual Status write_blocking(const void* buffer, size_t length_bytes, uint64_t offset_bytes) = 0;
  virtual Status sync_blocking() = 0;

  // Registers the device with `reactor` (Reactor::register_file), which makes its operations there cheaper
  // and keeps the device locked until that ring's last operation has ended; detach() takes that back.
  // Optional. On the reactor's own thread. Detach before the device is destroyed, unless the reactor runs no
  // operation any more.
  virtual void attach(Reactor& reactor) = 0;
  virtual void detach(Reactor& reactor) = 0;
};

}  // namespace cached::io
