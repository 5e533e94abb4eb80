// Reading the daemon's answers: what a daemon of another version leaves out is 0 or empty.
#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "base/log.h"
#include "base/units.h"

namespace cached::ctl {

inline const nlohmann::json& member(const nlohmann::json& object, const char* key) {
  static const nlohmann::json kNothing;
  if (!object.is_object()) return kNothing;
  const auto found = object.find(key);
  return found == object.end() ? kNothing : *found;
}

inline uint64_t number(const nlohmann::json& object, const char* key) {
  const nlohmann::json& value = member(object, key);
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  // Clamped: beyond a type's range the conversion of a double is undefined.
  return value.is_number() ? static_cast<uint64_t>(std::clamp(value.get<double>(), 0.0, 0x1p62)) : 0;
}

inline std::string count(const nlohmann::json& object, const char* key) {
  return std::to_string(number(object, key));
}

inline std::string size(const nlohmann::json& object, const char* key) {
  return format_size(number(object, key));
}

// Text that may come from outside (a mount point): printable on a terminal. Numbers are taken too.
inline std::string text(const nlohmann::json& object, const char* key) {
  const nlohmann::json& value = member(object, key);
  if (value.is_string()) return printable(value.get_ref<const std::string&>());
  return value.is_number() ? value.dump() : "";
}

}  // namespace cached::ctl
