#include "cached/ssd_tier/superblock.h"

#include <sys/random.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <limits>
#include <memory>
#include <optional>

#include "cached/ssd_tier/aligned_buffer.h"
#include "cached/ssd_tier/foreign_signature.h"

namespace cached::ssd_tier {

namespace {

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; });
}

DeviceSurvey foreign(const std::string& what) {
  return {DeviceContent::kForeign, what, {}, false, 0};
}

std::span<const std::byte, kSuperblockBytes> copy_in(std::span<const std::byte> head, size_t copy) {
  return head.subspan(kSuperblockOffsets[copy]).first<kSuperblockBytes>();
}

// Whether `device`, as it is now, can be used as it was formatted.
Status check_geometry(const io::Device& device, const Layout& layout) {
  const io::DeviceGeometry geometry = device.geometry();
  if (geometry.capacity_bytes < layout.capacity_bytes) {
    return {EBADMSG, "a device of the SSD tier that was formatted with " +
                         std::to_string(layout.capacity_bytes) + " bytes and has now only " +
                         std::to_string(geometry.capacity_bytes)};
  }
  if (geometry.block_bytes > layout.block_bytes) {
    return {EBADMSG, "a device of the SSD tier that was formatted with blocks of " +
                         std::to_string(layout.block_bytes) + " bytes and has now blocks of " +
                         std::to_string(geometry.block_bytes)};
  }
  return {};
}

// What the two copies in `head` say; nothing if neither carries our magic.
std::optional<DeviceSurvey> survey_copies(const io::Device& device, std::span<const std::byte> head) {
  DeviceSurvey survey;
  unsigned whole = 0;
  Status problem;
  for (size_t copy = 0; copy < kSuperblockOffsets.size(); ++copy) {
    const Result<Superblock> decoded = decode_superblock(copy_in(head, copy));
    if (decoded.ok()) {
      ++whole;
      if (whole == 1 || decoded->start_count > survey.superblock.start_count) {
        survey.superblock = *decoded;
        survey.older_copy = 1 - copy;
      }
    } else if (problem.ok() || decoded.error_number() != ENODATA) {
      problem = decoded.status();
    }
    if (decoded.error_number() == EPROTONOSUPPORT) {
      return DeviceSurvey{DeviceContent::kNewer, decoded.status().message(), {}, false, 0};
    }
  }
  if (whole == 0 && problem.error_number() == ENODATA) return std::nullopt;
  survey.copy_damaged = whole == 1;
  const Status fits = whole > 0 ? check_geometry(device, survey.superblock.layout) : problem;
  survey.content = fits.ok() ? DeviceContent::kOurs : DeviceContent::kUnusable;
  survey.what = fits.ok() ? problem.message() : fits.message();
  return survey;
}

Status write_copies(io::Device& device, const Superblock& superblock, std::array<size_t, 2> order) {
  const SuperblockOnDevice encoded = encode_superblock(superblock);
  Result<AlignedBuffer> buffer = AlignedBuffer::allocate(kSuperblockBytes);
  if (!buffer.ok()) return buffer.status();
  std::memcpy(buffer->data(), &encoded, sizeof encoded);
  for (const size_t copy : order) {
    CACHED_RETURN_IF_ERROR(device.write_blocking(buffer->data(), kSuperblockBytes, kSuperblockOffsets[copy]));
    CACHED_RETURN_IF_ERROR(device.sync_blocking());
  }
  return {};
}

// The last MiB begins here: rounded down to a page, so that every device takes the transfer.
uint64_t tail_offset(const io::Device& device) {
  return align_down(device.geometry().capacity_bytes - kSuperblockAreaBytes, kMaximumBlockBytes);
}

Status zero_ends(io::Device& device) {
  const uint64_t tail_bytes = device.geometry().capacity_bytes - tail_offset(device);
  Result<AlignedBuffer> zeros = AlignedBuffer::allocate(std::max(kSuperblockAreaBytes, tail_bytes));
  if (!zeros.ok()) return zeros.status();
  std::memset(zeros->data(), 0, zeros->size());
  CACHED_RETURN_IF_ERROR(device.write_blocking(zeros->data(), kSuperblockAreaBytes, 0));
  CACHED_RETURN_IF_ERROR(device.write_blocking(zeros->data(), tail_bytes, tail_offset(device)));
  return device.sync_blocking();
}

// The error of begin_start() for a device that is not ours.
Status refusal(const io::Device& device, const DeviceSurvey& survey) {
  switch (survey.content) {
    case DeviceContent::kOurs:
      return {};
    case DeviceContent::kBlank:
      return {ENODATA, device.path() + " is blank: make it a cache device with `cachedctl device init " +
                           device.path() + "`"};
    case DeviceContent::kForeign:
      return {EEXIST, device.path() + " holds " + survey.what +
                          "; if that may be lost, overwrite it with `cachedctl device init --force " +
                          device.path() + "`"};
    case DeviceContent::kNewer:
      return {EPROTONOSUPPORT, device.path() + ": " + survey.what +
                                   "; use that version of cached, or `cachedctl device init --force`"};
    case DeviceContent::kUnusable:
      break;
  }
  return {EBADMSG, device.path() + ": " + survey.what +
                       "; make it anew with `cachedctl device init --force " + device.path() + "`"};
}

Result<Uuid> random_uuid() {
  Uuid uuid;
  if (getrandom(uuid.bytes.data(), uuid.bytes.size(), 0) != static_cast<ssize_t>(uuid.bytes.size())) {
    return Status::from_errno("getrandom for a device's uuid");
  }
  uuid.bytes[6] = static_cast<uint8_t>((uuid.bytes[6] & 0x0f) | 0x40);  // RFC 4122: version 4
  uuid.bytes[8] = static_cast<uint8_t>((uuid.bytes[8] & 0x3f) | 0x80);
  return uuid;
}

}  // namespace

SuperblockOnDevice encode_superblock(const Superblock& superblock) {
  SuperblockOnDevice encoded{};
  encoded.magic = kSuperblockMagic;
  encoded.version = kFormatVersion;
  encoded.block_bytes = superblock.layout.block_bytes;
  encoded.uuid = superblock.uuid.bytes;
  encoded.capacity_bytes = superblock.layout.capacity_bytes;
  encoded.data_offset = superblock.layout.data_offset;
  encoded.segment_bytes = superblock.layout.segment_bytes;
  encoded.segment_count = superblock.layout.segment_count;
  encoded.start_count = superblock.start_count;
  encoded.created_s = superblock.created_s;
  encoded.checksum = XXH3_64bits(&encoded, offsetof(SuperblockOnDevice, checksum));
  return encoded;
}

Result<Superblock> decode_superblock(std::span<const std::byte, kSuperblockBytes> bytes) {
  SuperblockOnDevice encoded;
  std::memcpy(&encoded, bytes.data(), sizeof encoded);
  if (encoded.magic != kSuperblockMagic) return Status(ENODATA, "no superblock");
  if (encoded.checksum != XXH3_64bits(&encoded, offsetof(SuperblockOnDevice, checksum))) {
    return Status(EBADMSG, "a superblock of the SSD tier that does not match its checksum");
  }
  if (encoded.version > kFormatVersion) {
    return Status(EPROTONOSUPPORT, "a device of version " + std::to_string(encoded.version) +
                                       " of the SSD tier's format; this program knows " +
                                       std::to_string(kFormatVersion));
  }
  Superblock superblock;
  superblock.uuid.bytes = encoded.uuid;
  superblock.layout = {encoded.capacity_bytes, encoded.data_offset, encoded.block_bytes,
                       encoded.segment_bytes, encoded.segment_count};
  superblock.start_count = encoded.start_count;
  superblock.created_s = encoded.created_s;
  if (encoded.version != kFormatVersion) return Status(EBADMSG, "a superblock of version 0");
  if (Status status = check_layout(superblock.layout); !status.ok()) {
    return status.with_context("a superblock that cannot be");
  }
  return superblock;
}

Result<DeviceSurvey> read_superblock(io::Device& device) {
  if (device.geometry().capacity_bytes < kMinimumDeviceBytes) {
    return layout_for(device.geometry().capacity_bytes, device.geometry().block_bytes)
        .status()
        .with_context(device.path());
  }
  const uint64_t tail_bytes = device.geometry().capacity_bytes - tail_offset(device);
  Result<AlignedBuffer> head = read_aligned(device, kSuperblockAreaBytes, 0);
  if (!head.ok()) return head.status();
  if (std::optional<std::string> name = signature_in_head(head->bytes())) return foreign(*name);
  if (std::optional<DeviceSurvey> survey = survey_copies(device, head->bytes())) return *survey;
  Result<AlignedBuffer> tail = read_aligned(device, tail_bytes, tail_offset(device));
  if (!tail.ok()) return tail.status();
  if (all_zero(head->bytes()) && all_zero(tail->bytes())) return DeviceSurvey{};
  return foreign(signature_in_tail(tail->bytes()).value_or("data of an unknown kind"));
}

Result<Superblock> format_device(io::Device& device, bool force) {
  const io::DeviceGeometry geometry = device.geometry();
  const Result<Layout> layout = layout_for(geometry.capacity_bytes, geometry.block_bytes);
  if (!layout.ok()) return layout.status().with_context(device.path());
  if (!force) {
    const Result<DeviceSurvey> survey = read_superblock(device);
    if (!survey.ok()) return survey.status();
    if (survey->content != DeviceContent::kBlank) {
      const std::string what = survey->content == DeviceContent::kOurs
                                   ? "a cache device, uuid " + to_string(survey->superblock.uuid)
                                   : survey->what;
      return Status(EEXIST,
                    device.path() + " holds " + what + "; if that may be lost, overwrite it with --force");
    }
  }
  const Result<Uuid> uuid = random_uuid();
  if (!uuid.ok()) return uuid.status();
  const Superblock superblock{*uuid, *layout, 0, std::time(nullptr)};
  CACHED_RETURN_IF_ERROR(zero_ends(device));
  CACHED_RETURN_IF_ERROR(write_copies(device, superblock, {0, 1}));
  return superblock;
}

Result<Superblock> begin_start(io::Device& device) {
  Result<DeviceSurvey> survey = read_superblock(device);
  // A read may fail or deliver wrong bytes once, and much is at stake: a device that looks blank is made
  // anew.
  if (!survey.ok() || survey->content != DeviceContent::kOurs) survey = read_superblock(device);
  if (!survey.ok()) return survey.status();
  CACHED_RETURN_IF_ERROR(refusal(device, *survey));
  Superblock superblock = survey->superblock;
  if (superblock.start_count == std::numeric_limits<uint32_t>::max()) {
    return Status(EOVERFLOW, device.path() + " was started 2^32 - 1 times; format it anew");
  }
  ++superblock.start_count;
  // The copy that is damaged, or older, first: the other one stays whole until this one is.
  const size_t first = survey->older_copy;
  CACHED_RETURN_IF_ERROR(write_copies(device, superblock, {first, 1 - first}));
  return superblock;
}

}  // namespace cached::ssd_tier
