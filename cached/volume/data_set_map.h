// DataSetMap: to which data set a place in a volume belongs.
//
// A data set is a volume as a whole, or a directory of it that the administrator named; where they nest, the
// innermost counts. Each has a number, the tag, which travels with the keys of its blocks so that accounting
// needs no look-up (shm/types.h). The map is a tree of the named directories, so that whoever learns of an
// inode in a directory that it knows needs one look at the name and no path.
//
// Immutable once a volume has it; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cached::volume {

class DataSetMap {
 public:
  // A directory's place: its tag, and where in the tree it is (0: nothing is named below it).
  struct Place {
    uint16_t tag = 0;
    uint16_t node = 0;
  };

  // `tag` is the volume's own; `generation` tells one map of a volume from the next.
  explicit DataSetMap(uint16_t tag = 0, uint64_t generation = 0) : generation_(generation), nodes_(2) {
    nodes_[kRoot].tag = tag;
  }
  // Names the directory `path` ("a/b"; not empty). Before anybody has the map.
  void add(std::string_view path, uint16_t tag);

  uint64_t generation() const { return generation_; }
  bool has_directories() const { return nodes_.size() > 2; }
  Place root() const { return {nodes_[kRoot].tag, kRoot}; }
  // The place of `name` in the directory at `parent`, whether that is a directory or not.
  Place below(Place parent, std::string_view name) const;
  // The place of a path from the root; empty for the root.
  Place at(std::string_view path) const;

 private:
  static constexpr uint16_t kRoot = 1;  // 0 is no node
  struct Node {
    uint16_t tag = 0;  // 0: only on the way to a named directory
    std::map<std::string, uint16_t, std::less<>> children = {};
  };
  uint64_t generation_;
  std::vector<Node> nodes_;
};

}  // namespace cached::volume
