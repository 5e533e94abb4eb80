// Names, attributes and listings: the name table first, the daemon second, the last known answer while it is
// away.
#include <dirent.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "base/clock.h"
#include "shm/channel_impl.h"
#include "shm/hash.h"

namespace cached::shm {
namespace {

constexpr size_t kNameMax = 255;
constexpr uint64_t kOutputBytes =
    128 * 1024;  // an xattr has up to 64 KiB; a batch of a listing need not be longer
constexpr uint64_t kAnyAge = 0;

// Records validated before this are too old. A record from after `now_ns` was read is as fresh as can be.
uint64_t oldest_accepted(uint64_t now_ns, const Freshness& freshness) {
  return now_ns > freshness.maximum_age_ns ? now_ns - freshness.maximum_age_ns : kAnyAge;
}

Status malformed(const char* what) {
  return Status(
      EIO, std::string("cached answered ") + what + " with what cannot be read; this is a defect of cached");
}

// One entry of a listing, taken apart. `rest` is moved behind it.
bool next_record(std::string_view* rest, DirectoryRecord* record, std::string_view* name) {
  if (rest->size() < sizeof *record) return false;
  std::memcpy(static_cast<void*>(record), rest->data(), sizeof *record);
  const uint64_t needed = sizeof *record + record->name_length;
  if (record->name_length == 0 || record->record_bytes < needed || record->record_bytes > rest->size() ||
      record->record_bytes % 8 != 0) {
    return false;
  }
  *name = rest->substr(sizeof *record, record->name_length);
  rest->remove_prefix(record->record_bytes);
  return true;
}

}  // namespace

bool Channel::Impl::known_name(const Handle& parent, std::string_view name, uint64_t oldest_ns,
                               LookupResult* result) const {
  const NameHash hash =
      hash_name(attachment_->name_hash_key(), static_cast<uint32_t>(attachment_->volume()), parent, name);
  const auto& table = attachment_->names();
  const auto record = table.reader.find(
      hash.low, partition_of_hash(hash.low, table.partitions), [&](const NameRecord& candidate) {
        return candidate.name_hash_high == hash.high && candidate.name_hash_low == hash.low &&
               candidate.volume == attachment_->volume();
      });
  if (!record || record->validated_at_ns < oldest_ns) return false;
  result->name_validated_at_ns = record->validated_at_ns;
  result->exists = (record->flags & kNameAbsent) == 0;
  return !result->exists || known_inode(record->child, oldest_ns, &result->info);
}

bool Channel::Impl::known_inode(const Handle& handle, uint64_t oldest_ns, InodeInfo* info) const {
  const auto volume = static_cast<uint32_t>(attachment_->volume());
  const uint64_t hash = hash_inode(handle, volume);
  const auto& table = attachment_->inodes();
  const auto record =
      table.reader.find(hash, partition_of_hash(hash, table.partitions), [&](const InodeRecord& candidate) {
        return candidate.info.handle == handle && candidate.volume == volume;
      });
  if (!record) return false;
  *info = record->info;
  return (info->flags & kInodeImmutable) != 0 || info->validated_at_ns >= oldest_ns;
}

uint64_t Channel::Impl::name_validation(const Handle& parent, std::string_view name, const Handle* child,
                                        uint64_t fallback_ns) const {
  LookupResult known;
  if (!known_name(parent, name, kAnyAge, &known)) return fallback_ns;
  const bool same = child == nullptr ? !known.exists : known.exists && known.info.handle == *child;
  return same ? known.name_validated_at_ns : fallback_ns;
}

uint64_t Channel::Impl::output_room() const {
  return std::min(client_->options().buffer_bytes, kOutputBytes);
}

Result<std::string_view> Channel::Impl::output_of(const Request& request) const {
  if (request.completion.result > request.submission.buffer_length) return malformed("a request");
  return std::string_view(
      reinterpret_cast<const char*>(queue_view_.buffer()) + request.submission.buffer_offset,
      request.completion.result);
}

Result<InodeInfo> Channel::Impl::inode_of(const Request& request) const {
  Result<std::string_view> output = output_of(request);
  if (!output.ok()) return output.status();
  InodeInfo info;
  if (output->size() != sizeof info) return malformed("with attributes");
  std::memcpy(static_cast<void*>(&info), output->data(), sizeof info);
  return info;
}

Result<LookupResult> Channel::lookup(const Handle& parent, std::string_view name,
                                     const Freshness& freshness) {
  Turn turn(impl_.get());
  if (name.empty()) return Status(EINVAL, "a lookup of an empty name");
  if (name.size() > kNameMax) return Status(ENAMETOOLONG, "a name of more than 255 bytes");
  impl_->count(Counter::kLookups);
  const uint64_t now_ns = system_clock().monotonic_ns();
  LookupResult result;
  if (impl_->known_name(parent, name, oldest_accepted(now_ns, freshness), &result)) {
    impl_->count(Counter::kLookupHits);
    return result;
  }
  const uint64_t deadline_ns = impl_->deadline_ns();
  Request request = impl_->make_request(Opcode::kLookup, parent, deadline_ns);
  request.input = name;
  request.submission.input_length = static_cast<uint32_t>(name.size());
  request.submission.buffer_length = static_cast<uint32_t>(impl_->output_room());
  Result<bool> last_known =
      impl_->ask(&request, deadline_ns, [&] { return impl_->known_name(parent, name, kAnyAge, &result); });
  if (!last_known.ok()) return last_known.status();
  if (*last_known) return result;
  if (request.completion.status == -ENOENT) {
    result.exists = false;
    result.name_validated_at_ns = impl_->name_validation(parent, name, nullptr, now_ns);
    return result;
  }
  CACHED_RETURN_IF_ERROR(impl_->answer_status(request.completion, "a lookup"));
  Result<InodeInfo> info = impl_->inode_of(request);
  if (!info.ok()) return info.status();
  result.exists = true;
  result.info = *info;
  result.name_validated_at_ns = impl_->name_validation(parent, name, &info->handle, info->validated_at_ns);
  return result;
}

Result<InodeInfo> Channel::attributes(const Handle& handle, const Freshness& freshness) {
  Turn turn(impl_.get());
  impl_->count(Counter::kAttributeReads);
  InodeInfo info;
  if (impl_->known_inode(handle, oldest_accepted(system_clock().monotonic_ns(), freshness), &info)) {
    impl_->count(Counter::kAttributeHits);
    return info;
  }
  const uint64_t deadline_ns = impl_->deadline_ns();
  Request request = impl_->make_request(Opcode::kGetAttributes, handle, deadline_ns);
  request.submission.buffer_length = static_cast<uint32_t>(impl_->output_room());
  Result<bool> last_known =
      impl_->ask(&request, deadline_ns, [&] { return impl_->known_inode(handle, kAnyAge, &info); });
  if (!last_known.ok()) return last_known.status();
  if (*last_known) return info;
  CACHED_RETURN_IF_ERROR(impl_->answer_status(request.completion, "a request for attributes"));
  return impl_->inode_of(request);
}

bool Channel::cached_attributes(const Handle& handle, InodeInfo* info) {
  Turn turn(impl_.get());
  return impl_->known_inode(handle, kAnyAge, info);
}

Result<InodeInfo> Channel::resolve(const Handle& expected, std::string_view path) {
  Turn turn(impl_.get());
  if (path.size() > impl_->output_room())
    return Status(ENAMETOOLONG, "a path longer than the channel's buffer");
  const uint64_t deadline_ns = impl_->deadline_ns();
  Request request = impl_->make_request(Opcode::kResolve, expected, deadline_ns);
  request.input = path;
  request.submission.input_length = static_cast<uint32_t>(path.size());
  request.submission.buffer_length = static_cast<uint32_t>(impl_->output_room());
  CACHED_RETURN_IF_ERROR(impl_->ask(&request, deadline_ns));
  CACHED_RETURN_IF_ERROR(impl_->answer_status(request.completion, "to resolve a path"));
  return impl_->inode_of(request);
}

Result<std::string> Channel::Impl::ask_for_bytes(Opcode opcode, const Handle& handle, std::string_view input,
                                                 const char* what) {
  const uint64_t deadline = deadline_ns();
  Request request = make_request(opcode, handle, deadline);
  request.input = input;
  request.submission.input_length = static_cast<uint32_t>(input.size());
  request.submission.buffer_length = static_cast<uint32_t>(output_room());
  CACHED_RETURN_IF_ERROR(ask(&request, deadline));
  CACHED_RETURN_IF_ERROR(answer_status(request.completion, what));
  Result<std::string_view> output = output_of(request);
  if (!output.ok()) return output.status();
  return std::string(*output);
}

Result<std::string> Channel::read_link(const Handle& handle) {
  Turn turn(impl_.get());
  return impl_->ask_for_bytes(Opcode::kReadLink, handle, {}, "to read a symbolic link");
}

Result<std::string> Channel::get_xattr(const Handle& handle, std::string_view name) {
  Turn turn(impl_.get());
  if (name.empty() || name.size() > kNameMax)
    return Status(ERANGE, "an attribute name of no or more than 255 bytes");
  return impl_->ask_for_bytes(Opcode::kGetXattr, handle, name, "to read an extended attribute");
}

Result<std::string> Channel::list_xattrs(const Handle& handle) {
  Turn turn(impl_.get());
  return impl_->ask_for_bytes(Opcode::kListXattr, handle, {}, "to list extended attributes");
}

Result<VolumeStatistics> Channel::statistics() {
  Turn turn(impl_.get());
  Result<std::string> bytes =
      impl_->ask_for_bytes(Opcode::kStatVolume, Handle{}, {}, "for the volume's size");
  if (!bytes.ok()) return bytes.status();
  VolumeStatistics statistics;
  if (bytes->size() != sizeof statistics) return malformed("for the volume's size");
  std::memcpy(static_cast<void*>(&statistics), bytes->data(), sizeof statistics);
  return statistics;
}

Status Channel::read_directory(const Handle& handle, uint64_t cookie, bool with_attributes,
                               uint32_t maximum_entries,
                               const std::function<bool(const DirectoryEntry&)>& visit,
                               bool* end_of_directory) {
  Turn turn(impl_.get());
  *end_of_directory = false;
  const uint64_t deadline_ns = impl_->deadline_ns();
  Request request = impl_->make_request(Opcode::kReadDirectory, handle, deadline_ns);
  request.submission.offset = cookie;
  request.submission.length = maximum_entries;
  request.submission.flags = with_attributes ? kSubmissionWithAttributes : 0;
  request.submission.buffer_length = static_cast<uint32_t>(impl_->output_room());
  CACHED_RETURN_IF_ERROR(impl_->ask(&request, deadline_ns));
  CACHED_RETURN_IF_ERROR(impl_->answer_status(request.completion, "to list a directory"));
  Result<std::string_view> output = impl_->output_of(request);
  if (!output.ok()) return output.status();
  for (std::string_view rest = *output; !rest.empty();) {
    DirectoryRecord record;
    DirectoryEntry entry;
    if (!next_record(&rest, &record, &entry.name)) return malformed("to list a directory");
    entry.ino = record.ino;
    entry.next_cookie = record.next_cookie;
    entry.type = record.type;
    entry.info = record.has_info != 0 ? &record.info : nullptr;
    if (!visit(entry)) return Status();
  }
  *end_of_directory = (request.completion.flags & kCompletionEndOfDirectory) != 0;
  return Status();
}

}  // namespace cached::shm
