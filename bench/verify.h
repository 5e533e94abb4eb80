// Verifier: puts fio's header and checksum into blocks that are written, and checks blocks that were read.
//
// A block begins with the header of fio 3.33 (verify.h there), followed by the checksum of its kind, and by
// data: what fio wrote can be checked here, and the other way round.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "bench/engine.h"
#include "bench/options.h"

namespace cached::bench {

// CRC-32C (Castagnoli) as fio takes it: no complement at the beginning or the end, `crc` to begin with.
uint32_t crc32c(uint32_t crc, const std::byte* bytes, uint64_t size_bytes);

// Fills with bytes that do not repeat and that do not compress; other ones for another seed.
void fill_random(uint64_t seed, std::byte* bytes, uint64_t size_bytes);

class Verifier {
 public:
  Verifier(VerifyKind kind, std::string pattern, uint64_t seed);
  bool enabled() const { return kind_ != VerifyKind::kNone; }
  // Makes `block` what is to be written by `io`.
  void fill(const Io& io, std::byte* block) const;
  // EILSEQ with what is wrong in a block that was read by `io` from `path`.
  Status check(const Io& io, const std::byte* block, const std::string& path) const;

 private:
  uint32_t checksum(const std::byte* data, uint64_t size_bytes) const;
  Status check_data(const std::byte* block, uint64_t length) const;

  const VerifyKind kind_;
  const std::string pattern_;
  const uint64_t seed_;
};

}  // namespace cached::bench
