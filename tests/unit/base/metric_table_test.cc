// The rules that every metric's declaration keeps.
#include "base/metric_table.h"

#include <gtest/gtest.h>

#include <regex>
#include <set>

namespace cached {
namespace {

TEST(MetricTable, NamesAreUniqueWithOnePrefix) {
  std::set<std::string_view> names;
  for (const MetricInfo& info : metric_table()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_TRUE(std::regex_match(std::string(info.name), std::regex("cached_[a-z0-9_]*[a-z0-9]")))
        << info.name;
  }
}

TEST(MetricTable, CountersAndNothingElseEndWithTotal) {
  for (const MetricInfo& info : metric_table()) {
    EXPECT_EQ(info.name.ends_with("_total"), info.type == MetricType::kCounter) << info.name;
  }
}

TEST(MetricTable, EveryMetricHasHelpThatIsASentence) {
  for (const MetricInfo& info : metric_table()) {
    EXPECT_GT(info.help.size(), 10U) << info.name;
    EXPECT_TRUE(info.help.ends_with('.')) << info.name;
    EXPECT_EQ(info.help.find('\n'), std::string_view::npos) << info.name;
  }
}

TEST(MetricTable, RowsStandWhereTheEnumSays) {
  for (const MetricInfo& info : metric_table()) EXPECT_EQ(&info_of(info.metric), &info);
}

TEST(MetricTable, ManualNamesEachMetricOnce) {
  const std::string manual = metric_manual();
  for (const MetricInfo& info : metric_table()) {
    const std::string cell = "| `" + std::string(info.name) + "` |";
    const size_t place = manual.find(cell);
    ASSERT_NE(place, std::string::npos) << info.name;
    EXPECT_EQ(manual.find(cell, place + 1), std::string::npos) << info.name;
  }
}

}  // namespace
}  // namespace cached
