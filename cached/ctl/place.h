// What a user means by a path: a place of a volume, as the daemon takes it.
#pragma once

#include <string>

#include "base/status.h"

namespace cached::ctl {

// "VOLUME:/PATH" and names of data sets as they are; a path that leads to one of our mounts as VOLUME:/PATH,
// by the kernel's table of mounts. ENOENT, with what to say instead, for a path that lies elsewhere.
Result<std::string> place_of_argument(const std::string& argument);

}  // namespace cached::ctl
