// AsyncReader: many reads in flight from one thread, as an io_uring has them.
//
// submit() looks a read up in memory: a hit is complete at once, a miss joins the batch that the next reap()
// sends, with one wake-up of the daemon for all of it. reap() hands out what is complete, in the order of
// completion, and sleeps at most once for a batch of answers. Everything else is as with Channel: a read is
// whole or an error, an attachment that is lost is replaced and the requests in flight go out again under
// their numbers, and a read that the daemon did not answer within `daemon_timeout_ms` fails with EIO.
//
// Each read in flight has a part of the channel's buffer of its own, in case the daemon has no slots for it:
// so the depth and the longest read decide what the client must ask for when it connects: fit_options().
//
// Threads: one at a time, its views included. Destroy it, after its views, before the client.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/status.h"
#include "shm/client.h"

namespace cached::shm {

struct AsyncLimits {
  unsigned depth = 32;  // reads submitted and not yet given back; 1 to kMaximumQueueDepth
  uint64_t maximum_read_bytes = kBlockBytes;  // longest read; 1 to kMaximumReadBytes
};

// Sets what channels of a client need to be used by AsyncReaders with these limits: `queue_depth` and
// `buffer_bytes`. EINVAL if no channel is that large; the message says which depth fits.
Status fit_options(const AsyncLimits& limits, ClientOptions* options);

// A read that is complete.
struct FinishedRead {
  uint64_t tag = 0;
  Status status;
  Trouble trouble = Trouble::kNone;  // why it failed, beyond the errno
  uint64_t bytes = 0;                // all that were asked for, or 0 after an error
  // The bytes in place, if no destination was named. Until it is released the read counts against the depth.
  // Views may be released in any order.
  ReadView view;
};

class AsyncReader {
 public:
  // Takes a channel of `client`, which outlives the reader. EAGAIN when all are taken, EINVAL when they are
  // too small for `limits`.
  static Result<std::unique_ptr<AsyncReader>> open(Client* client, const AsyncLimits& limits);
  // Discards what is in flight; waits for it first, up to `daemon_timeout_ms`, because the buffer is in use.
  ~AsyncReader();

  // Begins to read [offset, offset + length) of the file. With a `destination`, which has room for `length`
  // bytes and stays until the read is reaped, the bytes are copied there; without (null) reap() hands out a
  // view. `tag` is the caller's. Never waits. EAGAIN at the depth: reap or release first; EINVAL for a read
  // beyond the limits.
  Status submit(uint64_t tag, const FileReference& file, uint64_t offset, uint64_t length,
                std::byte* destination);

  // Sends what was submitted and writes up to `room` complete reads to `finished`; returns how many. With
  // `wait` it sleeps until there is one, unless nothing is in flight; without, it never sleeps.
  unsigned reap(FinishedRead* finished, unsigned room, bool wait);

  // Reads that wait for the daemon.
  unsigned in_flight() const;

 private:
  struct Impl;
  explicit AsyncReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cached::shm
