// ControlRequest: one request of the control protocol, and the parser of what a client sent, which may be
// anything. CONTROL_PROTOCOL.md describes what is said.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace cached::admin {

inline constexpr size_t kMaximumRequestBytes = size_t{64} * 1024;
// Objects and lists in each other; requests need two.
inline constexpr int kMaximumRequestDepth = 8;

// Root and the daemon's own uid.
bool is_operator(uid_t uid);

struct ControlRequest {
  std::string command;
  nlohmann::json arguments;  // the whole request object, "command" included
  // Who asks, by SO_PEERCRED: the connection's maker.
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;
  std::vector<gid_t> groups;  // supplementary, by SO_PEERGROUPS

  // Whether the caller may change things: root, and the daemon's own uid.
  bool from_operator() const;
  // The argument `name`, which must be text of 1 to 4096 bytes: EINVAL with a message that says so.
  Result<std::string> text_argument(const std::string& name) const;
};

// Parses one line, without its end: one JSON object with a "command" that is text, nested no deeper than
// kMaximumRequestDepth. EINVAL with what is wrong; EMSGSIZE for more than kMaximumRequestBytes. Who asks is
// left to the caller.
Result<ControlRequest> parse_request(std::string_view line);

}  // namespace cached::admin
