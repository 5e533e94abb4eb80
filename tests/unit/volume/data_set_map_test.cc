// DataSetMap: which data set a place belongs to.
#include "cached/volume/data_set_map.h"

#include <gtest/gtest.h>

namespace cached::volume {
namespace {

DataSetMap nested_map() {
  DataSetMap map(1, 7);
  map.add("a/b", 2);
  map.add("a/b/c/d", 3);
  return map;
}

TEST(DataSetMap, GivesTheInnermostDataSetOfAPath) {
  const DataSetMap map = nested_map();
  EXPECT_EQ(map.at("").tag, 1);
  EXPECT_EQ(map.at("a").tag, 1);
  EXPECT_EQ(map.at("a/bb").tag, 1);
  EXPECT_EQ(map.at("a/b").tag, 2);
  EXPECT_EQ(map.at("a/b/x/y").tag, 2);
  EXPECT_EQ(map.at("a/b/c").tag, 2);
  EXPECT_EQ(map.at("a/b/c/d/e").tag, 3);
}

TEST(DataSetMap, FollowsNamesAsItFollowsPaths) {
  const DataSetMap map = nested_map();
  DataSetMap::Place place = map.root();
  for (const char* name : {"a", "b", "c", "d", "e"}) place = map.below(place, name);
  EXPECT_EQ(place.tag, 3);
  // Where nothing is named below, names lead nowhere else.
  EXPECT_EQ(map.below(map.at("a/b/x"), "c").tag, 2);
  EXPECT_EQ(map.at("a/b/x").node, 0);
}

TEST(DataSetMap, HasDirectoriesOnlyWhenSomeAreNamed) {
  EXPECT_FALSE(DataSetMap(1, 1).has_directories());
  EXPECT_TRUE(nested_map().has_directories());
}

}  // namespace
}  // namespace cached::volume
