// Tests of the device that misbehaves: each fault does what it says and nothing else, and a seed replays.
#include "cached/io/fault_device.h"

#include <bit>
#include <chrono>
#include <optional>
#include <set>
#include <thread>

#include "base/units.h"
#include "cached/io/memory_device.h"
#include "tests/unit/io/device_fixture.h"

namespace cached::io {
namespace {

constexpr uint64_t kCapacityBytes = 64 * kKiB;
constexpr uint32_t kBlockBytes = 512;
constexpr size_t kLengthBytes = 8 * kBlockBytes;  // of a transfer
constexpr uint64_t kOffsetBytes = 16 * kBlockBytes;
constexpr int kWhole = static_cast<int>(kLengthBytes);
constexpr auto kPatience = std::chrono::seconds(30);
constexpr auto kMoment = std::chrono::milliseconds(20);

constexpr Fault kAllFaults[] = {Fault::kIoError, Fault::kTimeout,      Fault::kShort,
                                Fault::kTorn,    Fault::kTornSilently, Fault::kMisdirected,
                                Fault::kBitFlip, Fault::kSlow,         Fault::kHang};

size_t differing_bits(const std::string& left, const std::string& right) {
  size_t count = 0;
  for (size_t i = 0; i < left.size(); ++i) {
    const auto difference = static_cast<unsigned>(left[i] ^ right[i]);
    count += static_cast<size_t>(std::popcount(difference & 0xFFU));
  }
  return count;
}

// A device over memory that is full of device_text(), `before_`, and text to write, `text_`.
class FaultDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    reactor_ = make_reactor(Reactor::Options{.name = "test", .clock = &clock_});
    reactor_->start();
    make(FaultDevice::Options{});
  }
  void TearDown() override {
    device_.reset();
    reactor_.reset();
  }
  void make(const FaultDevice::Options& options) {
    auto inner = MemoryDevice::create("memory", DeviceGeometry{kCapacityBytes, kBlockBytes});
    ASSERT_TRUE(inner.ok());
    inner_ = inner.value().get();
    write_text(*inner_, before_, 0);
    device_ = std::make_unique<FaultDevice>(std::move(inner).value(), options);
  }
  void next(FaultTarget target, Fault fault, uint64_t count = 1) {
    device_->script({.target = target, .fault = fault, .count = count});
  }
  int read() {
    std::memset(buffer_.data(), 0, kLengthBytes);
    return readv_on(*reactor_, *device_, pieces_, kOffsetBytes);
  }
  int write() {
    fill(buffer_, text_);
    return writev_on(*reactor_, *device_, pieces_, kOffsetBytes);
  }
  std::future<int> start_read() {
    return start_on(*reactor_, [this] { return device_->readv(*reactor_, pieces_, kOffsetBytes); });
  }
  std::future<int> start_write() {
    fill(buffer_, text_);
    return start_on(*reactor_, [this] { return device_->writev(*reactor_, pieces_, kOffsetBytes); });
  }
  std::string stored() { return text_of(*inner_, 0, kCapacityBytes); }
  // What is stored after a write of which the first `length_bytes` landed at `offset_bytes`.
  std::string with_text(size_t length_bytes, uint64_t offset_bytes = kOffsetBytes) const {
    std::string expected = before_;
    return expected.replace(offset_bytes, length_bytes, text_, 0, length_bytes);
  }
  std::string content() const { return before_.substr(kOffsetBytes, kLengthBytes); }
  uint64_t reads_hit(Fault fault) const { return device_->injected(FaultTarget::kRead, fault); }
  uint64_t writes_hit(Fault fault) const { return device_->injected(FaultTarget::kWrite, fault); }

  ManualClock clock_;
  const std::string before_ = device_text(kCapacityBytes);
  const std::string text_ = device_text(kLengthBytes, 'w');
  const Memory buffer_{kLengthBytes};
  const std::vector<iovec> pieces_ = {buffer_.piece(0, 3 * kBlockBytes),
                                      buffer_.piece(3 * kBlockBytes, 5 * kBlockBytes)};
  std::unique_ptr<Reactor> reactor_;
  std::unique_ptr<FaultDevice> device_;
  MemoryDevice* inner_ = nullptr;
};

TEST_F(FaultDeviceTest, WithoutFaultsItIsTheInnerDevice) {
  EXPECT_EQ(read(), kWhole);
  EXPECT_EQ(buffer_.text(), content());
  EXPECT_EQ(write(), kWhole);
  EXPECT_EQ(stored(), with_text(kLengthBytes));
  EXPECT_EQ(sync_on(*reactor_, *device_), 0);
  EXPECT_EQ(text_of(*device_, kOffsetBytes, kLengthBytes), text_);
  EXPECT_EQ(device_->path(), "memory");
  EXPECT_EQ(device_->begun(FaultTarget::kRead), 2U);
  EXPECT_EQ(device_->begun(FaultTarget::kWrite), 1U);
  EXPECT_EQ(device_->begun(FaultTarget::kSync), 1U);
}

TEST_F(FaultDeviceTest, RefusedTransfersSufferNoFault) {
  next(FaultTarget::kRead, Fault::kIoError);
  EXPECT_EQ(readv_on(*reactor_, *device_, {buffer_.piece(0, 100)}, 0), -EINVAL);
  EXPECT_EQ(device_->read_blocking(buffer_.data(), 100, 0).error_number(), EINVAL);
  EXPECT_EQ(device_->begun(FaultTarget::kRead), 0U);
}

// Errors.

TEST_F(FaultDeviceTest, ErrorsMoveNothing) {
  for (const auto& [fault, result] :
       {std::pair(Fault::kIoError, -EIO), std::pair(Fault::kTimeout, -ETIMEDOUT)}) {
    next(FaultTarget::kRead, fault);
    next(FaultTarget::kWrite, fault);
    next(FaultTarget::kSync, fault);
    EXPECT_EQ(read(), result);
    EXPECT_EQ(buffer_.text(), std::string(kLengthBytes, 0));
    EXPECT_EQ(write(), result);
    EXPECT_EQ(stored(), before_);
    EXPECT_EQ(sync_on(*reactor_, *device_), result);
    EXPECT_EQ(reads_hit(fault), 1U);
    EXPECT_EQ(writes_hit(fault), 1U);
    EXPECT_EQ(device_->injected(FaultTarget::kSync, fault), 1U);
  }
}

TEST_F(FaultDeviceTest, ErrorsReachBlockingOperations) {
  for (const FaultTarget target : {FaultTarget::kRead, FaultTarget::kWrite, FaultTarget::kSync}) {
    next(target, Fault::kTimeout);
  }
  EXPECT_EQ(device_->read_blocking(buffer_.data(), kLengthBytes, 0).error_number(), ETIMEDOUT);
  EXPECT_EQ(device_->write_blocking(buffer_.data(), kLengthBytes, 0).error_number(), ETIMEDOUT);
  EXPECT_EQ(device_->sync_blocking().error_number(), ETIMEDOUT);
  EXPECT_EQ(stored(), before_);
}

// Short and torn.

TEST_F(FaultDeviceTest, ShortReadBringsAPrefix) {
  std::set<int> results;
  for (int i = 0; i < 100; ++i) {
    next(FaultTarget::kRead, Fault::kShort);
    const int result = read();
    ASSERT_TRUE(result >= 0 && result < kWhole && result % static_cast<int>(kBlockBytes) == 0) << result;
    const auto length = static_cast<size_t>(result);
    ASSERT_EQ(buffer_.text(), content().substr(0, length) + std::string(kLengthBytes - length, 0));
    results.insert(result);
  }
  EXPECT_EQ(results.size(), 8U) << "some lengths never come";
}

TEST_F(FaultDeviceTest, ShortWriteLandsAPrefixAndSaysSo) {
  next(FaultTarget::kWrite, Fault::kShort);
  const int result = write();
  ASSERT_TRUE(result >= 0 && result < kWhole) << result;
  EXPECT_EQ(stored(), with_text(static_cast<size_t>(result)));
}

TEST_F(FaultDeviceTest, ShortTransferOfOneBlockMovesNothing) {
  next(FaultTarget::kRead, Fault::kShort);
  EXPECT_EQ(readv_on(*reactor_, *device_, {buffer_.piece(0, kBlockBytes)}, 0), 0);
}

TEST_F(FaultDeviceTest, ShortBlockingTransfers) {
  next(FaultTarget::kRead, Fault::kShort);
  EXPECT_LT(text_of(*device_, kOffsetBytes, kLengthBytes).size(), kLengthBytes);
  next(FaultTarget::kWrite, Fault::kShort);
  EXPECT_EQ(device_->write_blocking(buffer_.data(), kLengthBytes, kOffsetBytes).error_number(), EIO);
}

TEST_F(FaultDeviceTest, TornWriteLandsAPrefixAndFails) {
  for (int i = 0; i < 20; ++i) {
    write_text(*inner_, before_, 0);
    next(FaultTarget::kWrite, Fault::kTorn);
    EXPECT_EQ(write(), -EIO);
    const std::string now = stored();
    size_t landed = 0;
    while (landed < kLengthBytes && now != with_text(landed)) landed += kBlockBytes;
    EXPECT_LT(landed, kLengthBytes);
  }
  EXPECT_EQ(writes_hit(Fault::kTorn), 20U);
}

TEST_F(FaultDeviceTest, SilentlyTornWriteLandsAPrefixAndSucceeds) {
  for (const bool blocking : {false, true}) {
    write_text(*inner_, before_, 0);
    next(FaultTarget::kWrite, Fault::kTornSilently);
    if (blocking) {
      write_text(*device_, text_, kOffsetBytes);
    } else {
      EXPECT_EQ(write(), kWhole);
    }
    const std::string now = stored();
    size_t landed = 0;
    while (landed < kLengthBytes && now != with_text(landed)) landed += kBlockBytes;
    EXPECT_LT(landed, kLengthBytes);
  }
}

TEST_F(FaultDeviceTest, ReadsAreNeverTorn) {
  next(FaultTarget::kRead, Fault::kTorn);
  EXPECT_EQ(read(), kWhole);
  EXPECT_EQ(buffer_.text(), content());
  EXPECT_EQ(reads_hit(Fault::kTorn), 0U);
}

// Wrong place, wrong bits.

TEST_F(FaultDeviceTest, MisdirectedReadBringsOtherBlocks) {
  for (int i = 0; i < 200; ++i) {
    next(FaultTarget::kRead, Fault::kMisdirected);
    ASSERT_EQ(read(), kWhole);
    const size_t from = before_.find(buffer_.text());
    ASSERT_NE(from, std::string::npos);
    EXPECT_NE(from, kOffsetBytes);
    EXPECT_EQ(from % kBlockBytes, 0U);
  }
}

TEST_F(FaultDeviceTest, MisdirectedWriteLandsElsewhereAndOnlyThere) {
  next(FaultTarget::kWrite, Fault::kMisdirected);
  EXPECT_EQ(write(), kWhole);
  const std::string now = stored();
  const size_t landed = now.find(text_);
  ASSERT_NE(landed, std::string::npos);
  EXPECT_NE(landed, kOffsetBytes);
  EXPECT_EQ(now, with_text(kLengthBytes, landed));
}

TEST_F(FaultDeviceTest, TransferOfTheWholeDeviceCannotBeMisdirected) {
  next(FaultTarget::kRead, Fault::kMisdirected);
  EXPECT_EQ(text_of(*device_, 0, kCapacityBytes), before_);
  EXPECT_EQ(reads_hit(Fault::kMisdirected), 0U);
}

TEST_F(FaultDeviceTest, BitFlipInAReadChangesOneBitOfWhatArrives) {
  next(FaultTarget::kRead, Fault::kBitFlip, 2);
  EXPECT_EQ(read(), kWhole);
  EXPECT_EQ(differing_bits(buffer_.text(), content()), 1U);
  EXPECT_EQ(differing_bits(text_of(*device_, kOffsetBytes, kLengthBytes), content()), 1U);
  EXPECT_EQ(stored(), before_);
}

TEST_F(FaultDeviceTest, BitFlipInAWriteChangesOneBitOfWhatLands) {
  next(FaultTarget::kWrite, Fault::kBitFlip);
  EXPECT_EQ(write(), kWhole);
  EXPECT_EQ(differing_bits(stored(), with_text(kLengthBytes)), 1U);
  EXPECT_EQ(buffer_.text(), text_) << "the writer's own memory";
}

// Time.

TEST_F(FaultDeviceTest, SlowOperationHappensAfterItsDelay) {
  make(FaultDevice::Options{.slow_ms = 100});
  next(FaultTarget::kRead, Fault::kSlow);
  auto slow = start_read();
  settle(*reactor_);
  clock_.advance_ns(99 * kNanosecondsPerMillisecond);
  settle(*reactor_);
  EXPECT_EQ(slow.wait_for(kMoment), std::future_status::timeout);
  clock_.advance_ns(kNanosecondsPerMillisecond);
  settle(*reactor_);  // wakes the loop, which looks at the clock
  EXPECT_EQ(slow.get(), kWhole);
  EXPECT_EQ(buffer_.text(), content());
}

TEST_F(FaultDeviceTest, SlowBlockingOperationHappensAfterItsDelay) {
  make(FaultDevice::Options{.slow_ms = 30});
  next(FaultTarget::kSync, Fault::kSlow);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(device_->sync_blocking().ok());
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(30));
}

TEST_F(FaultDeviceTest, HungOperationsEndCancelledWhenReleased) {
  device_->hang_all();
  auto read = start_read();
  auto write = start_write();
  auto sync = start_on(*reactor_, [this] { return device_->sync(*reactor_); });
  settle(*reactor_);
  EXPECT_EQ(read.wait_for(kMoment), std::future_status::timeout);
  EXPECT_EQ(device_->hanging(), 3U);
  device_->release();
  EXPECT_EQ(read.get(), -ECANCELED);
  EXPECT_EQ(write.get(), -ECANCELED);
  EXPECT_EQ(sync.get(), -ECANCELED);
  EXPECT_EQ(device_->hanging(), 0U);
  EXPECT_EQ(stored(), before_);
}

TEST_F(FaultDeviceTest, ReleaseIsForThoseThatHangNow) {
  device_->hang_all();
  auto first = start_read();
  settle(*reactor_);
  device_->release();
  EXPECT_EQ(first.get(), -ECANCELED);
  auto second = start_read();
  settle(*reactor_);
  EXPECT_EQ(second.wait_for(kMoment), std::future_status::timeout);
  EXPECT_EQ(device_->hanging(), 1U);
  device_->release();
  EXPECT_EQ(second.get(), -ECANCELED);
}

TEST_F(FaultDeviceTest, HungOperationsHappenLateWhenCarriedOut) {
  next(FaultTarget::kWrite, Fault::kHang);
  auto write = start_write();
  settle(*reactor_);
  EXPECT_EQ(stored(), before_);
  device_->carry_out();
  EXPECT_EQ(write.get(), kWhole);
  EXPECT_EQ(stored(), with_text(kLengthBytes));
}

TEST_F(FaultDeviceTest, HungOperationsEndCancelledWhenTheDeviceIsDestroyed) {
  device_->hang_all();
  auto read = start_read();
  settle(*reactor_);
  device_.reset();
  EXPECT_EQ(read.get(), -ECANCELED);
}

TEST_F(FaultDeviceTest, HungOperationsEndCancelledWhenTheReactorStops) {
  device_->hang_all();
  auto read = start_read();
  settle(*reactor_);
  reactor_->stop();
  EXPECT_EQ(read.get(), -ECANCELED);
  EXPECT_EQ(device_->hanging(), 0U);
}

TEST_F(FaultDeviceTest, HungBlockingOperationEndsWhenReleased) {
  next(FaultTarget::kRead, Fault::kHang);
  int error = 0;
  std::thread reader([&] { error = device_->read_blocking(buffer_.data(), kLengthBytes, 0).error_number(); });
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (device_->hanging() == 0 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  device_->release();
  reader.join();
  EXPECT_EQ(error, ECANCELED);
}

// What decides.

TEST_F(FaultDeviceTest, ScriptCountsOperationsThatTouchItsRange) {
  device_->script({.target = FaultTarget::kRead,
                   .fault = Fault::kIoError,
                   .count = 2,
                   .begin_bytes = kOffsetBytes + kLengthBytes - 1,
                   .end_bytes = kOffsetBytes + kLengthBytes + 1});
  const auto read_at = [&](uint64_t offset) {
    return readv_on(*reactor_, *device_, {buffer_.whole()}, offset);
  };
  EXPECT_EQ(read_at(0), kWhole);
  EXPECT_EQ(read_at(kOffsetBytes + kLengthBytes + kBlockBytes), kWhole);
  EXPECT_EQ(write(), kWhole);
  EXPECT_EQ(read_at(kOffsetBytes), -EIO);
  EXPECT_EQ(read_at(kOffsetBytes + kLengthBytes), -EIO);
  EXPECT_EQ(read_at(kOffsetBytes), kWhole);
}

TEST_F(FaultDeviceTest, OldestScriptThatFitsCounts) {
  next(FaultTarget::kRead, Fault::kTimeout);
  next(FaultTarget::kRead, Fault::kIoError);
  EXPECT_EQ(read(), -ETIMEDOUT);
  EXPECT_EQ(read(), -EIO);
  EXPECT_EQ(read(), kWhole);
}

TEST_F(FaultDeviceTest, SwitchesFailReadsOrWritesUntilRecovery) {
  device_->fail_reads();
  EXPECT_EQ(read(), -EIO);
  EXPECT_EQ(write(), kWhole);
  device_->recover();
  device_->fail_writes();
  EXPECT_EQ(read(), kWhole);
  EXPECT_EQ(write(), -EIO);
  EXPECT_EQ(sync_on(*reactor_, *device_), -EIO);
  device_->recover();
  EXPECT_EQ(write(), kWhole);
  EXPECT_EQ(sync_on(*reactor_, *device_), 0);
}

TEST_F(FaultDeviceTest, RecoveryForgetsScriptsAndOddsAndLetsHungOnesHappen) {
  FaultDevice::Options options;
  options.reads[Fault::kIoError] = 1;
  make(options);
  next(FaultTarget::kWrite, Fault::kIoError, 100);
  EXPECT_EQ(read(), -EIO);
  device_->hang_all();
  auto hung = start_read();
  settle(*reactor_);
  device_->recover();
  EXPECT_EQ(hung.get(), kWhole);
  EXPECT_EQ(read(), kWhole);
  EXPECT_EQ(write(), kWhole);
}

TEST_F(FaultDeviceTest, EachKindHappensAboutAsOftenAsItsOddsSay) {
  FaultDevice::Options options;
  options.seed = 7;
  options.slow_ms = 0;
  for (const Fault fault : kAllFaults) options.writes[fault] = fault == Fault::kHang ? 0 : 0.1;
  make(options);
  constexpr uint64_t kOperations = 2000;
  for (uint64_t i = 0; i < kOperations; ++i) {
    [[maybe_unused]] const Status status =
        device_->write_blocking(buffer_.data(), kLengthBytes, kOffsetBytes);
  }
  for (const Fault fault : kAllFaults) {
    if (fault == Fault::kHang) continue;
    EXPECT_NEAR(static_cast<double>(writes_hit(fault)), kOperations / 10., kOperations / 40.)
        << static_cast<int>(fault);
  }
  EXPECT_EQ(read(), kWhole) << "reads have odds of their own";
}

// What a run of mixed operations saw and left behind.
struct History {
  std::vector<int> results;
  std::string seen;
  std::string stored;
  bool operator==(const History&) const = default;
};

class FaultReplayTest : public FaultDeviceTest {
 protected:
  void make_with_all_faults(uint64_t seed) {
    FaultDevice::Options options;
    options.seed = seed;
    options.slow_ms = 0;
    for (const Fault fault : kAllFaults) {
      if (fault != Fault::kHang) options.reads[fault] = options.writes[fault] = 0.08;
    }
    make(options);
  }
  History run() {
    History history;
    for (int i = 0; i < 200; ++i) {
      history.results.push_back(i % 3 == 0 ? write() : read());
      history.seen += buffer_.text();
    }
    history.stored = stored();
    return history;
  }
  History run_with(uint64_t seed) {
    make_with_all_faults(seed);
    return run();
  }
};

TEST_F(FaultReplayTest, SameSeedAndOrderGiveTheSameFaults) {
  const History first = run_with(42);
  EXPECT_TRUE(first == run_with(42));
}

TEST_F(FaultReplayTest, OtherSeedsGiveOtherFaults) {
  EXPECT_NE(run_with(42).results, run_with(43).results);
}

TEST_F(FaultReplayTest, ScriptsDoNotChangeWhatLaterOperationsSuffer) {
  const History without = run_with(42);
  make_with_all_faults(42);
  next(FaultTarget::kWrite, Fault::kTimeout);
  History with = run();
  EXPECT_EQ(with.results.front(), -ETIMEDOUT);
  with.results.front() = without.results.front();
  EXPECT_EQ(with.results, without.results);
}

}  // namespace
}  // namespace cached::io
