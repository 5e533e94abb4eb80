// CachedMetadata: the metadata of a data set through the node's own cache, as any other blocks: from memory,
// from SSD, from the origin, one fetch for all. So lookups and listings are local, and warm after a restart.
//
// Belongs to the volume's home shard. A block is read on the shard that owns it and copied out of its slot:
// pages are small, and a copy needs no pin while it is parsed.
#pragma once

#include <memory>
#include <vector>

#include "cached/server/shard.h"
#include "cached/volume/dataset_reader.h"
#include "cached/volume/rados_volume.h"

namespace cached::server {

class CachedMetadata : public volume::MetadataSource {
 public:
  // `shards` are all of them, in order; the first one is home. They outlive this.
  CachedMetadata(std::vector<Shard*> shards, uint16_t volume_id)
      : shards_(std::move(shards)), volume_id_(volume_id) {}
  // The volume whose metadata it is, which opens the objects; before the first read.
  void set_source(origin::Source* source) { source_ = source; }

  io::Task<Result<volume::PinnedBytes>> read_metadata(shm::ObjectId object, uint64_t offset,
                                                      uint64_t length) override;

 private:
  const std::vector<Shard*> shards_;
  const uint16_t volume_id_;
  origin::Source* source_ = nullptr;
};

}  // namespace cached::server
