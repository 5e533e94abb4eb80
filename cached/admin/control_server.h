// ControlServer: answers an operator's requests on the control socket. CONTROL_PROTOCOL.md describes what is
// said there.
//
// One thread of its own, asleep in poll() while nobody asks. Commands run on that thread, one at a time; they
// decide by the request's credentials whether they serve it, for anybody may connect.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "cached/admin/control_request.h"

namespace cached::admin {

inline constexpr size_t kMaximumConnections = 32;
// More connections that only root and the daemon's own uid can have, so that users cannot lock the operator
// out.
inline constexpr size_t kReservedConnections = 4;
inline constexpr int kIdleTimeoutMs = 5'000;

// Serves one command: the reply's "result", or an error whose message the operator sees. May block for up to
// a second.
using ControlCommand = std::function<Result<nlohmann::json>(const ControlRequest&)>;
using ControlCommands = std::map<std::string, ControlCommand>;

// `command`, for those alone who may change things (ControlRequest::from_operator); others get EPERM, and
// `command` does not run. Every command that changes something is made by this one.
ControlCommand for_operator(ControlCommand command);

// Work that the control thread does every `interval_ms` besides; it may block as a command may.
struct PeriodicWork {
  unsigned interval_ms = 0;  // 0: none
  std::function<void()> run = {};
};

class ControlServer {
 public:
  // Listens at `path` (mode 0666) and starts serving. A socket that a dead daemon left there is replaced.
  // EADDRINUSE if a living one answers there, EEXIST if something that is no socket stands there, else errno.
  static Result<std::unique_ptr<ControlServer>> create(const std::string& path, ControlCommands commands,
                                                       PeriodicWork periodic = {});
  // Stops after the command that is running, closes all connections and removes the socket.
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

 private:
  struct Impl;
  explicit ControlServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cached::admin
