// The tree of named directories: see data_set_map.h.
#include "cached/volume/data_set_map.h"

#include <algorithm>

namespace cached::volume {
namespace {

// Takes the first name off `path`.
std::string_view take_name(std::string_view* path) {
  const size_t end = std::min(path->find('/'), path->size());
  const std::string_view name = path->substr(0, end);
  path->remove_prefix(std::min(end + 1, path->size()));
  return name;
}

}  // namespace

void DataSetMap::add(std::string_view path, uint16_t tag) {
  uint16_t at = kRoot;
  while (!path.empty()) {
    const std::string_view name = take_name(&path);
    const auto known = nodes_[at].children.find(name);
    if (known != nodes_[at].children.end()) {
      at = known->second;
      continue;
    }
    const auto next = static_cast<uint16_t>(nodes_.size());
    nodes_[at].children.emplace(name, next);
    nodes_.emplace_back();
    at = next;
  }
  nodes_[at].tag = tag;
}

DataSetMap::Place DataSetMap::below(Place parent, std::string_view name) const {
  if (parent.node == 0) return parent;
  const auto& children = nodes_[parent.node].children;
  const auto child = children.find(name);
  if (child == children.end()) return {parent.tag, 0};
  const Node& node = nodes_[child->second];
  return {node.tag != 0 ? node.tag : parent.tag, child->second};
}

DataSetMap::Place DataSetMap::at(std::string_view path) const {
  Place place = root();
  while (!path.empty() && place.node != 0) place = below(place, take_name(&path));
  return place;
}

}  // namespace cached::volume
