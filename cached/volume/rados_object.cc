// Reading and proving objects of data sets: see rados_object.h.
#include "cached/volume/rados_object.h"

#include <spdlog/fmt/fmt.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "base/units.h"
#include "cached/origin/iovecs.h"
#include "cached/origin/rados_reader.h"

namespace cached::volume {
namespace {

using origin::Outcome;
using origin::part_of;

uint64_t checksum_of_part(const std::vector<iovec>& part) {
  if (part.size() == 1) return XXH3_64bits(part[0].iov_base, part[0].iov_len);
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                              XXH3_freeState);
  XXH3_64bits_reset(state.get());
  for (const iovec& piece : part) XXH3_64bits_update(state.get(), piece.iov_base, piece.iov_len);
  return XXH3_64bits_digest(state.get());
}

}  // namespace

RadosObject::Group RadosObject::ChecksumCache::find(const shm::ObjectId& object, uint64_t group) {
  const std::lock_guard lock(mutex_);
  const Group* const kept = groups_.get({object, group});
  return kept == nullptr ? nullptr : *kept;
}

void RadosObject::ChecksumCache::put(const shm::ObjectId& object, uint64_t group, Group checksums) {
  const std::lock_guard lock(mutex_);
  groups_.put({object, group}, std::move(checksums));
}

RadosObject::RadosObject(const Context& context, ObjectLayout layout, Checksums checksums)
    : context_(context), layout_(std::move(layout)), checksums_(std::move(checksums)) {}

std::shared_ptr<RadosObject> RadosObject::table(const Context& context, Table table,
                                                const TablePlace& place) {
  ObjectRecord record;
  record.id = place.object;
  record.size = place.pages * volume::kPageBytes;
  record.flags = kObjectDense;
  auto made = std::make_shared<RadosObject>(context, ObjectLayout::plan(record, {}), nullptr);
  made->table_ = table;
  return made;
}

io::Task<Outcome> RadosObject::read(io::Reactor& reactor, uint64_t offset, uint64_t length,
                                    std::vector<iovec> iovecs) {
  if (offset > size() || length > size() - offset) co_return Outcome{.error = EINVAL};
  if (length == 0) co_return Outcome{};
  ++context_.counters->reads;
  ++context_.counters->in_flight;
  const uint64_t begin = align_down(offset, kChecksumBlockBytes);
  const uint64_t end = std::min(align_up(offset + length, kChecksumBlockBytes), size());
  Outcome outcome;
  if (checksums_ == nullptr || (begin == offset && end == offset + length)) {
    outcome = co_await read_whole(reactor, offset, offset + length, iovecs);
  } else {
    std::vector<char> whole(end - begin);
    std::vector<iovec> all{{whole.data(), whole.size()}};
    outcome = co_await read_whole(reactor, begin, end, all);
    uint64_t done = offset - begin;
    for (const iovec& piece : part_of(iovecs, 0, length)) {
      std::memcpy(piece.iov_base, whole.data() + done, piece.iov_len);
      done += piece.iov_len;
    }
  }
  --context_.counters->in_flight;
  if (outcome.ok()) {
    context_.counters->read_bytes += length;
  } else {
    ++context_.counters->errors;
  }
  co_return outcome;
}

io::Task<Outcome> RadosObject::read_whole(io::Reactor& reactor, uint64_t begin, uint64_t end,
                                          const std::vector<iovec>& iovecs) {
  for (uint64_t at = begin; at < end;) {
    const uint64_t piece_end = std::min(end, align_down(at, kPieceBytes) + kPieceBytes);
    const Outcome outcome =
        co_await read_piece(reactor, at, piece_end, part_of(iovecs, at - begin, piece_end - at));
    if (!outcome.ok()) co_return outcome;
    at = piece_end;
  }
  if (checksums_ == nullptr) co_return prove_pages(begin, end, iovecs);
  co_return co_await prove(reactor, begin, end, iovecs);
}

io::Task<Outcome> RadosObject::read_piece(io::Reactor& reactor, uint64_t begin, uint64_t end,
                                          std::vector<iovec> iovecs) {
  const uint64_t piece = begin / kPieceBytes;
  const uint64_t stored = layout_.stored_bytes(piece);
  const uint64_t in_piece = begin % kPieceBytes;
  const uint64_t length = end - begin;
  const uint64_t from_store = in_piece >= stored ? 0 : std::min(stored - in_piece, length);
  for (const iovec& zeros : part_of(iovecs, from_store, length - from_store)) {
    std::memset(zeros.iov_base, 0, zeros.iov_len);
  }
  if (from_store == 0) co_return Outcome{};
  origin::RadosReader reader(context_.store, context_.damage,
                             piece_name(context_.volume, layout_.record().id, piece), 0, stored);
  co_return co_await reader.read(reactor, in_piece, from_store, part_of(iovecs, 0, from_store));
}

io::Task<Outcome> RadosObject::prove(io::Reactor& reactor, uint64_t begin, uint64_t end,
                                     const std::vector<iovec>& iovecs) {
  Group known;
  uint64_t known_number = UINT64_MAX;
  for (uint64_t at = begin; at < end; at += kChecksumBlockBytes) {
    const std::optional<uint64_t> place = layout_.checksum_of_block(at / kChecksumBlockBytes);
    if (!place) continue;  // a hole: zeros of our own
    if (*place / kGroup != known_number) {
      known_number = *place / kGroup;
      Result<Group> loaded = co_await group(reactor, known_number);
      if (!loaded.ok()) {
        context_.damage->report("checksums of " + piece_name(context_.volume, layout_.record().id, 0).name,
                                loaded.status().message());
        co_return Outcome{.error = EIO};
      }
      known = std::move(loaded).value();
    }
    const uint64_t length = std::min(kChecksumBlockBytes, end - at);
    if (checksum_of_part(part_of(iovecs, at - begin, length)) == known->at(*place % kGroup)) continue;
    context_.damage->report(
        piece_name(context_.volume, layout_.record().id, at / kPieceBytes).name,
        fmt::format("the bytes from {} on are not those that were imported", at % kPieceBytes));
    co_return Outcome{.error = EIO};
  }
  co_return Outcome{};
}

Outcome RadosObject::prove_pages(uint64_t begin, uint64_t end, const std::vector<iovec>& iovecs) const {
  const shm::ObjectId& id = layout_.record().id;
  std::string gathered;
  for (uint64_t at = align_up(begin, volume::kPageBytes); at + volume::kPageBytes <= end;
       at += volume::kPageBytes) {
    gathered.clear();
    for (const iovec& piece : part_of(iovecs, at - begin, volume::kPageBytes)) {
      gathered.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
    }
    const auto bytes = std::as_bytes(std::span(gathered));
    const Result<PageView> view = check_page(bytes, table_, id.high, at / volume::kPageBytes);
    if (view.ok()) continue;
    context_.damage->report(piece_name(context_.volume, id, at / kPieceBytes).name, view.status().message());
    return Outcome{.error = EIO};
  }
  return Outcome{};
}

io::Task<Result<RadosObject::Group>> RadosObject::group(io::Reactor& reactor, uint64_t number) {
  const shm::ObjectId& id = layout_.record().id;
  if (Group kept = context_.checksums->find(id, number)) co_return kept;
  const uint64_t first = number * kGroup;
  const uint64_t count = std::min(kGroup, layout_.checksums() - first);
  Result<std::vector<uint64_t>> loaded = co_await checksums_(reactor, first, count);
  if (!loaded.ok()) co_return loaded.status();
  if (loaded->size() != count) co_return Status(EIO, "there are too few");
  Group group = std::make_shared<const std::vector<uint64_t>>(std::move(loaded).value());
  context_.checksums->put(id, number, group);
  co_return group;
}

}  // namespace cached::volume
