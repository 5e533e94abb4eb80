// Two daemons on one real file: the second one waits until the kernel has nothing of the first one's any
// more.
#include "cached/io/file_device.h"
#include "tests/unit/io/device_fixture.h"
#include "tests/unit/ssd_tier/ssd_fixture.h"

namespace cached::ssd_tier {
namespace {

class SsdSuccessorTest : public SsdFixture {
 protected:
  static constexpr uint64_t kBlocks = 60;

  void SetUp() override {
    if (!directory_.has_direct_io()) GTEST_SKIP() << directory_.path() << " has no direct I/O";
    const Status made = io::preallocate_file(path_, 32 * kMiB);
    if (!made.ok()) GTEST_SKIP() << made.message();
    start_tier();
    wait_for("healthy");
    ASSERT_EQ(write(0, kBlocks), kBlocks);
  }
  std::vector<SsdTier::DeviceOptions> device_options() override {
    return {{path_, [path = path_]() -> Result<std::unique_ptr<io::Device>> {
               Result<std::unique_ptr<io::FileDevice>> opened =
                   io::FileDevice::open(path, io::FileDevice::Access::kReadWrite);
               if (!opened.ok()) return opened.status();
               return std::unique_ptr<io::Device>(std::move(opened).value());
             }}};
  }
  // The second daemon, beside the first, whose parts are the caller's now.
  void start_successor() {
    tier_.reset();
    start_tier();
  }
  void expect_waiting() {
    wait_for("waiting");
    EXPECT_TRUE(eventually([&] { return !tier_->devices()[0]->reason().empty(); }));
    EXPECT_EQ(tier_->devices()[0]->state_name(), "waiting");
    EXPECT_FALSE(has(0));
  }
  void expect_warm() {
    wait_for("healthy");
    for (uint64_t number = 0; number < kBlocks; ++number) EXPECT_EQ(read(number), ReadEnd::kOk) << number;
    EXPECT_EQ(write(kBlocks, kBlocks + 10), 10U);
  }

  io::TestDirectory directory_;
  const std::string path_ = directory_.file("ssd");
};

TEST_F(SsdSuccessorTest, WaitsForADaemonThatStillRunsAndIsWarmThen) {
  std::unique_ptr<SsdTier> old_tier = std::move(tier_);
  std::vector<std::unique_ptr<io::Reactor>> old_reactors = std::move(reactors_);
  start_successor();
  expect_waiting();
  old_tier->stop();
  for (const auto& reactor : old_reactors) reactor->stop();
  old_tier.reset();
  old_reactors.clear();
  expect_warm();
}

// The descriptor is closed, as that of a process that died; its ring, which may have commands in the kernel,
// is not gone.
TEST_F(SsdSuccessorTest, WaitsForTheRingOfADaemonThatIsGone) {
  tier_->stop();
  for (const auto& reactor : reactors_) reactor->stop();
  tier_.reset();
  std::vector<std::unique_ptr<io::Reactor>> rings = std::move(reactors_);
  start_successor();
  expect_waiting();
  rings.clear();
  expect_warm();
}

}  // namespace
}  // namespace cached::ssd_tier
