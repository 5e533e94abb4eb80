// Tests of the owner of a file descriptor.
#include "base/unique_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>

namespace cached {
namespace {

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}
int open_null() {
  return ::open("/dev/null", O_RDONLY | O_CLOEXEC);
}

TEST(UniqueFd, ClosesWhatItHolds) {
  int number = -1;
  {
    const UniqueFd fd(open_null());
    number = fd.get();
    EXPECT_TRUE(fd.valid());
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
}

TEST(UniqueFd, HoldsNothingByDefault) {
  EXPECT_FALSE(UniqueFd().valid());
}

TEST(UniqueFd, MoveLeavesTheOtherEmpty) {
  UniqueFd first(open_null());
  const int number = first.get();
  const UniqueFd second(std::move(first));
  EXPECT_FALSE(first.valid());
  EXPECT_EQ(second.get(), number);
  EXPECT_TRUE(is_open(number));
}

TEST(UniqueFd, MoveAssignmentClosesWhatItHeld) {
  UniqueFd first(open_null());
  UniqueFd second(open_null());
  const int old_number = second.get();
  second = std::move(first);
  EXPECT_FALSE(is_open(old_number));
  EXPECT_TRUE(is_open(second.get()));
}

TEST(UniqueFd, ReleaseGivesUpOwnership) {
  int number = -1;
  {
    UniqueFd fd(open_null());
    number = fd.release();
    EXPECT_FALSE(fd.valid());
  }
  EXPECT_TRUE(is_open(number));
  ::close(number);
}

TEST(UniqueFd, ResetToWhatItHoldsKeepsItOpen) {
  UniqueFd fd(open_null());
  fd.reset(fd.get());
  EXPECT_TRUE(is_open(fd.get()));
}

}  // namespace
}  // namespace cached
