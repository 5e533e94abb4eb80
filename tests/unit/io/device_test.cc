// Tests of what every Device promises, on files and on memory.
#include "cached/io/device.h"

#include <limits.h>

#include "base/units.h"
#include "cached/io/file_device.h"
#include "cached/io/memory_device.h"
#include "tests/unit/io/device_fixture.h"

namespace cached::io {
namespace {

constexpr uint64_t kCapacityBytes = kMiB;
constexpr uint32_t kBlockBytes = 4096;  // fits any device

TEST(CheckTransfer, AcceptsWholeBlocksWithinTheDevice) {
  const Memory memory(8192);
  const DeviceGeometry geometry{16384, 512};
  const iovec pieces[2] = {memory.piece(512, 1024), memory.piece(4096, 512)};
  EXPECT_EQ(check_transfer(geometry, pieces, 0), 0);
  EXPECT_EQ(check_transfer(geometry, pieces, 16384 - 1536), 0);
}

TEST(CheckTransfer, RefusesWhatADeviceCannotMove) {
  const Memory memory(8192);
  const DeviceGeometry geometry{16384, 512};
  const auto check = [&](iovec piece, uint64_t offset) {
    return check_transfer(geometry, {&piece, 1}, offset);
  };
  EXPECT_EQ(check(memory.piece(0, 512), 100), -EINVAL) << "offset";
  EXPECT_EQ(check(memory.piece(0, 500), 0), -EINVAL) << "length";
  EXPECT_EQ(check(memory.piece(8, 512), 0), -EINVAL) << "memory";
  EXPECT_EQ(check(memory.piece(0, 0), 0), -EINVAL) << "empty";
  EXPECT_EQ(check(memory.piece(0, 1024), 16384 - 512), -EINVAL) << "across the end";
  EXPECT_EQ(check(memory.piece(0, 512), 16384), -EINVAL) << "behind the end";
  EXPECT_EQ(check(memory.piece(0, 512), UINT64_MAX - 511), -EINVAL) << "wraps around";
  EXPECT_EQ(check(memory.piece(0, SIZE_MAX - 511), 0), -EINVAL) << "length wraps around";
  EXPECT_EQ(check_transfer(geometry, {}, 0), -EINVAL) << "nothing";
}

TEST(CheckTransfer, RefusesMorePiecesThanTheKernelTakes) {
  const Memory memory(512);
  const DeviceGeometry geometry{kGiB, 512};
  const std::vector<iovec> pieces(IOV_MAX + 1, memory.whole());
  EXPECT_EQ(check_transfer(geometry, {pieces.data(), IOV_MAX}, 0), 0);
  EXPECT_EQ(check_transfer(geometry, pieces, 0), -EINVAL);
}

enum class Kind { kFile, kMemory };
struct Case {
  Kind kind;
  bool plain_ring;
};

class DeviceTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().kind == Kind::kFile) {
      if (!directory_.has_direct_io()) GTEST_SKIP() << directory_.path() << " has no direct I/O";
      ASSERT_TRUE(preallocate_file(directory_.file("device"), kCapacityBytes).ok());
      keep(FileDevice::open(directory_.file("device"), FileDevice::Access::kReadWrite));
    } else {
      keep(MemoryDevice::create("memory", DeviceGeometry{kCapacityBytes, kBlockBytes}));
    }
    reactor_ = make_reactor(Reactor::Options{.name = "test", .plain_ring = GetParam().plain_ring});
    reactor_->start();
  }
  void TearDown() override { reactor_.reset(); }
  Device& device() { return *device_; }
  Reactor& reactor() { return *reactor_; }

 private:
  template <typename T>
  void keep(Result<std::unique_ptr<T>> made) {
    ASSERT_TRUE(made.ok()) << made.status().message();
    device_ = std::move(made).value();
  }
  const TestDirectory directory_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Reactor> reactor_;
};

std::string case_name(const testing::TestParamInfo<Case>& tested) {
  return std::string(tested.param.kind == Kind::kFile ? "File" : "Memory") +
         (tested.param.plain_ring ? "Plain" : "Full");
}

INSTANTIATE_TEST_SUITE_P(Kinds, DeviceTest,
                         testing::Values(Case{Kind::kFile, false}, Case{Kind::kFile, true},
                                         Case{Kind::kMemory, false}),
                         case_name);

TEST_P(DeviceTest, ReadsZerosBeforeTheFirstWrite) {
  EXPECT_EQ(text_of(device(), kCapacityBytes - kBlockBytes, kBlockBytes), std::string(kBlockBytes, 0));
}

TEST_P(DeviceTest, ReadsWhatWasWrittenInOtherPieces) {
  const Memory written(4 * kBlockBytes);
  const std::string text = device_text(written.size());
  fill(written, text);
  EXPECT_EQ(writev_on(reactor(), device(),
                      {written.piece(0, kBlockBytes), written.piece(kBlockBytes, 3 * kBlockBytes)}, 8192),
            16384);
  EXPECT_EQ(sync_on(reactor(), device()), 0);
  const Memory read(4 * kBlockBytes);
  EXPECT_EQ(readv_on(reactor(), device(),
                     {read.piece(0, 2 * kBlockBytes), read.piece(2 * kBlockBytes, 2 * kBlockBytes)}, 8192),
            16384);
  EXPECT_EQ(read.text(), text);
}

TEST_P(DeviceTest, BlockingReadsSeeBlockingWrites) {
  const std::string text = device_text(3 * kBlockBytes);
  write_text(device(), text, kBlockBytes);
  EXPECT_TRUE(device().sync_blocking().ok());
  EXPECT_EQ(text_of(device(), kBlockBytes, text.size()), text);
  EXPECT_EQ(text_of(device(), 0, kBlockBytes), std::string(kBlockBytes, 0));
}

TEST_P(DeviceTest, RefusesTransfersThatAreNotWholeBlocksOfIt) {
  const Memory memory(2 * kBlockBytes);
  EXPECT_EQ(readv_on(reactor(), device(), {memory.piece(0, 100)}, 0), -EINVAL);
  EXPECT_EQ(writev_on(reactor(), device(), {memory.piece(0, kBlockBytes)}, 1), -EINVAL);
  EXPECT_EQ(device().read_blocking(memory.data() + 1, kBlockBytes, 0).error_number(), EINVAL);
  EXPECT_EQ(device().write_blocking(memory.data(), kBlockBytes - 1, 0).error_number(), EINVAL);
}

TEST_P(DeviceTest, RefusesTransfersThatDoNotLieWithinIt) {
  const Memory memory(2 * kBlockBytes);
  const uint64_t last = kCapacityBytes - kBlockBytes;
  EXPECT_EQ(writev_on(reactor(), device(), {memory.whole()}, last), -EINVAL);
  EXPECT_EQ(device().write_blocking(memory.data(), memory.size(), last).error_number(), EINVAL);
  EXPECT_EQ(readv_on(reactor(), device(), {memory.whole()}, kCapacityBytes), -EINVAL);
}

TEST_P(DeviceTest, WorksWhileAttachedAndAfterwards) {
  write_text(device(), device_text(kBlockBytes), 0);
  const Memory memory(kBlockBytes);
  for (const bool attached : {true, false}) {
    run_on(reactor(), [&]() -> Task<void> {
      if (attached) {
        device().attach(reactor());
      } else {
        device().detach(reactor());
      }
      co_return;
    });
    EXPECT_EQ(readv_on(reactor(), device(), {memory.whole()}, 0), static_cast<int>(kBlockBytes));
    EXPECT_EQ(memory.text(), device_text(kBlockBytes));
    EXPECT_EQ(sync_on(reactor(), device()), 0);
  }
}

TEST_P(DeviceTest, TasksBegunAfterTheReactorsEndAreCancelled) {
  const Memory memory(kBlockBytes);
  const iovec piece = memory.whole();
  const Pipe pipe = make_pipe();
  auto late = start_on(reactor(), [&]() -> Task<int> {
    co_await reactor().poll_readable(pipe.reader.get());
    co_return co_await device().readv(reactor(), {&piece, 1}, 0);
  });
  settle(reactor());
  reactor().stop();
  EXPECT_EQ(late.get(), -ECANCELED);
}

}  // namespace
}  // namespace cached::io
