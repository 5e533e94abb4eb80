// The keyed hash of names: see hash.h.
#include "shm/hash.h"

#include <sodium.h>

#include <algorithm>
#include <cstring>

namespace cached::shm {

NameHash hash_name(const uint64_t key[2], uint32_t volume, const Handle& parent, std::string_view name) {
  constexpr size_t kNameMax = 255;
  unsigned char input[sizeof volume + sizeof parent + kNameMax];
  const size_t name_length = std::min(name.size(), kNameMax);
  std::memcpy(input, &volume, sizeof volume);
  std::memcpy(input + sizeof volume, &parent, sizeof parent);
  std::memcpy(input + sizeof volume + sizeof parent, name.data(), name_length);
  static_assert(crypto_shorthash_siphashx24_BYTES == 16 && crypto_shorthash_siphashx24_KEYBYTES == 16);
  unsigned char raw_key[16];
  std::memcpy(raw_key, key, sizeof raw_key);
  unsigned char output[16];
  crypto_shorthash_siphashx24(output, input, sizeof volume + sizeof parent + name_length, raw_key);
  NameHash hash;
  std::memcpy(&hash.high, output, 8);
  std::memcpy(&hash.low, output + 8, 8);
  return hash;
}

}  // namespace cached::shm
