// Parsing requests: see control_request.h.
#include "cached/admin/control_request.h"

#include <unistd.h>

namespace cached::admin {
namespace {

using nlohmann::json;

constexpr size_t kMaximumTextArgumentBytes = 4096;  // the longest path

}  // namespace

bool is_operator(uid_t uid) {
  return uid == 0 || uid == ::geteuid();
}

bool ControlRequest::from_operator() const {
  return is_operator(uid);
}

Result<std::string> ControlRequest::text_argument(const std::string& name) const {
  const auto found = arguments.find(name);
  if (found != arguments.end() && found->is_string()) {
    const auto& value = found->get_ref<const std::string&>();
    if (!value.empty() && value.size() <= kMaximumTextArgumentBytes) return value;
  }
  return Status(EINVAL, "the command \"" + command + "\" needs \"" + name + "\", text of 1 to " +
                            std::to_string(kMaximumTextArgumentBytes) + " bytes");
}

Result<ControlRequest> parse_request(std::string_view line) {
  if (line.size() > kMaximumRequestBytes) {
    return Status(EMSGSIZE, "the request is longer than " + std::to_string(kMaximumRequestBytes) + " bytes");
  }
  bool too_deep = false;
  const auto visit = [&too_deep](int depth, json::parse_event_t, json&) {
    too_deep |= depth > kMaximumRequestDepth;
    return !too_deep;
  };
  ControlRequest request;
  request.arguments = json::parse(line, visit, /*allow_exceptions=*/false);
  if (too_deep) {
    return Status(EINVAL,
                  "the request is nested deeper than " + std::to_string(kMaximumRequestDepth) + " levels");
  }
  if (!request.arguments.is_object()) {
    return Status(EINVAL, "the request is not one line with one JSON object");
  }
  const auto command = request.arguments.find("command");
  if (command == request.arguments.end() || !command->is_string()) {
    return Status(EINVAL, "the request has no \"command\", which must be text");
  }
  request.command = command->get<std::string>();
  return request;
}

}  // namespace cached::admin
