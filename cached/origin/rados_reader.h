// RadosReader: reads an object that is a part of an object in a store.
//
// Many small files share one store object, so an object that the read path knows begins somewhere in it. A
// part that is missing, or ends early, is damage: EIO and a line in the log, never zeros. Whether the bytes
// are the right ones is for the format above to check, which has the checksums.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cached/origin/failure_log.h"
#include "cached/origin/object_store.h"
#include "cached/origin/source.h"

namespace cached::origin {

class RadosReader : public ObjectReader {
 public:
  // The bytes [base, base + size) of `object`. `damage` gets what is missing or short; the store logs by
  // itself what the cluster does not answer.
  RadosReader(std::shared_ptr<ObjectStore> store, std::shared_ptr<FailureLog> damage, ObjectName object,
              uint64_t base, uint64_t size);
  uint64_t size() const override { return size_; }
  // As ObjectReader says, in one round trip; `length` is at most kMaximumReadBytes. Bytes after `length` are
  // not written to, and no alignment is needed.
  io::Task<Outcome> read(io::Reactor& reactor, uint64_t offset, uint64_t length,
                         std::vector<iovec> iovecs) override;

 private:
  const std::shared_ptr<ObjectStore> store_;
  const std::shared_ptr<FailureLog> damage_;
  const ObjectName object_;
  const uint64_t base_;
  const uint64_t size_;
};

}  // namespace cached::origin
