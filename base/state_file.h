// Small files that must be whole after a crash: read at once, replaced at once.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/status.h"

namespace cached {

// The whole content of `path`. ENOENT if there is none; EFBIG if it is larger than `limit_bytes`.
Result<std::string> read_state_file(const std::string& path, size_t limit_bytes);

// Replaces `path` (mode 0600) by `content`: after a crash it holds either the old content or the new. Writes
// `path`.new beside it first.
Status replace_state_file(const std::string& path, std::string_view content);

}  // namespace cached
