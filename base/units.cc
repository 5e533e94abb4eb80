// Parsing and printing of sizes: see units.h.
#include "base/units.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdio>

namespace cached {
namespace {

struct Unit {
  std::string_view name;  // lower case
  uint64_t factor;
};

constexpr std::array<Unit, 14> kUnits = {{{"", 1},
                                          {"b", 1},
                                          {"k", kKiB},
                                          {"kib", kKiB},
                                          {"kb", 1000},
                                          {"m", kMiB},
                                          {"mib", kMiB},
                                          {"mb", 1000 * 1000},
                                          {"g", kGiB},
                                          {"gib", kGiB},
                                          {"gb", 1000ULL * 1000 * 1000},
                                          {"t", kTiB},
                                          {"tib", kTiB},
                                          {"tb", 1000ULL * 1000 * 1000 * 1000}}};

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  const std::string quoted = "\"" + std::string(text) + "\"";
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::result_out_of_range) return Status(ERANGE, quoted + " is larger than 2^64 bytes");
  if (error != std::errc()) {
    return Status(EINVAL, quoted + " is not a size; write a whole number and a unit, such as 64GiB");
  }
  std::string unit(end, text.data() + text.size());
  while (!unit.empty() && unit.front() == ' ') unit.erase(unit.begin());
  std::transform(unit.begin(), unit.end(), unit.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const Unit& known : kUnits) {
    if (known.name != unit) continue;
    uint64_t size = 0;
    if (__builtin_mul_overflow(number, known.factor, &size)) {
      return Status(ERANGE, quoted + " is larger than 2^64 bytes");
    }
    return size;
  }
  return Status(EINVAL, quoted + " has an unknown unit; use KiB, MiB, GiB or TiB");
}

std::string format_size(uint64_t size_bytes) {
  static constexpr std::array<const char*, 5> kNames = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(size_bytes);
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  const int digits = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  std::snprintf(text, sizeof text, "%.*f %s", digits, value, kNames[unit]);
  return text;
}

}  // namespace cached
