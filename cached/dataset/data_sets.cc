// Making the list of data sets: see data_sets.h.
#include "cached/dataset/data_sets.h"

#include <algorithm>
#include <atomic>

#include "cached/volume/volume_ids.h"

namespace cached::dataset {
namespace {

// What the tag of a data set is kept by.
std::string key_of(const DataSet& set) {
  return set.directory.empty() ? set.volume_name : set.volume_name + ":/" + set.directory;
}

bool lies_inside(const DataSet& inner, const DataSet& outer) {
  if (inner.volume_name != outer.volume_name) return false;
  if (outer.directory.empty() || inner.directory == outer.directory) return true;
  return inner.directory.starts_with(outer.directory + "/");
}

// A volume keeps what it knows of places until it has a map of another generation.
uint64_t next_generation() {
  static std::atomic<uint64_t> generation{0};
  return ++generation;
}

}  // namespace

Result<std::shared_ptr<const DataSets>> DataSets::make(
    const Config& config, const std::map<std::string, volume::Volume*>& volumes) {
  auto sets = std::make_shared<DataSets>();
  for (const VolumeConfig& volume : config.volumes) {
    sets->list_.push_back({volume.name, volume.name, "", volumes.at(volume.name), 0, {}});
  }
  for (const DataSetConfig& set : config.data_sets) {
    sets->list_.push_back({set.name, set.volume, set.directory.substr(1), volumes.at(set.volume), 0, {}});
  }
  std::vector<std::string> keys;
  for (const DataSet& set : sets->list_) keys.push_back(key_of(set));
  const Result<volume::VolumeIds> ids =
      volume::VolumeIds::load(config.daemon.state_dir, keys, volume::VolumeIds::kDataSetsFile);
  if (!ids.ok()) return ids.status();
  for (DataSet& set : sets->list_) set.tag = ids->of(key_of(set));
  for (DataSet& outer : sets->list_) {
    for (const DataSet& inner : sets->list_) {
      if (lies_inside(inner, outer)) outer.tags.push_back(inner.tag);
    }
  }
  for (const DataSet& set : sets->list_) {
    if (!set.directory.empty()) continue;
    auto map = std::make_shared<volume::DataSetMap>(set.tag, next_generation());
    for (const DataSet& inner : sets->list_) {
      if (inner.volume_name == set.volume_name && !inner.directory.empty())
        map->add(inner.directory, inner.tag);
    }
    set.volume->set_data_sets(std::move(map));
  }
  return std::shared_ptr<const DataSets>(std::move(sets));
}

const DataSet* DataSets::by_name(const std::string& name) const {
  const auto found = std::ranges::find(list_, name, &DataSet::name);
  return found == list_.end() ? nullptr : &*found;
}

const DataSet* DataSets::by_place(const std::string& volume_name, const std::string& directory) const {
  const auto found = std::ranges::find_if(list_, [&](const DataSet& set) {
    return set.volume_name == volume_name && set.directory == directory;
  });
  return found == list_.end() ? nullptr : &*found;
}

}  // namespace cached::dataset
