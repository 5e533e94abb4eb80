// A device that is drained and used again, with writers in the middle of its segments.
#include "tests/unit/ssd_tier/ssd_fixture.h"

namespace cached::ssd_tier {
namespace {

class SsdDrainTest : public SsdFixture {
 protected:
  static constexpr uint64_t kMoreThanFits = 600;  // blocks

  void drain() {
    EXPECT_TRUE(io::run_on(*reactors_[0], [&] { return device().drain(*reactors_[0]); }).ok());
  }
  void undrain() {
    EXPECT_TRUE(io::run_on(*reactors_[0], [&] { return device().undrain(*reactors_[0]); }).ok());
  }
  DeviceLog& device() { return *tier_->devices()[0]; }
  void expect_sound_content(uint64_t first, uint64_t last) {
    for (uint64_t number = first; number < last; ++number) {
      if (has(number)) {
        EXPECT_EQ(read(number), ReadEnd::kOk) << number;
      }
    }
    EXPECT_EQ(faults(Fault::kMismatch), 0U);
  }
};

TEST_F(SsdDrainTest, WritersLeaveTheSegmentsThatADrainHasEmptied) {
  start_ready();
  ASSERT_EQ(write(0, 6), 6U);  // both shards have a segment open
  drain();
  wait_for("drained");
  undrain();
  EXPECT_EQ(write(1'000, 1'000 + kMoreThanFits), kMoreThanFits);
  expect_sound_content(1'000, 1'000 + kMoreThanFits);
  EXPECT_EQ(count(0, 6), 0U);
}

TEST_F(SsdDrainTest, WaitsForAWriteInFlightAndForgetsIt) {
  start_ready();
  devices_[0]->script({io::FaultTarget::kWrite, io::Fault::kHang, 1});
  std::future<bool> written = offer(0);
  ASSERT_TRUE(eventually([&] { return devices_[0]->hanging() == 1; }));
  drain();
  for (unsigned shard = 0; shard < kShards; ++shard) on_shard(shard, [] { return 0; });
  EXPECT_EQ(device().state_name(), "draining");
  devices_[0]->carry_out();
  EXPECT_FALSE(written.get());
  wait_for("drained");
  EXPECT_FALSE(has(0));
}

TEST_F(SsdDrainTest, AWriteThatEndsAfterDrainAndUndrainIsForgottenToo) {
  start_ready();
  devices_[0]->script({io::FaultTarget::kWrite, io::Fault::kHang, 1});
  std::future<bool> written = offer(0);
  ASSERT_TRUE(eventually([&] { return devices_[0]->hanging() == 1; }));
  drain();
  for (unsigned shard = 0; shard < kShards; ++shard) on_shard(shard, [] { return 0; });
  undrain();
  devices_[0]->carry_out();
  EXPECT_FALSE(written.get());
  EXPECT_EQ(write(1'000, 1'000 + kMoreThanFits), kMoreThanFits);
  expect_sound_content(1'000, 1'000 + kMoreThanFits);
}

}  // namespace
}  // namespace cached::ssd_tier
