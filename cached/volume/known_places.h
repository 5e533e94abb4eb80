// KnownPlaces: where inodes that were found by name are among the data sets, for volumes whose metadata does
// not lead from an inode to the directories above it.
//
// Bounded, least recently used forgotten. One thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cached/volume/data_set_map.h"
#include "cached/volume/lru_map.h"

namespace cached::volume {

class KnownPlaces {
 public:
  explicit KnownPlaces(size_t limit) : places_(limit) {}

  void put(const DataSetMap& map, uint64_t inode, DataSetMap::Place place) {
    places_.put(inode, {place, map.generation()});
  }
  // What was put under this map; otherwise the inode counts for the volume as a whole.
  DataSetMap::Place find(const DataSetMap& map, uint64_t inode) {
    const Known* const known = places_.get(inode);
    if (known == nullptr || known->generation != map.generation()) return {map.root().tag, 0};
    return known->place;
  }

 private:
  struct Known {
    DataSetMap::Place place;
    uint64_t generation = 0;  // of the map
  };
  LruMap<uint64_t, Known> places_;
};

}  // namespace cached::volume
