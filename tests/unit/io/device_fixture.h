// What the tests of devices share: aligned memory, files in a directory of the test, transfers on a reactor.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cached/io/device.h"
#include "tests/unit/io/reactor_fixture.h"

namespace cached::io {

// Shared memory, as the arena is; aligned to pages.
class Memory {
 public:
  explicit Memory(size_t size_bytes) : size_bytes_(size_bytes) {
    const UniqueFd file(::memfd_create("cached-io-test", MFD_CLOEXEC));
    EXPECT_EQ(::ftruncate(file.get(), static_cast<off_t>(size_bytes)), 0);
    void* const mapped =
        ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file.get(), 0);
    if (mapped == MAP_FAILED) std::abort();
    bytes_ = static_cast<std::byte*>(mapped);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { ::munmap(bytes_, size_bytes_); }

  std::byte* data() const { return bytes_; }
  size_t size() const { return size_bytes_; }
  iovec piece(size_t offset_bytes, size_t length_bytes) const {
    return iovec{bytes_ + offset_bytes, length_bytes};
  }
  iovec whole() const { return piece(0, size_bytes_); }
  std::string text() const { return std::string(reinterpret_cast<const char*>(bytes_), size_bytes_); }

 private:
  const size_t size_bytes_;
  std::byte* bytes_ = nullptr;
};

// Text of which no two blocks are alike.
inline std::string device_text(size_t size_bytes, char salt = 'A') {
  std::string text(size_bytes, salt);
  for (size_t at = 0; at + 8 <= size_bytes; at += 64) {
    const uint64_t number = at + 1;
    std::memcpy(&text[at], &number, sizeof number);
  }
  return text;
}

inline void fill(const Memory& memory, const std::string& text) {
  std::memcpy(memory.data(), text.data(), std::min(text.size(), memory.size()));
}

inline int readv_on(Reactor& reactor, Device& device, const std::vector<iovec>& iovecs,
                    uint64_t offset_bytes) {
  return run_on(reactor, [&] { return device.readv(reactor, iovecs, offset_bytes); });
}
inline int writev_on(Reactor& reactor, Device& device, const std::vector<iovec>& iovecs,
                     uint64_t offset_bytes) {
  return run_on(reactor, [&] { return device.writev(reactor, iovecs, offset_bytes); });
}
inline int sync_on(Reactor& reactor, Device& device) {
  return run_on(reactor, [&] { return device.sync(reactor); });
}

inline void write_text(Device& device, const std::string& text, uint64_t offset_bytes) {
  const Memory memory(text.size());
  fill(memory, text);
  const Status status = device.write_blocking(memory.data(), memory.size(), offset_bytes);
  EXPECT_TRUE(status.ok()) << status.message();
}

inline std::string text_of(Device& device, uint64_t offset_bytes, size_t length_bytes) {
  const Memory memory(length_bytes);
  const Result<size_t> result = device.read_blocking(memory.data(), length_bytes, offset_bytes);
  EXPECT_TRUE(result.ok()) << result.status().message();
  return result.ok() ? memory.text().substr(0, result.value()) : std::string();
}

// A directory for one test's files.
class TestDirectory {
 public:
  TestDirectory() {
    path_ = testing::TempDir() + "cached-io-test-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) std::abort();
  }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;
  ~TestDirectory() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  bool has_direct_io() const {
    const UniqueFd probe(::open(file("probe").c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600));
    return probe.valid();
  }

 private:
  std::string path_;
};

}  // namespace cached::io
