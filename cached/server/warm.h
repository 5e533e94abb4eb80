// Warming and pinning: brings everything below a place of a volume into the cache, as a job.
//
// A walker lists files ahead, so that the total and the remaining time are soon known; workers take pieces of
// up to 4 MiB of them in order, so that one large file is read with as much in flight as many small ones, and
// hand each to the shard that owns it (ReadPath::fill). What is cached already costs a look-up, so a job that
// was interrupted goes on where it stopped when it is started again. The coroutines live on shard 0.
//
// A pin is a warm job that keeps what it brought in in memory, for all that it covers at that moment; what
// changes at the origin afterwards is other content and not pinned. A pin is whole or not at all.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cached/dataset/tree_walk.h"
#include "cached/server/jobs.h"
#include "cached/server/shard.h"

namespace cached::server {

struct WarmOptions {
  uint64_t rate_bytes_s = 0;  // 0: as fast as it goes
  unsigned parallel = 16;     // pieces in flight
  bool verify = false;        // compare what is cached with the origin
};

// What pins hold, and the limit for all of them together. Any thread but where it says so.
class PinTable {
 public:
  struct Slots {
    Shard* owner = nullptr;
    std::vector<memory_tier::SlotId> slots;
  };
  struct Pin {
    std::string place;  // "data:/speech"
    uid_t uid = 0;
    uint64_t bytes = 0;
    uint64_t files = 0;
    std::vector<Slots> slots;
  };
  explicit PinTable(uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  // Room for `bytes` more; false beyond the limit. Given back by release().
  bool reserve(uint64_t bytes);
  void release(uint64_t bytes);
  uint64_t limit_bytes() const;
  uint64_t pinned_bytes() const;
  void set_limit(uint64_t limit_bytes);

  // A pin that is complete; its bytes are reserved. EEXIST, and nothing is taken, if the place is pinned.
  Status add(Pin pin);
  bool contains(const std::string& place) const;
  // Takes it out; the caller gives its slots back. ENOENT.
  Result<Pin> take(const std::string& place);
  nlohmann::json to_json() const;

 private:
  mutable std::mutex mutex_;
  uint64_t limit_bytes_;
  uint64_t pinned_bytes_ = 0;
  std::map<std::string, Pin> pins_;
};

// Gives the slots of a pin back on the shards that own them. Any thread.
void unpin_slots(std::vector<PinTable::Slots> slots);

struct WarmRequest {
  std::shared_ptr<Job> job;
  volume::Volume* volume = nullptr;  // outlives the job
  std::string path;                  // in the volume: "a/b", or empty
  dataset::Caller caller;
  WarmOptions options;
  PinTable* pins = nullptr;  // not null: pin what was brought in. Outlives the job
};

// Starts it; the job's state tells of its end. `shards` are all of them, and their reactors run until then.
void start_warm(WarmRequest request, const std::vector<Shard*>& shards);

}  // namespace cached::server
