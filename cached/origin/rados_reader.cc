// Reading a part of a store's object: see rados_reader.h.
#include "cached/origin/rados_reader.h"

#include <utility>

#include "cached/origin/iovecs.h"

namespace cached::origin {
RadosReader::RadosReader(std::shared_ptr<ObjectStore> store, std::shared_ptr<FailureLog> damage,
                         ObjectName object, uint64_t base, uint64_t size)
    : store_(std::move(store)),
      damage_(std::move(damage)),
      object_(std::move(object)),
      base_(base),
      size_(size) {}

io::Task<Outcome> RadosReader::read(io::Reactor& reactor, uint64_t offset, uint64_t length,
                                    std::vector<iovec> iovecs) {
  if (offset > size_ || length > size_ - offset || length > kMaximumReadBytes)
    co_return Outcome{.error = EINVAL};
  limit_iovecs(&iovecs, length);
  const Result<uint64_t> got = co_await store_->read(object_, base_ + offset, std::move(iovecs)).on(reactor);
  if (got.ok() && *got == length) co_return Outcome{};
  if (got.ok()) {
    // Without figures, which differ from read to read: one damaged object is one line.
    damage_->report(object_.name, "it ends before a file does whose bytes it holds");
  } else if (got.error_number() == ENOENT) {
    damage_->report(object_.name, "it is missing");
  }
  // ENOENT and the like would say something about the file, which is there.
  co_return Outcome{.error = EIO};
}

}  // namespace cached::origin
