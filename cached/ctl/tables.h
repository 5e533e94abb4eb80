// What the daemon says, as tables for a person.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cached/config/config.h"

namespace cached::ctl {

// Rows of cells, the first row the heading, as lines of aligned columns. A column whose cells below the
// heading all start with a digit or "-" is aligned to the right.
std::string format_table(const std::vector<std::vector<std::string>>& rows);

// "3d 4h", "2h 5m", "5m 10s", "17s".
std::string format_duration(uint64_t duration_s);

// "97.3 %"; "-" when `whole` is 0.
std::string format_ratio(uint64_t part, uint64_t whole);

// The results of the commands of these names; what a daemon of another version leaves out shows as 0 or
// empty.
std::string format_status(const nlohmann::json& status);
std::string format_sessions(const nlohmann::json& sessions);
std::string format_volumes(const nlohmann::json& volumes);
std::string format_devices(const nlohmann::json& devices);
std::string format_du(const nlohmann::json& du);
// The result of `drain` and `undrain`: one device.
std::string format_drain(const nlohmann::json& device);
std::string format_config(const Config& config);

}  // namespace cached::ctl
