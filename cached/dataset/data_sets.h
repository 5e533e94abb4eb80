// DataSets: what is accounted for by itself: every volume, and the directories that the configuration names.
//
// Each has a tag, the same for ever (volume/volume_ids.h), because blocks carry it onto SSDs: that of a
// volume is kept by the volume's name, that of a directory by VOLUME:/DIRECTORY, so that renaming a data set
// keeps what is counted for it. A block is counted under one tag, that of the innermost data set of the file
// that it was fetched for; a data set's figures are the sums over its own tag and those of the data sets
// inside it.
//
// Immutable; any thread. A reload makes a new one.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "cached/config/config.h"
#include "cached/volume/volume.h"

namespace cached::dataset {

struct DataSet {
  std::string name;
  std::string volume_name;
  std::string directory;  // in the volume: "a/b"; empty for the volume as a whole
  volume::Volume* volume = nullptr;
  uint16_t tag = 0;
  std::vector<uint16_t> tags;  // its own and those of the data sets inside it
};

class DataSets {
 public:
  // Of the configuration's volumes, which `volumes` has by name, and of its directories; and tells the
  // volumes where theirs are. Reads and extends `state_dir`/data_sets; its errors.
  static Result<std::shared_ptr<const DataSets>> make(const Config& config,
                                                      const std::map<std::string, volume::Volume*>& volumes);

  // Volumes first, each list in the order of the configuration.
  const std::vector<DataSet>& list() const { return list_; }
  // Null if there is none.
  const DataSet* by_name(const std::string& name) const;
  const DataSet* by_place(const std::string& volume_name, const std::string& directory) const;

 private:
  std::vector<DataSet> list_;
};

}  // namespace cached::dataset
