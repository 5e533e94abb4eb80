// Metadata of data sets from the object store: see rados_metadata.h.
#include "cached/volume/rados_metadata.h"

namespace cached::volume {

StoreMetadataSource::StoreMetadataSource(std::shared_ptr<origin::ObjectStore> store, std::string volume,
                                         io::Reactor* reactor, const Options& options)
    : store_(std::move(store)),
      volume_(std::move(volume)),
      reactor_(reactor),
      options_(options),
      kept_(options.units_kept) {}

io::Task<Result<PinnedBytes>> StoreMetadataSource::read_metadata(shm::ObjectId object, uint64_t offset,
                                                                 uint64_t length) {
  const Key key{object, offset / options_.unit_bytes};
  const uint64_t begin = offset % options_.unit_bytes;
  Unit unit;
  if (const Unit* const kept = kept_.get(key)) {
    unit = *kept;
  } else {
    Result<Unit> fetched = co_await fetch(key);
    if (!fetched.ok()) co_return fetched.status();
    unit = std::move(fetched).value();
  }
  if (begin > unit->size() || length > unit->size() - begin) {
    co_return Status(EIO,
                     "the metadata object " + piece_name(volume_, object, offset / kPieceBytes).name +
                         " is shorter than its snapshot says; cachedctl volume verify lists what is lost");
  }
  const auto* const data = reinterpret_cast<const std::byte*>(unit->data());
  co_return PinnedBytes{{data + begin, length}, unit};
}

io::Task<Result<StoreMetadataSource::Unit>> StoreMetadataSource::fetch(Key key) {
  if (const auto found = in_flight_.find(key); found != in_flight_.end()) {
    const std::shared_ptr<Fetch> fetch = found->second;
    co_await fetch->done;
    co_return fetch->result;
  }
  const auto fetch = std::make_shared<Fetch>();
  in_flight_.emplace(key, fetch);
  fetch->result = co_await read_unit(key);
  if (fetch->result.ok()) kept_.put(key, *fetch->result);
  in_flight_.erase(key);
  fetch->done.set();
  co_return fetch->result;
}

io::Task<Result<StoreMetadataSource::Unit>> StoreMetadataSource::read_unit(Key key) {
  const uint64_t offset = key.unit * options_.unit_bytes;
  auto bytes = std::make_shared<std::string>(options_.unit_bytes, '\0');
  std::vector<iovec> iovecs{{bytes->data(), bytes->size()}};
  origin::Call<uint64_t> call = store_->read(piece_name(volume_, key.object, offset / kPieceBytes),
                                             offset % kPieceBytes, std::move(iovecs));
  Result<uint64_t> got = Status();
  if (reactor_ == nullptr) {
    got = std::move(call).wait();
  } else {
    got = co_await std::move(call).on(*reactor_);
  }
  if (!got.ok()) co_return got.status().with_context("metadata of volume " + volume_);
  bytes->resize(*got);
  co_return Unit(std::move(bytes));
}

}  // namespace cached::volume
