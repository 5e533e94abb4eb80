// Content of verified files: the mixer, its inverse, filling and comparing.
#include "tests/verify/content.h"

#include <algorithm>
#include <cstring>

namespace cached::verify {
namespace {

constexpr uint64_t kStep = 0x9E3779B97F4A7C15;
constexpr uint64_t kFirstFactor = 0xBF58476D1CE4E5B9;
constexpr uint64_t kSecondFactor = 0x94D049BB133111EB;

// The inverse of an odd number modulo 2^64, by Newton's iteration: each step doubles the number of right
// bits.
constexpr uint64_t inverse(uint64_t odd) {
  uint64_t result = odd;
  for (int i = 0; i < 6; i++) result *= 2 - odd * result;
  return result;
}
static_assert(kStep * inverse(kStep) == 1);
static_assert(kFirstFactor * inverse(kFirstFactor) == 1);
static_assert(kSecondFactor * inverse(kSecondFactor) == 1);

// splitmix64's finalizer: two multiplications a word, so that several words are under way at once in any
// core.
constexpr uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * kFirstFactor;
  value = (value ^ (value >> 27)) * kSecondFactor;
  return value ^ (value >> 31);
}

constexpr uint64_t undo_shift(uint64_t value, unsigned shift) {
  uint64_t result = value;
  for (unsigned done = shift; done < 64; done += shift) result = value ^ (result >> shift);
  return result;
}

constexpr uint64_t unmix(uint64_t value) {
  value = undo_shift(value, 31) * inverse(kSecondFactor);
  value = undo_shift(value, 27) * inverse(kFirstFactor);
  return undo_shift(value, 30);
}
static_assert(unmix(mix(0x0123456789ABCDEF)) == 0x0123456789ABCDEF);

uint64_t load_word(const uint8_t* data) {
  uint64_t value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

}  // namespace

Content::Content(uint64_t seed, uint64_t file_id, uint64_t version)
    // Each step is a bijection of its newest input, so that distinct versions (or files) never share a base.
    : base_(mix(mix(mix(seed) + file_id) + version * kStep)) {}

uint64_t Content::word(uint64_t index) const {
  return mix(base_ + index * kStep);
}

void Content::fill(uint64_t offset, void* out, size_t length) const {
  auto* to = static_cast<uint8_t*>(out);
  size_t done = 0;
  while (done < length) {
    const uint64_t at = offset + done;
    const uint64_t skip = at % kWordBytes;
    if (skip == 0 && length - done >= kWordBytes) {
      const size_t words = (length - done) / kWordBytes;
      uint64_t state = base_ + at / kWordBytes * kStep;
      for (size_t i = 0; i < words; i++, state += kStep) {
        const uint64_t value = mix(state);
        std::memcpy(to + done + i * kWordBytes, &value, kWordBytes);
      }
      done += words * kWordBytes;
    } else {
      const uint64_t value = word(at / kWordBytes);
      const size_t part = std::min<size_t>(kWordBytes - skip, length - done);
      std::memcpy(to + done, reinterpret_cast<const uint8_t*>(&value) + skip, part);
      done += part;
    }
  }
}

size_t Content::first_mismatch(uint64_t offset, const void* data, size_t length) const {
  const auto* from = static_cast<const uint8_t*>(data);
  size_t done = 0;
  while (done < length) {
    const uint64_t at = offset + done;
    const uint64_t skip = at % kWordBytes;
    // Differences are collected over many words before they are looked at: a branch for each word would halve
    // the speed.
    constexpr size_t kWordsAtOnce = 64;
    if (skip == 0 && length - done >= kWordsAtOnce * kWordBytes) {
      uint64_t state = base_ + at / kWordBytes * kStep;
      uint64_t difference = 0;
      for (size_t i = 0; i < kWordsAtOnce; i++, state += kStep) {
        difference |= mix(state) ^ load_word(from + done + i * kWordBytes);
      }
      if (difference == 0) {
        done += kWordsAtOnce * kWordBytes;
        continue;
      }
    }
    const uint64_t value = word(at / kWordBytes);
    const auto* expected = reinterpret_cast<const uint8_t*>(&value) + skip;
    const size_t part = std::min<size_t>(kWordBytes - skip, length - done);
    for (size_t i = 0; i < part; i++) {
      if (from[done + i] != expected[i]) return done + i;
    }
    done += part;
  }
  return length;
}

uint64_t Content::index_of(uint64_t value) const {
  return (unmix(value) - base_) * inverse(kStep);
}

}  // namespace cached::verify
