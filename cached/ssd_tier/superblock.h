// Superblock: what a device is, and whether it may be used at all.
//
// 4 KiB at offset 0 and a second copy at 32 KiB. They are written one after the other, with a sync after
// each, so that one is whole whatever happens; the one with the higher start_count counts. A device whose
// content is not ours is never written, except by format_device() with force. A signature of somebody else in
// the superblock area makes a device foreign even where a copy of ours has survived it: mkfs leaves gaps.
//
// All functions block and are for threads that are not reactors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"
#include "cached/io/device.h"
#include "cached/ssd_tier/format.h"

namespace cached::ssd_tier {

inline constexpr uint32_t kSuperblockBytes = 4096;
inline constexpr std::array<uint64_t, 2> kSuperblockOffsets = {0, 32 * 1024};

struct Superblock {
  Uuid uuid;
  Layout layout;
  // Starts of a daemon on this device so far: the upper half of every sequence that the present one uses.
  uint32_t start_count = 0;
  int64_t created_s = 0;  // seconds since 1970
  friend bool operator==(const Superblock&, const Superblock&) = default;
};

inline constexpr std::array<uint8_t, 16> kSuperblockMagic = {'c', 'a', 'c', 'h', 'e', 'd', ' ', 'S',
                                                             'S', 'D', ' ', 't', 'i', 'e', 'r', '\n'};

// On the device. `magic`, `version` and `checksum` keep their places in every version of the format.
struct SuperblockOnDevice {
  std::array<uint8_t, 16> magic;
  uint32_t version;
  uint32_t block_bytes;
  std::array<uint8_t, 16> uuid;
  uint64_t capacity_bytes;
  uint64_t data_offset;
  uint32_t segment_bytes;
  uint32_t segment_count;
  uint32_t start_count;
  uint32_t reserved_0;  // 0
  int64_t created_s;
  std::array<uint8_t, 4008> reserved_1;  // 0
  uint64_t checksum;                     // XXH3_64 of the 4088 bytes before it
};
static_assert(
    sizeof(SuperblockOnDevice) == kSuperblockBytes && offsetof(SuperblockOnDevice, version) == 16 &&
    offsetof(SuperblockOnDevice, block_bytes) == 20 && offsetof(SuperblockOnDevice, uuid) == 24 &&
    offsetof(SuperblockOnDevice, capacity_bytes) == 40 && offsetof(SuperblockOnDevice, data_offset) == 48 &&
    offsetof(SuperblockOnDevice, segment_bytes) == 56 && offsetof(SuperblockOnDevice, segment_count) == 60 &&
    offsetof(SuperblockOnDevice, start_count) == 64 && offsetof(SuperblockOnDevice, created_s) == 72 &&
    offsetof(SuperblockOnDevice, reserved_1) == 80 && offsetof(SuperblockOnDevice, checksum) == 4088);

SuperblockOnDevice encode_superblock(const Superblock& superblock);
// Errors as format.h says: ENODATA without magic, EPROTONOSUPPORT for a newer version, EBADMSG for damage.
Result<Superblock> decode_superblock(std::span<const std::byte, kSuperblockBytes> bytes);

enum class DeviceContent : uint8_t {
  kBlank,     // the first and the last MiB are zero
  kForeign,   // something that is not ours; `what` names it where it is known
  kNewer,     // ours, of a newer version of the format
  kUnusable,  // ours, but both copies are damaged, or the device has become smaller or coarser; `what` says
  kOurs,      // `superblock` is valid
};

struct DeviceSurvey {
  DeviceContent content = DeviceContent::kBlank;
  std::string what;  // for people: "an ext4 file system"; for kOurs what is wrong with a damaged copy
  Superblock superblock;
  bool copy_damaged = false;  // kOurs: one of the two copies is not whole (begin_start writes it again)
  size_t older_copy = 0;      // kOurs: the one that is damaged or behind, to be written first
};

// Looks at what `device` holds; writes nothing. Errors are those of reading.
Result<DeviceSurvey> read_superblock(io::Device& device);

// Makes `device` an empty device of the SSD tier, with a new uuid: zeroes its first and last MiB, writes both
// copies, syncs. What is not blank is refused with EEXIST and a message that names it, unless `force`: also
// ours, which would lose its content. Other errors: those of layout_for() and of writing.
Result<Superblock> format_device(io::Device& device, bool force);

// Counts a start: reads the superblock, adds one to start_count, writes both copies, syncs. Only after that
// may segments be written. Errors: ENODATA for a blank device, EEXIST for a foreign one, EPROTONOSUPPORT for
// a newer one, EBADMSG for an unusable one, EOVERFLOW after 2^32 - 1 starts, and those of the device.
Result<Superblock> begin_start(io::Device& device);

}  // namespace cached::ssd_tier
