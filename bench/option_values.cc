// The values of options as fio writes them: see option_values.h.
#include "bench/option_values.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "base/clock.h"

namespace cached::bench {
namespace {

std::string quoted(std::string_view text) {
  return "'" + std::string(text) + "'";
}

std::string lower_case(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

// The factor of a size's unit, in lower case; 0 if there is no such unit.
uint64_t size_factor(std::string_view unit) {
  constexpr std::string_view kPrefixes = "kmgtp";
  if (unit.empty() || unit == "b") return 1;
  const size_t power = kPrefixes.find(unit.front());
  const std::string_view rest = unit.substr(1);
  if (power == std::string_view::npos || !(rest.empty() || rest == "b" || rest == "i" || rest == "ib"))
    return 0;
  const uint64_t base = rest == "ib" ? 1000 : 1024;
  uint64_t factor = base;
  for (size_t i = 0; i < power; ++i) factor *= base;
  return factor;
}

}  // namespace

Result<uint64_t> parse_fio_size(std::string_view text) {
  const std::string lower = lower_case(text);
  const bool hexadecimal = lower.starts_with("0x");
  const char* const begin = lower.data() + (hexadecimal ? 2 : 0);
  const char* const end = lower.data() + lower.size();
  uint64_t number = 0;
  const auto [unit, error] = std::from_chars(begin, end, number, hexadecimal ? 16 : 10);
  const uint64_t factor =
      error == std::errc() ? size_factor({unit, static_cast<size_t>(end - unit)}) : uint64_t{0};
  uint64_t size = 0;
  if (factor == 0)
    return Status(EINVAL, quoted(text) + " is not a size: a whole number with k, m, g, t or p (1024)");
  if (__builtin_mul_overflow(number, factor, &size))
    return Status(ERANGE, quoted(text) + " is larger than 2^64 bytes");
  return size;
}

Result<uint64_t> parse_fio_time(std::string_view text) {
  uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [unit, error] = std::from_chars(text.data(), end, number);
  const std::string_view suffix(unit, static_cast<size_t>(end - unit));
  constexpr std::pair<std::string_view, uint64_t> kUnits[] = {{"", kNanosecondsPerSecond},
                                                              {"s", kNanosecondsPerSecond},
                                                              {"us", 1000},
                                                              {"usec", 1000},
                                                              {"ms", kNanosecondsPerMillisecond},
                                                              {"msec", kNanosecondsPerMillisecond},
                                                              {"m", 60 * kNanosecondsPerSecond},
                                                              {"h", 3600 * kNanosecondsPerSecond},
                                                              {"d", 86400 * kNanosecondsPerSecond}};
  for (const auto& [name, scale] : kUnits) {
    if (error == std::errc() && suffix == name && number <= UINT64_MAX / scale) return number * scale;
  }
  return Status(EINVAL, quoted(text) + " is not a time: a whole number with us, ms, s, m, h or d");
}

Result<uint64_t> parse_number(std::string_view text, uint64_t lowest, uint64_t highest) {
  uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end || number < lowest || number > highest) {
    return Status(EINVAL, quoted(text) + " is not a whole number from " + std::to_string(lowest) + " to " +
                              std::to_string(highest));
  }
  return number;
}

Result<bool> parse_flag(std::string_view text) {
  if (text.empty() || text == "1" || text == "true") return true;
  if (text == "0" || text == "false") return false;
  return Status(EINVAL, quoted(text) + " is neither 0 nor 1");
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts(text.empty() ? 0 : 1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == separator) {
      parts.back() += text[++i];
    } else if (text[i] == separator) {
      parts.emplace_back();
    } else {
      parts.back() += text[i];
    }
  }
  std::erase(parts, "");
  return parts;
}

Result<LoadKind> parse_load_kind(std::string_view text) {
  const LoadKind kKinds[] = {{"read", true, false, false},    {"write", false, true, false},
                             {"rw", true, true, false},       {"readwrite", true, true, false},
                             {"randread", true, false, true}, {"randwrite", false, true, true},
                             {"randrw", true, true, true}};
  for (const LoadKind& kind : kKinds) {
    if (kind.name == text) return kind;
  }
  return Status(EINVAL, quoted(text) + " is not one of read, write, rw, randread, randwrite, randrw");
}

}  // namespace cached::bench
