// Comparing two configurations key by key: see reload.h.
#include "cached/config/reload.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>

namespace cached {
namespace {

constexpr std::array<std::string_view, 3> kLiveKeys = {"log.level", "daemon.max_sessions",
                                                       "memory.pin_limit"};
constexpr std::string_view kFetchKey = "fetch_in_flight";

using Values = std::map<std::string, std::string>;

// The values of the sections that are there once, and of the devices.
Values fixed_values(const Config& config) {
  Values values;
  for (const ConfigItem& item : describe_config(config)) {
    if (!item.key.starts_with("volume[") && !item.key.starts_with("dataset[")) values[item.key] = item.value;
  }
  return values;
}

// The values of one volume, by key without its section.
Values values_of(const VolumeConfig& volume) {
  Config alone;
  alone.volumes.push_back(volume);
  Values values;
  for (const ConfigItem& item : describe_config(alone)) {
    if (item.key.starts_with("volume[0].")) values[item.key.substr(sizeof("volume[0].") - 1)] = item.value;
  }
  return values;
}

// Calls visit(key, old, new) for each key whose value differs; "nothing" where one side has none.
template <typename Visit>
void for_each_difference(const Values& before, const Values& after, Visit visit) {
  static const std::string kNothing = "nothing";
  for (const auto& [key, value] : before) {
    const auto found = after.find(key);
    if (found == after.end() || found->second != value)
      visit(key, value, found == after.end() ? kNothing : found->second);
  }
  for (const auto& [key, value] : after) {
    if (!before.contains(key)) visit(key, kNothing, value);
  }
}

std::string told(const std::string& key, const std::string& before, const std::string& after) {
  return key + ": " + before + " -> " + after;
}

const VolumeConfig* find_volume(const Config& config, const std::string& name) {
  const auto found = std::ranges::find(config.volumes, name, &VolumeConfig::name);
  return found == config.volumes.end() ? nullptr : &*found;
}

void compare_volume(const VolumeConfig& before, const VolumeConfig& after, ReloadPlan* plan) {
  bool replaced = false;
  for_each_difference(
      values_of(before), values_of(after),
      [&](const std::string& key, const std::string& old_value, const std::string& new_value) {
        const std::string text = told("volume \"" + after.name + "\" " + key, old_value, new_value);
        const bool fixed = key == kFetchKey;
        (fixed ? plan->needs_restart : plan->changed).push_back(text);
        replaced |= !fixed;
      });
  if (replaced) plan->replaced.push_back(after.name);
}

void compare_volumes(const Config& current, const Config& wanted, ReloadPlan* plan) {
  for (const VolumeConfig& volume : wanted.volumes) {
    const VolumeConfig* const before = find_volume(current, volume.name);
    if (before != nullptr) {
      compare_volume(*before, volume, plan);
      continue;
    }
    plan->added.push_back(volume.name);
    plan->changed.push_back("volume \"" + volume.name + "\" is new");
  }
  for (const VolumeConfig& volume : current.volumes) {
    if (find_volume(wanted, volume.name) != nullptr) continue;
    plan->removed.push_back(volume.name);
    plan->changed.push_back("volume \"" + volume.name +
                            "\" is gone: it cannot be mounted any more; mounts of it go on");
  }
}

void compare_data_sets(const Config& current, const Config& wanted, ReloadPlan* plan) {
  Values before;
  Values after;
  for (const DataSetConfig& set : current.data_sets)
    before["data set \"" + set.name + "\""] = set.volume + ":" + set.directory;
  for (const DataSetConfig& set : wanted.data_sets)
    after["data set \"" + set.name + "\""] = set.volume + ":" + set.directory;
  for_each_difference(before, after,
                      [&](const std::string& key, const std::string& from, const std::string& to) {
                        plan->changed.push_back(told(key, from, to));
                      });
}

}  // namespace

ReloadPlan plan_reload(const Config& current, const Config& wanted) {
  ReloadPlan plan;
  for_each_difference(fixed_values(current), fixed_values(wanted),
                      [&](const std::string& key, const std::string& before, const std::string& after) {
                        const bool live = std::ranges::find(kLiveKeys, key) != kLiveKeys.end();
                        (live ? plan.changed : plan.needs_restart).push_back(told(key, before, after));
                      });
  compare_volumes(current, wanted, &plan);
  compare_data_sets(current, wanted, &plan);
  plan.in_force = wanted;
  plan.in_force.daemon = current.daemon;
  plan.in_force.log = current.log;
  plan.in_force.log.level = wanted.log.level;
  plan.in_force.metrics = current.metrics;
  plan.in_force.daemon.max_sessions = wanted.daemon.max_sessions;
  plan.in_force.memory = current.memory;
  plan.in_force.memory.pin_limit_bytes = wanted.memory.pin_limit_bytes;
  plan.in_force.ssd = current.ssd;
  plan.in_force.devices = current.devices;
  return plan;
}

}  // namespace cached
