#include "cached/ssd_tier/foreign_signature.h"

#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/units.h"

namespace cached::ssd_tier {

namespace {

using std::string_view_literals::operator""sv;

struct Signature {
  uint64_t offset;
  std::string_view bytes;
  const char* name;
};

// The more telling come first: a LUKS or GPT disk may have an MBR signature besides.
constexpr Signature kHeadSignatures[] = {
    {0, "LUKS\xba\xbe"sv, "an encrypted volume (LUKS)"},
    {0, "XFSB"sv, "an XFS file system"},
    {0, "bluestore block device"sv, "a Ceph OSD (BlueStore)"},
    {3, "NTFS    "sv, "an NTFS file system"},
    {64 * kKiB + 0x40, "_BHRfS_M"sv, "a btrfs file system"},
    {1024 + 56, "\x53\xef"sv, "an ext4 file system (or ext2, ext3)"},
    {1024, "\x10\x20\xf5\xf2"sv, "an F2FS file system"},
    {32 * kKiB + 1, "CD001"sv, "an ISO 9660 file system"},
    {512, "LABELONE"sv, "an LVM physical volume"},
    {0, "LABELONE"sv, "an LVM physical volume"},
    {1024, "LABELONE"sv, "an LVM physical volume"},
    {1536, "LABELONE"sv, "an LVM physical volume"},
    {0, "\xfc\x4e\x2b\xa9"sv, "a member of a Linux software RAID (mdraid)"},
    {4096, "\xfc\x4e\x2b\xa9"sv, "a member of a Linux software RAID (mdraid)"},
    {4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"sv, "a bcache device"},
    {4086, "SWAPSPACE2"sv, "swap space"},
    {4086, "SWAP-SPACE"sv, "swap space"},
    {512, "EFI PART"sv, "a partition table (GPT)"},
    {4096, "EFI PART"sv, "a partition table (GPT)"},
    {54, "FAT1"sv, "a FAT file system"},
    {82, "FAT32"sv, "a FAT file system"},
    {510, "\x55\xaa"sv, "a partition table or boot sector (MBR)"},
};

bool has_at(std::span<const std::byte> area, uint64_t offset, std::string_view bytes) {
  return offset + bytes.size() <= area.size() && std::memcmp(&area[offset], bytes.data(), bytes.size()) == 0;
}

// ZFS has four labels of 256 KiB, two at each end, whose second half is an array of uberblocks.
bool has_zfs_label(std::span<const std::byte> area) {
  for (uint64_t label = 0; label + 256 * kKiB <= area.size(); label += 256 * kKiB) {
    for (uint64_t offset = label + 128 * kKiB; offset < label + 256 * kKiB; offset += kKiB) {
      if (has_at(area, offset, "\x0c\xb1\xba\0\0\0\0\0"sv)) return true;
      if (has_at(area, offset, "\0\0\0\0\0\xba\xb1\x0c"sv)) return true;
    }
  }
  return false;
}

}  // namespace

std::optional<std::string> signature_in_head(std::span<const std::byte> head) {
  if (has_zfs_label(head)) return "a member of a ZFS pool";
  for (const Signature& signature : kHeadSignatures) {
    if (has_at(head, signature.offset, signature.bytes)) return signature.name;
  }
  return std::nullopt;
}

std::optional<std::string> signature_in_tail(std::span<const std::byte> tail) {
  for (const uint64_t sector : {uint64_t{512}, uint64_t{4096}}) {
    if (has_at(tail, tail.size() - sector, "EFI PART"sv)) return "a partition table (GPT)";
  }
  // mdraid 1.0: 8 to 12 KiB before the end; 0.90: in the last whole 64 KiB but one of the device.
  constexpr std::string_view kRaidMagic = "\xfc\x4e\x2b\xa9";
  for (uint64_t before_end = 8 * kKiB; before_end <= 128 * kKiB; before_end += 512) {
    if (before_end <= tail.size() && has_at(tail, tail.size() - before_end, kRaidMagic)) {
      return "a member of a Linux software RAID (mdraid)";
    }
  }
  if (has_zfs_label(tail.last(align_down(tail.size(), 256 * kKiB)))) return "a member of a ZFS pool";
  return std::nullopt;
}

}  // namespace cached::ssd_tier
