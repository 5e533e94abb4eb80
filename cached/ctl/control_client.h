// The asking side of the control socket: one request, one reply.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/status.h"

namespace cached::ctl {

// What came of asking.
struct ControlReply {
  enum class Outcome { kAnswered, kRefused, kUnreachable };
  Outcome outcome = Outcome::kUnreachable;
  nlohmann::json result;  // kAnswered
  std::string error;      // else: one sentence for the user
};

// Sends {"command": command} and the members of `arguments`, an object, to the daemon at `socket_path` and
// waits up to 10 s for its reply.
ControlReply ask_daemon(const std::string& socket_path, const std::string& command,
                        nlohmann::json arguments = nlohmann::json::object());

}  // namespace cached::ctl
