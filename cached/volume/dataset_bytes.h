// ByteWriter and ByteReader: the encoding of data sets' metadata, little-endian integers, varints (7 bits a
// byte, least first) and zigzag varints.
//
// A reader never reads beyond its bytes: after the first failure everything that it returns is zero or empty,
// and ok() says so at the end. Whoever reads hostile bytes checks ok() before using anything.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace cached::volume {

static_assert(std::endian::native == std::endian::little,
              "the formats are little-endian and copied as they are");

class ByteWriter {
 public:
  // Appends the bytes of a trivially copyable value without padding.
  template <typename T>
  void raw(const T& value) {
    static_assert(std::has_unique_object_representations_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<char>(value | 0x80));
    bytes_.push_back(static_cast<char>(value));
  }
  void zigzag(int64_t value) {
    varint((static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63));
  }
  // The difference of two numbers that wrap around, as is right for bases.
  void difference(uint64_t value, uint64_t base) { zigzag(static_cast<int64_t>(value - base)); }
  void bytes(std::string_view text) { bytes_.append(text); }
  void counted(std::string_view text) {
    varint(text.size());
    bytes(text);
  }
  size_t size() const { return bytes_.size(); }
  const std::string& view() const { return bytes_; }
  std::string take() { return std::exchange(bytes_, {}); }

 private:
  std::string bytes_;
};

class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  template <typename T>
  T raw() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    const std::string_view from = bytes(sizeof value);
    if (from.size() == sizeof value) std::memcpy(&value, from.data(), sizeof value);
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      if (shift == 63 && byte > 1) break;
      value |= uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    fail();
    return 0;
  }
  int64_t zigzag() {
    const uint64_t value = varint();
    return static_cast<int64_t>((value >> 1) ^ (~(value & 1) + 1));
  }
  uint64_t difference(uint64_t base) { return base + static_cast<uint64_t>(zigzag()); }
  // The next `length` bytes, in place; empty, and a failure, if there are not as many.
  std::string_view bytes(uint64_t length) {
    if (length > rest_.size()) {
      fail();
      return {};
    }
    const std::string_view result = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return result;
  }
  // A length and as many bytes; a failure if it is more than `limit`.
  std::string_view counted(uint64_t limit) {
    const uint64_t length = varint();
    if (length > limit) fail();
    return ok_ ? bytes(length) : std::string_view();
  }
  void fail() {
    ok_ = false;
    rest_ = {};
  }
  bool ok() const { return ok_; }
  // Everything was read, and nothing went wrong.
  bool finished() const { return ok_ && rest_.empty(); }
  size_t left() const { return rest_.size(); }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace cached::volume
