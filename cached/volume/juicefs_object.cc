// Reading slices: see juicefs_object.h.
#include "cached/volume/juicefs_object.h"

#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "base/units.h"
#include "cached/origin/iovecs.h"

namespace cached::volume {
namespace {

using juicefs::Compression;
using origin::Outcome;
using origin::part_of;

constexpr uint64_t kPlainBytes = 64 * kMiB;
constexpr unsigned kDecompressors = 4;

// The most bytes that a block of `length` can take when it is compressed.
uint64_t compressed_bound(Compression compression, uint64_t length) {
  if (compression == Compression::kLz4)
    return static_cast<uint64_t>(LZ4_compressBound(static_cast<int>(length)));
  return ZSTD_compressBound(length);
}

}  // namespace

PlainBlocks::Block PlainBlocks::find(const Key& key) {
  const std::lock_guard lock(mutex_);
  const Block* const block = blocks_.get(key);
  return block == nullptr ? nullptr : *block;
}

void PlainBlocks::put(const Key& key, Block block) {
  const std::lock_guard lock(mutex_);
  blocks_.put(key, std::move(block));
}

std::shared_ptr<PlainBlocks::Decompressing> PlainBlocks::join(const Key& key, io::Reactor& reactor,
                                                              bool* is_new) {
  const std::lock_guard lock(mutex_);
  auto& place = running_[{key.first, key.second, &reactor}];
  *is_new = place == nullptr;
  if (*is_new) place = std::make_shared<Decompressing>();
  return place;
}

void PlainBlocks::end(const Key& key, io::Reactor& reactor) {
  const std::lock_guard lock(mutex_);
  running_.erase({key.first, key.second, &reactor});
}

JuicefsObject::Context::Context(juicefs::Setting set, std::shared_ptr<origin::BlockStore> blocks,
                                std::shared_ptr<origin::FailureLog> log, MissingBlocks& decides,
                                origin::OriginCounters& counts)
    : setting(std::move(set)),
      store(std::move(blocks)),
      damage(std::move(log)),
      missing(decides),
      counters(counts),
      plain(std::max<uint64_t>(4, kPlainBytes / setting.block_bytes)),
      decompressors("decompress", kDecompressors) {}

io::Task<Outcome> JuicefsObject::read(io::Reactor& reactor, uint64_t offset, uint64_t length,
                                      std::vector<iovec> iovecs) {
  if (offset > size() || length > size() - offset) co_return Outcome{.error = EINVAL};
  ++context_->counters.reads;
  ++context_->counters.in_flight;
  const uint64_t block_bytes = context_->setting.block_bytes;
  const uint64_t end = offset + length;
  // All blocks at once: one after another each would cost its own round trip.
  Join join;
  join.running = 1;
  for (uint64_t at = offset; at < end;) {
    const uint64_t part_end = std::min(end, align_down(at, block_bytes) + block_bytes);
    ++join.running;
    io::spawn(read_part(reactor, at, part_end, part_of(iovecs, at - offset, part_end - at), &join));
    at = part_end;
  }
  if (--join.running > 0) co_await join.done;
  --context_->counters.in_flight;
  if (join.outcome.ok()) {
    context_->counters.read_bytes += length;
  } else {
    ++context_->counters.errors;
  }
  co_return join.outcome;
}

io::Task<void> JuicefsObject::read_part(io::Reactor& reactor, uint64_t begin, uint64_t end,
                                        std::vector<iovec> iovecs, Join* join) {
  const bool plain = context_->setting.compression == Compression::kNone;
  Outcome outcome;
  if (plain) {
    outcome = co_await read_block(reactor, begin, end, std::move(iovecs));
  } else {
    outcome = co_await copy_plain(reactor, begin, end, std::move(iovecs));
  }
  if (!outcome.ok() && join->outcome.ok()) join->outcome = outcome;
  if (--join->running == 0) join->done.set();
}

io::Task<Outcome> JuicefsObject::failed(io::Reactor& reactor, const std::string& name, Status status) {
  if (status.error_number() == ENOENT)
    co_return co_await context_->missing.missing_block(reactor, handle_, slice_);
  context_->damage->report("block " + name, status.message());
  co_return Outcome{.error = EIO};
}

io::Task<Outcome> JuicefsObject::read_block(io::Reactor& reactor, uint64_t begin, uint64_t end,
                                            std::vector<iovec> iovecs) {
  const uint64_t index = begin / context_->setting.block_bytes;
  const uint64_t in_block = begin % context_->setting.block_bytes;
  const std::string name = juicefs::block_name(context_->setting, slice_, index);
  const Result<uint64_t> got = co_await context_->store->read(reactor, name, in_block, std::move(iovecs));
  if (got.ok() && *got == end - begin) co_return Outcome{};
  Status status = got.ok() ? Status(EIO, "it is shorter than its slice says") : got.status();
  co_return co_await failed(reactor, name, std::move(status));
}

io::Task<Outcome> JuicefsObject::copy_plain(io::Reactor& reactor, uint64_t begin, uint64_t end,
                                            std::vector<iovec> iovecs) {
  const uint64_t index = begin / context_->setting.block_bytes;
  const PlainBlocks::Key key{slice_.id, index};
  PlainBlocks::Block block = context_->plain.find(key);
  if (block == nullptr) {
    bool is_new = false;
    const std::shared_ptr<PlainBlocks::Decompressing> fetch = context_->plain.join(key, reactor, &is_new);
    if (is_new) {
      co_await fetch_plain(reactor, index, fetch.get());
      if (fetch->block != nullptr) context_->plain.put(key, fetch->block);
      context_->plain.end(key, reactor);
      fetch->done.set();
    } else {
      co_await fetch->done;
    }
    if (fetch->block == nullptr) co_return fetch->outcome;
    block = fetch->block;
  }
  const char* from = block->data() + begin % context_->setting.block_bytes;
  uint64_t left = end - begin;
  for (const iovec& piece : iovecs) {
    const uint64_t taken = std::min<uint64_t>(piece.iov_len, left);
    std::memcpy(piece.iov_base, from, taken);
    from += taken;
    left -= taken;
  }
  co_return Outcome{};
}

io::Task<void> JuicefsObject::fetch_plain(io::Reactor& reactor, uint64_t index,
                                          PlainBlocks::Decompressing* result) {
  const std::string name = juicefs::block_name(context_->setting, slice_, index);
  const uint64_t length = juicefs::block_length(context_->setting, slice_, index);
  const Compression compression = context_->setting.compression;
  std::string stored(compressed_bound(compression, length), '\0');
  std::vector<iovec> iovecs{{stored.data(), stored.size()}};
  const Result<uint64_t> got = co_await context_->store->read(reactor, name, 0, std::move(iovecs));
  if (!got.ok()) {
    Status status = got.status();
    result->outcome = co_await failed(reactor, name, std::move(status));
    co_return;
  }
  auto plain = std::make_shared<std::string>(length, '\0');
  const auto work = [&] {
    return juicefs::decompress(compression, std::string_view(stored).substr(0, *got), plain->data(), length);
  };
  Status status = co_await context_->decompressors.run(reactor, work);
  if (status.ok()) {
    result->block = std::move(plain);
  } else {
    result->outcome = co_await failed(reactor, name, std::move(status));
  }
}

}  // namespace cached::volume
