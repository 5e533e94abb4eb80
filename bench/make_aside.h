// Making a file or a tree for a workload so that what stands in its place is whole.
#pragma once

#include <functional>
#include <string>

#include "base/status.h"

namespace cached::bench {

// Makes `target`, which must not be there yet (EEXIST), by `make`, which is given a place beside it that is
// free: what an interrupted run left there is removed before.
Status make_aside(const std::string& target, const std::function<Status(const std::string& partial)>& make);

}  // namespace cached::bench
