// Reading metadata through the read path: see cached_metadata.h.
#include "cached/server/cached_metadata.h"

#include <string>

namespace cached::server {

io::Task<Result<volume::PinnedBytes>> CachedMetadata::read_metadata(shm::ObjectId object, uint64_t offset,
                                                                    uint64_t length) {
  const auto bytes = std::make_shared<std::string>(length + shm::kReadBufferSlackBytes, '\0');
  readpath::ReadRequest request;
  request.volume = volume_id_;
  request.source = source_;
  request.handle = volume::RadosVolume::metadata_handle(object.high);
  request.object = object;
  request.offset = offset;
  request.length = static_cast<uint32_t>(length);
  request.buffer = reinterpret_cast<std::byte*>(bytes->data());
  request.buffer_bytes = bytes->size();

  const shm::BlockKey key{object, static_cast<uint32_t>(offset / shm::kBlockBytes), volume_id_, 0};
  Shard& owner = owner_of(shards_, key);
  co_await owner.reactor().hop();
  readpath::ReadResult result = co_await owner.read_path().read(request);
  if (result.outcome.ok() && !result.in_buffer) owner.read_path().move_to_buffer(request, &result);
  const char* const begin = bytes->data() + result.buffer_offset;
  co_await shards_.front()->reactor().hop();
  if (!result.outcome.ok()) {
    co_return Status(result.outcome.error,
                     "metadata of the data set cannot be read; the log names the object");
  }
  co_return volume::PinnedBytes{{reinterpret_cast<const std::byte*>(begin), length}, bytes};
}

}  // namespace cached::server
