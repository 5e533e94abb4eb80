// The map of a file whose bytes lie in several objects: which object, or zeros, each range of the file is.
//
// A map belongs to one version of a file, which InodeInfo::object names for LayoutKind::kMap. It says the
// same for ever; what ends is the version, with the attributes. The daemon answers MAP with a run of pieces,
// FileMapCache keeps them for all channels of a client, so that a hit needs nobody.
//
// An object that a map names can vanish (it was rewritten elsewhere with the same bytes). A read of it is
// answered with ESTALE and kCompletionObjectChanged; the client forgets the map and asks for a new one.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "shm/types.h"

namespace cached::shm {

// Bytes [file_offset, file_offset + length) of the file are bytes [object_offset, ...) of `object`; no
// object: zeros.
struct MapPiece {
  uint64_t file_offset = 0;
  uint64_t length = 0;
  ObjectId object;
  uint64_t object_offset = 0;
  uint64_t end() const { return file_offset + length; }
  friend bool operator==(const MapPiece&, const MapPiece&) = default;
};
static_assert(sizeof(MapPiece) == 40 && std::is_trivially_copyable_v<MapPiece>);

// Pieces that continue each other, in order: what one answer to MAP holds.
using MapRun = std::vector<MapPiece>;
// Whether `run` is a map's run that covers `offset`: not empty, without gaps, no empty piece, no overflow.
bool run_is_sound(const MapRun& run, uint64_t offset);
// The piece of a sound run that covers `offset`; null if none does.
const MapPiece* find_piece_of(const MapRun& run, uint64_t offset);

// Runs that were fetched lately, by version of the file. Bounded: beyond kMaximumPieces the version used
// longest ago goes. Any thread.
class FileMapCache {
 public:
  static constexpr size_t kMaximumPieces = 1U << 20;  // 40 MiB

  // The run that covers `offset` of this version; null if it must be asked for.
  std::shared_ptr<const MapRun> find(const Handle& handle, const ObjectId& version, uint64_t offset);
  // `run` must be sound.
  void put(const Handle& handle, const ObjectId& version, std::shared_ptr<const MapRun> run);
  // Forgets all runs of this version.
  void forget(const Handle& handle, const ObjectId& version);
  size_t pieces() const;

 private:
  struct Key {
    Handle handle;
    ObjectId version;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const {
      return std::hash<Handle>{}(key.handle) ^ (std::hash<ObjectId>{}(key.version) * 3);
    }
  };
  struct File {
    Key key;
    std::vector<std::shared_ptr<const MapRun>> runs;  // by file_offset; they may overlap
    size_t pieces = 0;
  };
  using Files = std::list<File>;
  void erase_locked(std::unordered_map<Key, Files::iterator, KeyHash>::iterator found);

  mutable std::mutex mutex_;  // guards all below
  Files files_;               // most recently used first
  std::unordered_map<Key, Files::iterator, KeyHash> index_;
  size_t pieces_ = 0;
};

}  // namespace cached::shm
