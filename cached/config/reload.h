// What of a changed configuration takes effect without a restart.
//
// Live are log.level, daemon.max_sessions, memory.pin_limit, the volumes (but for fetch_in_flight, which
// all of a shard's volumes share) and the data sets. Everything else is fixed when the daemon starts.
#pragma once

#include <string>
#include <vector>

#include "cached/config/config.h"

namespace cached {

struct ReloadPlan {
  Config in_force;                   // the new one, with the old values of what needs a restart
  std::vector<std::string> changed;  // what takes effect, each in words: "log.level: \"info\" -> \"debug\""
  std::vector<std::string> needs_restart;  // likewise
  // Names of volumes: new ones, ones that are gone, and ones of which something changed, which mounts that
  // are there go on using as they were.
  std::vector<std::string> added;
  std::vector<std::string> removed;
  std::vector<std::string> replaced;
};

// From what is in force to what the file says now.
ReloadPlan plan_reload(const Config& current, const Config& wanted);

}  // namespace cached
