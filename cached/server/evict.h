// Eviction for an operator or a user, as a job: takes what lies below a place out of memory and SSDs, or only
// says what that would be. The origin is never touched but to list names.
//
// A data set goes by its tag, without a look at the origin, deleted files included: for an operator only. Any
// other place is walked as the user who asks, and the blocks of each file that this user can read go; a block
// that several files of a `rados:` volume share goes with any of them. What is pinned stays, and so does what
// somebody reads at that moment. Coroutines on shard 0.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cached/dataset/tree_walk.h"
#include "cached/server/jobs.h"
#include "cached/server/shard.h"

namespace cached::server {

struct EvictRequest {
  std::shared_ptr<Job> job;
  volume::Volume* volume = nullptr;  // outlives the job
  std::string path;                  // in the volume
  dataset::Caller caller;
  std::vector<uint16_t> tags;  // not empty: by these, and not by path
  uint64_t idle_ns = 0;        // with tags: only what was not used for so long
  bool dry_run = false;
};

// Starts it; the job's state tells of its end. `shards` are all of them, and their reactors run until then.
void start_evict(EvictRequest request, const std::vector<Shard*>& shards);

}  // namespace cached::server
