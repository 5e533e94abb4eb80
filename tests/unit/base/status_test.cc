// Tests of errors as values.
#include "base/status.h"

#include <gtest/gtest.h>

#include <memory>

namespace cached {
namespace {

TEST(Status, IsOkByDefault) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.error_number(), 0);
  EXPECT_EQ(status.message(), "");
}

TEST(Status, CarriesErrnoAndMessage) {
  const Status status(ENOENT, "no volume \"x\"");
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.error_number(), ENOENT);
  EXPECT_EQ(status.message(), "no volume \"x\"");
}

TEST(Status, FromErrnoAppendsTheErrnosText) {
  errno = EACCES;
  const Status status = Status::from_errno("cannot open /x");
  EXPECT_EQ(status.error_number(), EACCES);
  EXPECT_EQ(status.message(), "cannot open /x: Permission denied");
}

TEST(Status, FromAGivenErrnoAppendsItsText) {
  EXPECT_EQ(Status::from_errno(ENOSPC, "cannot write").message(), "cannot write: No space left on device");
}

TEST(Status, WithContextPutsAPrefixInFront) {
  const Status status = Status(EIO, "bad checksum").with_context("segment 3");
  EXPECT_EQ(status.message(), "segment 3: bad checksum");
  EXPECT_EQ(status.error_number(), EIO);
}

TEST(Status, WithContextLeavesOkAlone) {
  EXPECT_TRUE(Status().with_context("anything").ok());
}

TEST(Status, CopiesAreIndependent) {
  Status original(EIO, "first");
  const Status copy = original;
  original = Status();
  EXPECT_TRUE(original.ok());
  EXPECT_EQ(copy.message(), "first");
}

TEST(Status, CopyAssignmentToItselfChangesNothing) {
  Status status(EIO, "kept");
  const Status& alias = status;
  status = alias;
  EXPECT_EQ(status.message(), "kept");
}

TEST(Result, HoldsAValue) {
  Result<int> result = 5;
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(*result, 5);
  EXPECT_TRUE(result.status().ok());
  EXPECT_EQ(result.error_number(), 0);
}

TEST(Result, HoldsAnError) {
  const Result<int> result = Status(EINVAL, "odd");
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(result.error_number(), EINVAL);
  EXPECT_EQ(result.status().message(), "odd");
}

TEST(Result, GivesUpAValueThatCannotBeCopied) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(7);
  const std::unique_ptr<int> taken = std::move(result).value();
  EXPECT_EQ(*taken, 7);
}

TEST(ReturnIfError, ReturnsErrorsAndPassesOk) {
  const auto pass = [](const Status& inner) -> Status {
    CACHED_RETURN_IF_ERROR(inner);
    return Status(EAGAIN, "reached the end");
  };
  EXPECT_EQ(pass(Status(EIO, "inner")).error_number(), EIO);
  EXPECT_EQ(pass(Status()).error_number(), EAGAIN);
}

}  // namespace
}  // namespace cached
