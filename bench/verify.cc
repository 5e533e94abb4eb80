// Verifier: see verify.h.
#include "bench/verify.h"

#include <spdlog/fmt/fmt.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/clock.h"

namespace cached::bench {
namespace {

constexpr uint16_t kMagic = 0xacca;
constexpr uint16_t kTypeCrc32c = 5;
constexpr uint16_t kTypeXxhash = 15;
constexpr uint32_t kXxhashSeed = 1;
constexpr uint32_t kCrcBegin = 0xFFFFFFFF;

// fio's struct verify_header.
struct Header {
  uint16_t magic;
  uint16_t type;
  uint32_t length;
  uint64_t random_seed;
  uint64_t offset;
  uint32_t time_s;
  uint32_t time_ns;
  uint16_t thread;
  uint16_t number;
  uint32_t header_crc;  // of all before
};
static_assert(sizeof(Header) == 40 && offsetof(Header, header_crc) == 36);
constexpr uint64_t kDataBegin = sizeof(Header) + sizeof(uint32_t);  // behind the checksum of the data
static_assert(kDataBegin < kSmallestVerifiedBlock);

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < table.size(); ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78 : 0);
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = make_crc_table();

uint32_t crc32c_by_table(uint32_t crc, const std::byte* bytes, uint64_t size_bytes) {
  for (uint64_t i = 0; i < size_bytes; ++i)
    crc = (crc >> 8) ^ kCrcTable[(crc ^ std::to_integer<uint32_t>(bytes[i])) & 0xFF];
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t crc32c_by_instruction(uint32_t crc, const std::byte* bytes,
                                                                 uint64_t size_bytes) {
  uint64_t words = crc;
  for (; size_bytes >= sizeof(uint64_t); size_bytes -= sizeof(uint64_t), bytes += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, bytes, sizeof word);
    words = __builtin_ia32_crc32di(words, word);
  }
  return crc32c_by_table(static_cast<uint32_t>(words), bytes, size_bytes);
}
#endif

uint32_t header_crc(const Header& header) {
  std::byte bytes[offsetof(Header, header_crc)];
  std::memcpy(bytes, &header, sizeof bytes);
  return crc32c(kCrcBegin, bytes, sizeof bytes);
}

}  // namespace

uint32_t crc32c(uint32_t crc, const std::byte* bytes, uint64_t size_bytes) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2") != 0) return crc32c_by_instruction(crc, bytes, size_bytes);
#endif
  return crc32c_by_table(crc, bytes, size_bytes);
}

void fill_random(uint64_t seed, std::byte* bytes, uint64_t size_bytes) {
  uint64_t state = seed;
  while (size_bytes > 0) {
    state += 0x9E3779B97F4A7C15ULL;  // splitmix64
    uint64_t word = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9ULL;
    word = (word ^ (word >> 27)) * 0x94D049BB133111EBULL;
    word ^= word >> 31;
    const uint64_t part = std::min<uint64_t>(sizeof word, size_bytes);
    std::memcpy(bytes, &word, part);
    bytes += part;
    size_bytes -= part;
  }
}

Verifier::Verifier(VerifyKind kind, std::string pattern, uint64_t seed)
    : kind_(kind), pattern_(std::move(pattern)), seed_(seed) {}

uint32_t Verifier::checksum(const std::byte* data, uint64_t size_bytes) const {
  return kind_ == VerifyKind::kXxhash ? XXH32(data, size_bytes, kXxhashSeed)
                                      : crc32c(kCrcBegin, data, size_bytes);
}

void Verifier::fill(const Io& io, std::byte* block) const {
  if (kind_ == VerifyKind::kPattern) {
    for (uint64_t i = 0; i < io.length; ++i) block[i] = static_cast<std::byte>(pattern_[i % pattern_.size()]);
    return;
  }
  const auto now_ns = static_cast<uint64_t>(system_clock().realtime_ns());
  Header header{.magic = kMagic,
                .type = kind_ == VerifyKind::kXxhash ? kTypeXxhash : kTypeCrc32c,
                .length = static_cast<uint32_t>(io.length),
                .random_seed = seed_ ^ now_ns ^ io.offset,
                .offset = io.offset,
                .time_s = static_cast<uint32_t>(now_ns / kNanosecondsPerSecond),
                .time_ns = static_cast<uint32_t>(now_ns % kNanosecondsPerSecond),
                .thread = 1,
                .number = 0,
                .header_crc = 0};
  header.header_crc = header_crc(header);
  fill_random(header.random_seed, block + kDataBegin, io.length - kDataBegin);
  const uint32_t sum = checksum(block + kDataBegin, io.length - kDataBegin);
  std::memcpy(block, &header, sizeof header);
  std::memcpy(block + sizeof header, &sum, sizeof sum);
}

Status Verifier::check_data(const std::byte* block, uint64_t length) const {
  if (kind_ == VerifyKind::kPattern) {
    for (uint64_t i = 0; i < length; ++i) {
      const auto wanted = static_cast<unsigned>(static_cast<unsigned char>(pattern_[i % pattern_.size()]));
      const auto got = std::to_integer<unsigned>(block[i]);
      if (got != wanted)
        return Status(EILSEQ,
                      fmt::format("got pattern '{:02x}', wanted '{:02x}'. Bad bits at {}", got, wanted, i));
    }
    return Status();
  }
  uint32_t stored = 0;
  std::memcpy(&stored, block + sizeof(Header), sizeof stored);
  const uint32_t sum = checksum(block + kDataBegin, length - kDataBegin);
  if (sum == stored) return Status();
  return Status(EILSEQ, fmt::format("bad data checksum {:x}, wanted {:x}", sum, stored));
}

Status Verifier::check(const Io& io, const std::byte* block, const std::string& path) const {
  Status status;
  Header header;
  std::memcpy(&header, block, sizeof header);
  const uint16_t type = kind_ == VerifyKind::kXxhash ? kTypeXxhash : kTypeCrc32c;
  if (kind_ == VerifyKind::kPattern) {
    status = check_data(block, io.length);
  } else if (header.magic != kMagic) {
    status = Status(EILSEQ, fmt::format("bad magic header {:x}, wanted {:x}", header.magic, kMagic));
  } else if (header.header_crc != header_crc(header)) {
    status = Status(
        EILSEQ, fmt::format("bad header crc {:x}, calculated {:x}", header.header_crc, header_crc(header)));
  } else if (header.type != type) {
    status = Status(EILSEQ, fmt::format("bad header verify_type {}, wanted {}", header.type, type));
  } else if (header.length != io.length) {
    status = Status(EILSEQ, fmt::format("bad header length {}, wanted {}", header.length, io.length));
  } else if (header.offset != io.offset) {
    status = Status(EILSEQ, fmt::format("bad header offset {}, wanted {}", header.offset, io.offset));
  } else {
    status = check_data(block, io.length);
  }
  if (status.ok()) return status;
  return Status(EILSEQ, fmt::format("verify: {} at file {} offset {}, length {}", status.message(), path,
                                    io.offset, io.length));
}

}  // namespace cached::bench
