// Files of a directory that are read in order, and what is read ahead of them.
#include "cached/volume/file_streams.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace cached::volume {
namespace {

constexpr shm::Handle kDirectory{1, 1};
constexpr shm::Handle kNext{2, 2};
constexpr uint32_t kFiles = 1000;

std::string name_of(uint32_t number) {
  std::string digits = std::to_string(number);
  return "f" + std::string(6 - digits.size(), '0') + digits;
}

std::vector<std::string> names_in_order(uint32_t count) {
  std::vector<std::string> names;
  for (uint32_t number = 0; number < count; ++number) names.push_back(name_of(number));
  return names;
}

// As a directory with hashed entries lists them.
std::vector<std::string> names_shuffled(uint32_t count) {
  std::vector<std::string> names = names_in_order(count);
  std::ranges::shuffle(names, std::mt19937(7));
  return names;
}

class FileStreamsTest : public testing::Test {
 protected:
  // One whose cache holds what was read ahead: reads `names` and asks the origin for the others. How many
  // those were.
  unsigned read(const shm::Handle& directory, const std::vector<std::string>& names,
                const std::vector<std::string>& listing) {
    unsigned asked = 0;
    for (const std::string& name : names) {
      if (std::ranges::find(ahead_, name) != ahead_.end()) continue;
      ++asked;
      if (streams_.note(directory, name)) serve(directory, listing);
    }
    return asked;
  }

  void serve(const shm::Handle& directory, const std::vector<std::string>& listing) {
    if (streams_.wants_order(directory)) {
      ++listed_;
      streams_.set_order(directory, std::make_shared<const FileOrder>(listing));
    }
    for (;;) {
      const std::vector<std::string> names = streams_.take(directory, 16);
      if (names.empty()) return;
      ahead_.insert(ahead_.end(), names.begin(), names.end());
    }
  }

  FileStreams streams_;
  std::vector<std::string> ahead_;
  unsigned listed_ = 0;
};

TEST_F(FileStreamsTest, ReadingInTheOrderOfNamesAsksForAFewFilesOnly) {
  const std::vector<std::string> names = names_in_order(kFiles);
  EXPECT_LE(read(kDirectory, names, names_shuffled(kFiles)), 15U);
  EXPECT_EQ(listed_, 1U);
  EXPECT_EQ(std::set<std::string>(ahead_.begin(), ahead_.end()).size(), ahead_.size())
      << "none is named twice";
}

TEST_F(FileStreamsTest, ReadingInTheOrderOfTheListingAsksForAFewFilesOnly) {
  const std::vector<std::string> names = names_shuffled(kFiles);
  EXPECT_LE(read(kDirectory, names, names), 15U);
}

TEST_F(FileStreamsTest, OrdersThatAreTheSameNameEachFileOnce) {
  const std::vector<std::string> names = names_in_order(kFiles);
  read(kDirectory, names, names);
  EXPECT_EQ(std::set<std::string>(ahead_.begin(), ahead_.end()).size(), ahead_.size());
}

TEST_F(FileStreamsTest, ReadingAtRandomNamesAlmostNothingAndListsOnce) {
  std::vector<std::string> names = names_in_order(kFiles);
  std::ranges::shuffle(names, std::mt19937(8));
  read(kDirectory, names, names_shuffled(kFiles));
  EXPECT_EQ(listed_, 1U);
  EXPECT_LE(ahead_.size(), FileStreams::Window().shortest * 2);
}

TEST_F(FileStreamsTest, ReadingBackwardsNamesNothing) {
  std::vector<std::string> names = names_in_order(kFiles);
  std::ranges::reverse(names);
  read(kDirectory, names, names_shuffled(kFiles));
  EXPECT_TRUE(ahead_.empty());
}

TEST_F(FileStreamsTest, SeveralThreadsOnOneStreamAreOne) {
  std::vector<std::string> names = names_in_order(kFiles);
  for (size_t i = 0; i + 4 <= names.size(); i += 4) std::swap(names[i], names[i + 3]);
  EXPECT_LE(read(kDirectory, names, names_shuffled(kFiles)), 20U);
}

TEST_F(FileStreamsTest, ALargeFileThatIsReadInPartsIsOneRead) {
  for (int part = 0; part < 100; ++part) EXPECT_FALSE(streams_.note(kDirectory, "large"));
}

TEST_F(FileStreamsTest, AStreamGoesOnWithTheFirstFileOfAnotherDirectory) {
  const std::vector<std::string> names = names_in_order(100);
  read(kDirectory, names, names);
  ahead_.clear();
  EXPECT_EQ(read(kNext, names, names), 1U);
}

TEST_F(FileStreamsTest, ADirectoryThatIsEnteredAheadOfItsReaderAsksForOneFileInIt) {
  const std::vector<std::string> names = names_in_order(100);
  EXPECT_FALSE(streams_.at_end(kDirectory));
  read(kDirectory, names, names_shuffled(100));
  ASSERT_TRUE(streams_.at_end(kDirectory));
  const auto order = std::make_shared<const FileOrder>(names_shuffled(100));
  ASSERT_TRUE(streams_.begin(kNext, order, kDirectory));
  EXPECT_FALSE(streams_.begin(kNext, order, kDirectory)) << "a second time";
  ahead_.clear();
  serve(kNext, {});
  EXPECT_EQ(ahead_.size(), FileStreams::Window().shortest);
  EXPECT_EQ(ahead_.front(), names.front()) << "in the order of names, as before";
  EXPECT_EQ(read(kNext, names, {}), 1U);
  EXPECT_EQ(listed_, 1U);
}

TEST_F(FileStreamsTest, AWindowOfOneNamesOneAtATime) {
  FileStreams streams({.shortest = 1, .longest = 1});
  const std::vector<std::string> names = names_in_order(10);
  for (int i = 0; i < 3; ++i) streams.note(kDirectory, names[i]);
  ASSERT_TRUE(streams.wants_order(kDirectory));
  streams.set_order(kDirectory, std::make_shared<const FileOrder>(names));
  for (int i = 3; i < 10; ++i) {
    EXPECT_EQ(streams.take(kDirectory, 5), std::vector<std::string>{names[i]});
    EXPECT_TRUE(streams.take(kDirectory, 5).empty());
    EXPECT_EQ(streams.note(kDirectory, names[i]), i < 9);
  }
}

TEST_F(FileStreamsTest, WhoBeginsInTheMiddleOfAnotherDirectoryMustShowHisOrderFirst) {
  const std::vector<std::string> names = names_in_order(100);
  read(kDirectory, names, names);
  ahead_.clear();
  read(kNext, {names[50], names[20]}, names);
  EXPECT_TRUE(ahead_.empty());
}

TEST_F(FileStreamsTest, FilesThatTheOrderDoesNotKnowMakeItBeLearnedAgainAfterMany) {
  const std::vector<std::string> names = names_in_order(kFiles);
  read(kDirectory, {names[1], names[500], names[100]}, names);
  ASSERT_EQ(listed_, 1U);
  for (uint32_t number = 0; number < kFiles / FileStreams::kNamesToRelistDivisor; ++number)
    read(kDirectory, {"new" + name_of(number)}, names);
  EXPECT_EQ(listed_, 1U);
  for (uint32_t number = 0; number < 10; ++number) read(kDirectory, {"newer" + name_of(number)}, names);
  EXPECT_EQ(listed_, 2U);
}

TEST_F(FileStreamsTest, ADirectoryWithoutAnOrderIsLeftAlone) {
  const std::vector<std::string> names = names_in_order(kFiles);
  unsigned asked = 0;
  for (const std::string& name : names) {
    if (!streams_.note(kDirectory, name)) continue;
    ++asked;
    EXPECT_TRUE(streams_.wants_order(kDirectory));
    streams_.give_up(kDirectory);
  }
  EXPECT_EQ(asked, 1U);
}

TEST_F(FileStreamsTest, WhatIsTakenBySomebodyIsNotOfferedToAnother) {
  const std::vector<std::string> names = names_in_order(kFiles);
  read(kDirectory, {names[0], names[1]}, names);
  EXPECT_TRUE(streams_.note(kDirectory, names[2]));
  EXPECT_FALSE(streams_.note(kDirectory, names[3]));
  EXPECT_TRUE(streams_.wants_order(kDirectory));
  EXPECT_FALSE(streams_.note(kDirectory, names[4]));
  EXPECT_FALSE(streams_.wants_order(kDirectory));
  streams_.set_order(kDirectory, std::make_shared<const FileOrder>(names));
  EXPECT_EQ(streams_.take(kDirectory, 4), (std::vector<std::string>{names[5], names[6], names[7], names[8]}));
}

TEST_F(FileStreamsTest, NamesOfManyLargeDirectoriesStayWithinTheirLimit) {
  const auto order = std::make_shared<const FileOrder>(names_in_order(400'000));
  ASSERT_LE(order->bytes(), FileStreams::kOrderBytes);
  const uint64_t too_many = FileStreams::kOrderBytes / order->bytes() + 1;
  for (uint64_t number = 1; number <= too_many; ++number) {
    const shm::Handle directory{number, number};
    for (uint32_t i = 0; i < 3; ++i) streams_.note(directory, name_of(i));
    ASSERT_TRUE(streams_.wants_order(directory));
    streams_.set_order(directory, order);
  }
  EXPECT_FALSE(streams_.take({too_many, too_many}, 1).empty());
  EXPECT_TRUE(streams_.take({1, 1}, 1).empty()) << "forgotten for the others";
}

TEST(FileOrder, FindsEachNameInBothOrders) {
  const FileOrder order({"b", "", "c", "a"});
  ASSERT_TRUE(order.find("c"));
  EXPECT_EQ(order.find("c")->listed, 2U);
  EXPECT_EQ(order.find("c")->sorted, 3U);
  EXPECT_EQ(order.listed(0), "b");
  EXPECT_EQ(order.sorted(0), "");
  EXPECT_FALSE(order.find("d"));
  EXPECT_FALSE(FileOrder({}).find("a"));
}

}  // namespace
}  // namespace cached::volume
