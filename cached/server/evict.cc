// Evicting by tag and by walk: see evict.h.
#include "cached/server/evict.h"

#include <algorithm>
#include <cstring>

#include "cached/dataset/file_ranges.h"

namespace cached::server {
namespace {

using dataset::FileRanges;
using dataset::ObjectRange;
using dataset::TreeWalk;
using dataset::WalkedFile;

void note(Job& job, const EvictCount& count) {
  job.blocks += count.blocks;
  job.memory_bytes += count.memory_bytes;
  job.ssd_bytes += count.ssd_bytes;
}

io::Task<void> evict_tags(std::shared_ptr<EvictRequest> request, std::vector<Shard*> shards) {
  std::vector<bool> wanted(size_t{UINT16_MAX} + 1);
  for (const uint16_t tag : request->tags) wanted[tag] = true;
  const std::function<bool(uint16_t)> matches = [&wanted](uint16_t tag) { return wanted[tag]; };
  for (Shard* const shard : shards) {
    co_await shard->reactor().hop();
    const EvictCount count =
        co_await shard->evict_matching(matches, request->idle_ns, request->dry_run, request->job->cancelled);
    note(*request->job, count);
  }
  co_await shards.front()->reactor().hop();
}

// The blocks of a range, each on the shard that owns it.
io::Task<void> evict_range(std::shared_ptr<EvictRequest> request, std::vector<Shard*> shards,
                           ObjectRange range) {
  for (uint64_t at = range.begin; at < range.end && !request->job->cancelled;) {
    const uint64_t edge = std::min(range.end, (at / shm::kExtentBytes + 1) * shm::kExtentBytes);
    shm::BlockKey key{range.object, static_cast<uint32_t>(at / shm::kBlockBytes), request->volume->id(), 0};
    Shard& owner = owner_of(shards, key);
    co_await owner.reactor().hop();
    EvictCount evicted;
    for (; uint64_t{key.block} * shm::kBlockBytes < edge; ++key.block)
      evicted += owner.evict_block(key, request->dry_run);
    note(*request->job, evicted);
    at = edge;
  }
  co_await shards.front()->reactor().hop();
}

io::Task<void> evict_file(std::shared_ptr<EvictRequest> request, std::vector<Shard*> shards,
                          WalkedFile file) {
  Job& job = *request->job;
  FileRanges where(*request->volume, shards.front()->reactor(), file);
  while (!where.ended() && !job.cancelled) {
    std::vector<ObjectRange> ranges;
    const origin::Outcome outcome = co_await where.next(&ranges);
    if (!outcome.ok()) {
      job.note_error(dataset::shown_place(*request->volume, file.path) + ": " + std::strerror(outcome.error));
      co_return;
    }
    for (const ObjectRange& range : ranges) co_await evict_range(request, shards, range);
  }
}

io::Task<Status> evict_below(std::shared_ptr<EvictRequest> request, std::vector<Shard*> shards) {
  Job& job = *request->job;
  TreeWalk walk(*request->volume, shards.front()->reactor(), request->caller);
  std::string path = request->path;
  const Status begun = co_await walk.begin(std::move(path));
  if (!begun.ok()) co_return begun;
  while (!walk.ended() && !job.cancelled) {
    const std::vector<WalkedFile> files = co_await walk.next();
    for (const WalkedFile& file : files) {
      ++job.files_total;
      job.bytes_total += file.size;
      co_await evict_file(request, shards, file);
      ++job.files;
      job.bytes += file.size;
    }
    job.refused = walk.refused();
  }
  job.total_known = walk.ended();
  if (walk.failed() > 0) job.note_error(walk.first_failure());
  co_return Status();
}

io::Task<void> run(std::shared_ptr<EvictRequest> request, std::vector<Shard*> shards) {
  Status status;
  if (request->tags.empty()) {
    status = co_await evict_below(request, shards);
  } else {
    co_await evict_tags(request, shards);
  }
  const std::shared_ptr<Job> job = request->job;
  if (!status.ok()) {
    job->end(JobState::kFailed, status.message());
  } else {
    job->end(job->cancelled ? JobState::kCancelled : JobState::kDone);
  }
}

}  // namespace

void start_evict(EvictRequest request, const std::vector<Shard*>& shards) {
  const auto shared = std::make_shared<EvictRequest>(std::move(request));
  shards.front()->reactor().post([shared, shards] { io::spawn(run(shared, shards)); });
}

}  // namespace cached::server
