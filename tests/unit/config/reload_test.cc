// What of a changed configuration takes effect without a restart.
#include "cached/config/reload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cached {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kBase =
    "[memory]\nsize = \"64MiB\"\n"
    "[[volume]]\nname = \"a\"\nsource = \"dir:/a\"\n"
    "[[volume]]\nname = \"b\"\nsource = \"dir:/b\"\n";

Config config_of(const std::string& text) {
  Result<Config> config = parse_config(text, "test.toml");
  EXPECT_TRUE(config.ok()) << config.status().message();
  return std::move(config).value();
}

ReloadPlan plan(const std::string& before, const std::string& after) {
  return plan_reload(config_of(before), config_of(after));
}

TEST(Reload, OfTheSameFileChangesNothing) {
  const ReloadPlan same = plan(kBase, std::string("# a comment\n") + kBase);
  EXPECT_THAT(same.changed, IsEmpty());
  EXPECT_THAT(same.needs_restart, IsEmpty());
}

TEST(Reload, TakesLimitsAndLogLevelAtOnce) {
  const ReloadPlan live =
      plan(kBase, std::string("[log]\nlevel = \"debug\"\n[daemon]\nmax_sessions = 9\n") + kBase);
  EXPECT_THAT(live.changed, testing::UnorderedElementsAre("log.level: \"info\" -> \"debug\"",
                                                          "daemon.max_sessions: 256 -> 9"));
  EXPECT_THAT(live.needs_restart, IsEmpty());
  EXPECT_EQ(live.in_force.daemon.max_sessions, 9U);
}

TEST(Reload, NamesWhatNeedsARestartAndKeepsItsOldValue) {
  const ReloadPlan fixed =
      plan(kBase, std::string("[daemon]\nshards = 3\n[[device]]\npath = \"/dev/x\"\n") + kBase);
  EXPECT_THAT(fixed.changed, IsEmpty());
  EXPECT_THAT(fixed.needs_restart, testing::Contains(HasSubstr("daemon.shards: 0 -> 3")));
  EXPECT_THAT(fixed.needs_restart, testing::Contains(HasSubstr("device[0].path: nothing -> \"/dev/x\"")));
  EXPECT_EQ(fixed.in_force.daemon.shards, 0U);
  EXPECT_THAT(fixed.in_force.devices, IsEmpty());
}

TEST(Reload, TellsVolumesApartByName) {
  const ReloadPlan volumes = plan(kBase,
                                  "[memory]\nsize = \"64MiB\"\n"
                                  "[[volume]]\nname = \"c\"\nsource = \"dir:/c\"\n"
                                  "[[volume]]\nname = \"b\"\nsource = \"dir:/elsewhere\"\n");
  EXPECT_THAT(volumes.added, ElementsAre("c"));
  EXPECT_THAT(volumes.removed, ElementsAre("a"));
  EXPECT_THAT(volumes.replaced, ElementsAre("b"));
  EXPECT_THAT(volumes.needs_restart, IsEmpty());
}

TEST(Reload, LeavesAVolumeAloneOfWhichOnlyFetchInFlightChanged) {
  std::string text = kBase;
  text += "fetch_in_flight = 7\n";
  const ReloadPlan fetch = plan(kBase, text);
  EXPECT_THAT(fetch.replaced, IsEmpty());
  EXPECT_THAT(fetch.needs_restart, ElementsAre("volume \"b\" fetch_in_flight: 64 -> 7"));
}

TEST(Reload, TellsOfDataSets) {
  const ReloadPlan sets =
      plan(kBase, std::string(kBase) + "[[dataset]]\nname = \"x\"\nvolume = \"a\"\ndirectory = \"/p//q/\"\n");
  EXPECT_THAT(sets.changed, ElementsAre("data set \"x\": nothing -> a:/p/q"));
}

}  // namespace
}  // namespace cached
