// The values of options as fio writes them: sizes, times, kinds of load.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace cached::bench {

// A size as fio reads it: a whole number, decimal or 0x hexadecimal, and k, m, g, t or p (letter case is
// free), with or without 'b' or 'i': powers of 1024. "KiB", "MiB", ... are powers of 1000: so does fio with
// its kb_base=1024.
Result<uint64_t> parse_fio_size(std::string_view text);

// A time as fio reads it, in nanoseconds: a whole number and us, ms, s (the default), m, h or d.
Result<uint64_t> parse_fio_time(std::string_view text);

// A whole number from `lowest` to `highest`.
Result<uint64_t> parse_number(std::string_view text, uint64_t lowest, uint64_t highest);

// 1, 0, true, false; empty (the option stands alone) means true.
Result<bool> parse_flag(std::string_view text);

// The parts between separators; a backslash before a separator makes it part of a name, as in fio.
std::vector<std::string> split(std::string_view text, char separator);

// What a job does: fio's rw.
struct LoadKind {
  std::string name = "read";
  bool reads = true;
  bool writes = false;
  bool random = false;
};
Result<LoadKind> parse_load_kind(std::string_view text);

}  // namespace cached::bench
