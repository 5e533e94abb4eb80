// VolumeIds: the 16-bit number of each volume, the same for ever; and, in a file of their own, of each data
// set.
//
// Block keys carry it, also on SSDs, so it may not depend on the order of the configuration: a name keeps the
// number that it was given first, in `state_dir`/FILE, one line "NUMBER NAME" each. Numbers of names
// that are not configured any more are kept for them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"

namespace cached::volume {

class VolumeIds {
 public:
  // Reads the file and gives numbers to those of `names` that have none, which it writes back. EINVAL: the
  // file is damaged; ENOSPC: 65,535 names have numbers already.
  static Result<VolumeIds> load(const std::string& state_dir, const std::vector<std::string>& names,
                                const std::string& file = kVolumesFile);
  static constexpr const char* kVolumesFile = "volumes";
  static constexpr const char* kDataSetsFile = "data_sets";
  // The number of one of `names`, never 0.
  uint16_t of(const std::string& name) const { return ids_.at(name); }

 private:
  std::map<std::string, uint16_t> ids_;
};

}  // namespace cached::volume
