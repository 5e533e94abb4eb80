// Numbers as fio prints them: see report_numbers.h.
#include "bench/report_numbers.h"

#include <spdlog/fmt/fmt.h>

#include <array>

namespace cached::bench {

std::string fio_number(uint64_t number, unsigned digits, bool binary, const std::string& unit) {
  constexpr std::array<const char*, 6> kDecimalPrefixes = {"", "k", "M", "G", "T", "P"};
  constexpr std::array<const char*, 6> kBinaryPrefixes = {"", "Ki", "Mi", "Gi", "Ti", "Pi"};
  const uint64_t thousand = binary ? 1024 : 1000;
  size_t power = 0;
  uint64_t rest = 0;
  while (std::to_string(number).size() > digits && power + 1 < kDecimalPrefixes.size()) {
    rest = number % thousand;
    number /= thousand;
    ++power;
  }
  const std::string suffix = std::string(binary ? kBinaryPrefixes[power] : kDecimalPrefixes[power]) + unit;
  const size_t length = std::to_string(number).size();
  if (power == 0) return std::to_string(number) + suffix;
  // No room for a point and a digit behind it.
  if (length + 1 >= digits) return std::to_string(number + (rest >= thousand / 2 ? 1 : 0)) + suffix;
  const std::string fraction =
      fmt::format("{:.{}f}", static_cast<double>(rest) / static_cast<double>(thousand), digits - length - 1);
  return std::to_string(number) + fraction.substr(1) + suffix;
}

std::string fio_bytes(uint64_t bytes) {
  return fio_number(bytes, 4, true, "B");
}

}  // namespace cached::bench
