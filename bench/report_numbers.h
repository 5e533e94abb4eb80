// Numbers as fio prints them.
#pragma once

#include <cstdint>
#include <string>

namespace cached::bench {

// fio's num2str(): at most `digits` digits and a prefix, "64.0k", "1049MB": a power of 1024 ("Ki") or of
// 1000.
std::string fio_number(uint64_t number, unsigned digits, bool binary, const std::string& unit);

// "64.0KiB", "4096B", with four digits.
std::string fio_bytes(uint64_t bytes);

}  // namespace cached::bench
