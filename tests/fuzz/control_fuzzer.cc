// The control protocol's parser: no line may crash it, and whatever it takes is within its limits.
#include <cstdint>
#include <cstdlib>

#include "cached/admin/control_request.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cached::admin;
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  const cached::Result<ControlRequest> request = parse_request(line);
  if (!request.ok()) {
    if (request.status().message().empty()) std::abort();
    return 0;
  }
  if (!request->arguments.is_object() || line.size() > kMaximumRequestBytes) std::abort();
  for (const char* name : {"path", "data_set", "device"}) {
    const cached::Result<std::string> text = request->text_argument(name);
    if (text.ok() && (text->empty() || text->size() > 4096)) std::abort();
  }
  // A reply quotes what was asked, so it must be possible to write that down.
  static_cast<void>(request->arguments.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  return 0;
}
