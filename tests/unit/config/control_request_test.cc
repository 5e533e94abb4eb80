// Parsing requests of the control protocol.
#include "cached/admin/control_request.h"

#include <gtest/gtest.h>

#include <string>

namespace cached::admin {
namespace {

TEST(ControlRequest, IsOneObjectWithACommand) {
  const Result<ControlRequest> request = parse_request(R"({"command":"du","data_set":"speech"})");
  ASSERT_TRUE(request.ok()) << request.status().message();
  EXPECT_EQ(request->command, "du");
  EXPECT_EQ(*request->text_argument("data_set"), "speech");
  EXPECT_EQ(request->text_argument("path").error_number(), EINVAL);
}

TEST(ControlRequest, IsRefusedWhenItIsAnythingElse) {
  for (const char* line :
       {"", "null", "[]", "7", "{}", R"({"command":7})", R"({"command":"du"} x)", "{", "\"du\""})
    EXPECT_EQ(parse_request(line).error_number(), EINVAL) << line;
}

TEST(ControlRequest, IsRefusedWhenItIsTooDeepOrTooLong) {
  const auto nested = [](int levels) {
    return R"({"command":"du","x":)" + std::string(static_cast<size_t>(levels), '[') + "1" +
           std::string(static_cast<size_t>(levels), ']') + "}";
  };
  EXPECT_TRUE(parse_request(nested(kMaximumRequestDepth - 1)).ok());
  EXPECT_NE(parse_request(nested(kMaximumRequestDepth + 1)).status().message().find("nested"),
            std::string::npos);
  EXPECT_EQ(parse_request(nested(30'000)).error_number(), EINVAL);
  EXPECT_EQ(parse_request(std::string(kMaximumRequestBytes + 1, ' ')).error_number(), EMSGSIZE);
}

}  // namespace
}  // namespace cached::admin
