// Output that all commands share: see commands.h.
#include "cached/ctl/commands.h"

#include <cstdio>

#include "base/status.h"
#include "cached/ctl/control_client.h"

namespace cached::ctl {

int exit_status_of(const Status& status) {
  return status.error_number() == EINVAL ? kExitUsage : kExitError;
}

int fail(int exit_status, const std::string& message) {
  std::fprintf(stderr, "cachedctl: %s\n", message.c_str());
  return exit_status;
}

int print(const std::string& text) {
  const bool written = std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0;
  return written ? kExitOk : fail(kExitError, Status::from_errno("cannot write the output").message());
}

int print_json(const nlohmann::json& value) {
  return print(value.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

int ask_and_print(const CommandLine& line, const std::string& command, const nlohmann::json& arguments,
                  const std::function<std::string(const nlohmann::json&)>& format) {
  const ControlReply reply = ask_daemon(line.socket, command, arguments);
  if (reply.outcome == ControlReply::Outcome::kUnreachable) return fail(kExitUnreachable, reply.error);
  if (reply.outcome == ControlReply::Outcome::kRefused) return fail(kExitError, reply.error);
  return line.json ? print_json(reply.result) : print(format(reply.result));
}

}  // namespace cached::ctl
