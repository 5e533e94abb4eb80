// Tests of registered files and buffers: that they are used where they can be, and that without them every
// transfer still does what it should.
#include "cached/io/ring_registry.h"

#include <sys/syscall.h>

#include "base/units.h"
#include "tests/unit/io/device_fixture.h"
#include "tests/unit/io/refuse.h"

namespace cached::io {
namespace {

constexpr size_t kPieceBytes = 64 * kKiB;

// Whether this kernel, with this process's limits, registers memory at all.
bool kernel_registers_memory() {
  io_uring ring{};
  if (io_uring_queue_init(1, &ring, 0) != 0) return false;
  const Memory memory(kPieceBytes);
  const iovec piece = memory.whole();
  const __u64 no_tag = 0;
  const bool registers = io_uring_register_buffers_sparse(&ring, 1) == 0 &&
                         io_uring_register_buffers_update_tag(&ring, 0, &piece, &no_tag, 1) == 1;
  io_uring_queue_exit(&ring);
  return registers;
}

class RegistryTest : public ReactorTest {
 protected:
  void on_reactor(std::function<void()> work) {
    reactor().post(std::move(work));
    settle(reactor());
  }
  void register_file(int fd) {
    on_reactor([this, fd] { reactor().register_file(fd); });
  }
  void announce(const Memory& memory, std::function<bool(uint64_t, uint64_t)> prepared) {
    on_reactor([&] {
      reactor().register_buffers(BufferRange{memory.data(), memory.size(), std::move(prepared), kPieceBytes});
    });
  }
  void announce(const Memory& memory) {
    announce(memory, [](uint64_t, uint64_t) { return true; });
  }
  void refuse_registrations(unsigned kind) {
    bool refusing = false;
    on_reactor([&] { refusing = refuse(__NR_io_uring_register, EPERM, Second::kIs, kind); });
    ASSERT_TRUE(refusing);
  }
  RingRegistry::Stats stats() {
    RingRegistry::Stats now;
    on_reactor([&] { now = reactor().registry_stats(); });
    return now;
  }
  int readv(int fd, std::vector<iovec> pieces, uint64_t offset = 0) {
    return run_on(reactor(), [&]() -> Task<int> {
      co_return co_await reactor().readv(fd, pieces.data(), static_cast<unsigned>(pieces.size()), offset);
    });
  }
  int writev(int fd, std::vector<iovec> pieces, uint64_t offset = 0) {
    return run_on(reactor(), [&]() -> Task<int> {
      co_return co_await reactor().writev(fd, pieces.data(), static_cast<unsigned>(pieces.size()), offset);
    });
  }
  // Reads one page of `memory` and says how many of the reads so far used registered memory.
  uint64_t fixed_after_read(int fd, const Memory& memory, size_t at_bytes = 0) {
    std::memset(memory.data() + at_bytes, 0, 4096);
    EXPECT_EQ(readv(fd, {memory.piece(at_bytes, 4096)}), 4096);
    EXPECT_EQ(memory.text().substr(at_bytes, 4096), text_.substr(0, 4096));
    return stats().fixed_buffer_operations;
  }

  const std::string text_ = device_text(4 * kPieceBytes);
  const UniqueFd file_ = file_with(text_);
};
INSTANTIATE_TEST_SUITE_P(Rings, RegistryTest, testing::Bool(), ring_name);

TEST_P(RegistryTest, OperationsUseARegisteredFile) {
  const Memory memory(4096);
  EXPECT_EQ(readv(file_.get(), {memory.whole()}), 4096);
  EXPECT_EQ(stats().fixed_file_operations, 0U);
  register_file(file_.get());
  EXPECT_EQ(readv(file_.get(), {memory.whole()}, 4096), 4096);
  EXPECT_EQ(memory.text(), text_.substr(4096, 4096));
  EXPECT_EQ(stats().files, 1U);
  EXPECT_EQ(stats().fixed_file_operations, 1U);
}

TEST_P(RegistryTest, UnregisteredFileIsUsedThroughItsDescriptorAgain) {
  const Memory memory(4096);
  register_file(file_.get());
  on_reactor([&] { reactor().unregister_file(file_.get()); });
  EXPECT_EQ(readv(file_.get(), {memory.whole()}), 4096);
  EXPECT_EQ(stats().files, 0U);
  EXPECT_EQ(stats().fixed_file_operations, 0U);
}

TEST_P(RegistryTest, EachOfManyRegisteredFilesIsTheOneMeant) {
  const Memory memory(4096);
  std::vector<UniqueFd> files;
  for (unsigned i = 0; i < RingRegistry::kMaxFiles + 2; ++i) {
    files.push_back(file_with(std::string(4096, static_cast<char>('0' + i))));
    register_file(files.back().get());
  }
  EXPECT_EQ(stats().files, RingRegistry::kMaxFiles);
  on_reactor([&] { reactor().unregister_file(files[3].get()); });
  register_file(files.back().get());  // takes its place
  for (unsigned i = 0; i < files.size(); ++i) {
    EXPECT_EQ(readv(files[i].get(), {memory.whole()}), 4096);
    EXPECT_EQ(memory.text(), std::string(4096, static_cast<char>('0' + i)));
  }
}

TEST_P(RegistryTest, OperationsOnARegisteredFileCanBeCancelled) {
  const Pipe pipe = make_pipe();
  register_file(pipe.reader.get());
  char byte = 0;
  auto read = start_on(reactor(), [&] { return read_some(reactor(), pipe.reader.get(), &byte, 1, 0); });
  settle(reactor());
  on_reactor([&] { reactor().cancel_fd(pipe.reader.get()); });
  EXPECT_EQ(read.get(), -ECANCELED);
  EXPECT_EQ(stats().fixed_file_operations, 1U);
}

TEST_P(RegistryTest, StatxWorksOnARegisteredFile) {
  register_file(file_.get());
  struct statx attributes {};
  EXPECT_EQ(run_on(reactor(),
                   [&]() -> Task<int> {
                     co_return co_await reactor().statx(file_.get(), 0, STATX_SIZE, &attributes);
                   }),
            0);
  EXPECT_EQ(attributes.stx_size, text_.size());
}

TEST_P(RegistryTest, RefusedRegistrationOfAFileLeavesItUsable) {
  const Memory memory(4096);
  refuse_registrations(IORING_REGISTER_FILES_UPDATE);
  register_file(file_.get());
  EXPECT_EQ(readv(file_.get(), {memory.whole()}), 4096);
  EXPECT_EQ(memory.text(), text_.substr(0, 4096));
  EXPECT_EQ(stats().files, 0U);
}

class OldKernelRegistryTest : public RegistryTest {};
INSTANTIATE_TEST_SUITE_P(Rings, OldKernelRegistryTest, testing::Values(true), ring_name);

TEST_P(OldKernelRegistryTest, TransfersGoFromUnregisteredMemory) {
  const Memory memory(kPieceBytes);
  register_file(file_.get());
  announce(memory);
  EXPECT_EQ(fixed_after_read(file_.get(), memory), 0U);
  EXPECT_EQ(stats().pieces, 0U);
}

class RegisteredBufferTest : public RegistryTest {
 protected:
  void SetUp() override {
    if (!kernel_registers_memory()) GTEST_SKIP() << "the kernel, or a limit, lets no memory be registered";
    RegistryTest::SetUp();
    register_file(file_.get());
  }
};
INSTANTIATE_TEST_SUITE_P(Rings, RegisteredBufferTest, testing::Values(false), ring_name);

TEST_P(RegisteredBufferTest, ReadsUseRegisteredMemory) {
  const Memory memory(4 * kPieceBytes);
  announce(memory);
  EXPECT_EQ(stats().pieces, 0U) << "registered before anybody used it";
  EXPECT_EQ(fixed_after_read(file_.get(), memory, kPieceBytes), 1U);
  EXPECT_EQ(fixed_after_read(file_.get(), memory, 2 * kPieceBytes - 4096), 2U);
  EXPECT_EQ(stats().pieces, 1U);
  EXPECT_EQ(fixed_after_read(file_.get(), memory, 3 * kPieceBytes), 3U);
  EXPECT_EQ(stats().pieces, 2U);
}

TEST_P(RegisteredBufferTest, WritesUseRegisteredMemory) {
  const Memory memory(kPieceBytes);
  announce(memory);
  const std::string text = device_text(memory.size(), 'w');
  fill(memory, text);
  EXPECT_EQ(writev(file_.get(), {memory.whole()}, kPieceBytes), static_cast<int>(kPieceBytes));
  EXPECT_EQ(stats().fixed_buffer_operations, 1U);
  std::string written(kPieceBytes, 0);
  EXPECT_EQ(::pread(file_.get(), written.data(), written.size(), kPieceBytes),
            static_cast<ssize_t>(kPieceBytes));
  EXPECT_EQ(written, text);
}

TEST_P(RegisteredBufferTest, MemoryIsNotRegisteredBeforeItIsPrepared) {
  const Memory memory(2 * kPieceBytes);
  std::atomic<bool> prepared = false;
  announce(memory, [&](uint64_t offset_bytes, uint64_t length_bytes) {
    EXPECT_EQ(offset_bytes, kPieceBytes);
    EXPECT_EQ(length_bytes, kPieceBytes);
    return prepared.load();
  });
  EXPECT_EQ(fixed_after_read(file_.get(), memory, kPieceBytes), 0U);
  prepared = true;
  EXPECT_EQ(fixed_after_read(file_.get(), memory, kPieceBytes), 1U);
}

TEST_P(RegisteredBufferTest, TransferAcrossPiecesIsRight) {
  const Memory memory(2 * kPieceBytes);
  announce(memory);
  EXPECT_EQ(readv(file_.get(), {memory.piece(kPieceBytes - 4096, 8192)}), 8192);
  EXPECT_EQ(memory.text().substr(kPieceBytes - 4096, 8192), text_.substr(0, 8192));
  EXPECT_EQ(stats().fixed_buffer_operations, 0U);
}

TEST_P(RegisteredBufferTest, TransferOfSeveralRunsIsRight) {
  const Memory memory(kPieceBytes);
  announce(memory);
  EXPECT_EQ(readv(file_.get(), {memory.piece(8192, 4096), memory.piece(0, 4096)}), 8192);
  EXPECT_EQ(memory.text().substr(8192, 4096) + memory.text().substr(0, 4096), text_.substr(0, 8192));
  EXPECT_EQ(stats().fixed_buffer_operations, 0U);
}

TEST_P(RegisteredBufferTest, OtherMemoryIsUsedAsItIs) {
  const Memory announced(kPieceBytes);
  const Memory other(kPieceBytes);
  announce(announced);
  EXPECT_EQ(fixed_after_read(file_.get(), other), 0U);
}

TEST_P(RegisteredBufferTest, FilesThatAreNotRegisteredDoNotUseIt) {
  const Memory memory(kPieceBytes);
  announce(memory);
  const UniqueFd other = file_with(text_);
  EXPECT_EQ(fixed_after_read(other.get(), memory), 0U);
}

TEST_P(RegisteredBufferTest, EachOfSeveralRangesIsTheOneMeant) {
  const Memory first(2 * kPieceBytes);
  const Memory second(kPieceBytes + 4096);  // the last piece is a small one
  announce(first);
  announce(second);
  EXPECT_EQ(fixed_after_read(file_.get(), second, kPieceBytes), 1U);
  EXPECT_EQ(fixed_after_read(file_.get(), first, kPieceBytes), 2U);
  EXPECT_EQ(fixed_after_read(file_.get(), second), 3U);
}

TEST_P(RegisteredBufferTest, RefusedRegistrationFallsBackAndIsNotTriedAgain) {
  const Memory memory(2 * kPieceBytes);
  int asked = 0;
  announce(memory, [&](uint64_t, uint64_t) {
    ++asked;
    return true;
  });
  EXPECT_EQ(fixed_after_read(file_.get(), memory), 1U);
  refuse_registrations(IORING_REGISTER_BUFFERS_UPDATE);
  EXPECT_EQ(fixed_after_read(file_.get(), memory, kPieceBytes), 1U) << "refused";
  EXPECT_EQ(fixed_after_read(file_.get(), memory, kPieceBytes), 1U) << "not tried again";
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(fixed_after_read(file_.get(), memory), 2U) << "what was registered goes on";
}

TEST_P(RegisteredBufferTest, RefusedTableFallsBack) {
  const Memory memory(kPieceBytes);
  refuse_registrations(IORING_REGISTER_BUFFERS2);
  announce(memory);
  EXPECT_EQ(fixed_after_read(file_.get(), memory), 0U);
}

TEST_P(RegisteredBufferTest, PiecesGrowUntilTheTableHoldsTheRange) {
  const Memory large(kGiB);  // of which hardly a page is ever touched
  on_reactor([&] {
    reactor().register_buffers(BufferRange{large.data(), large.size(),
                                           [](uint64_t, uint64_t length_bytes) {
                                             EXPECT_EQ(length_bytes, kGiB / RingRegistry::kMaxPieces);
                                             return true;
                                           },
                                           4096});
  });
  std::memset(large.data() + kGiB / 2, 0, 4096);
  EXPECT_EQ(readv(file_.get(), {large.piece(kGiB / 2, 8192)}), 8192);
  EXPECT_EQ(std::memcmp(large.data() + kGiB / 2, text_.data(), 8192), 0);
  EXPECT_EQ(stats().fixed_buffer_operations, 1U);

  const Memory no_room(kPieceBytes);
  announce(no_room);
  EXPECT_EQ(fixed_after_read(file_.get(), no_room), 1U);
}

}  // namespace
}  // namespace cached::io
