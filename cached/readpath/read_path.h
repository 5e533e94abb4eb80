// ReadPath: memory, then SSD, then origin, by key alone; one fetch for all who wait.
//
// One for each shard, owned by its thread; it sees only blocks of extents that belong to the shard. A read
//   1. looks which of its blocks are present, which are being fetched, which are missing, and of those which
//   an
//      SSD holds;
//   2. takes slots for the missing, all or none, holding nothing meanwhile (slot_queue.h);
//   3. looks again, since it may have waited; pins what is present, joins what is in flight, fetches the rest
//      in runs of neighbouring blocks, one command a run;
//   4. waits for the fetches that it joined or started, and returns pinned slots.
// A fetch belongs to the read path, not to the request that caused it: a requester that dies or gives up
// changes nothing, one that joins late waits for the rest only. If slots cannot be had in time, the bytes are
// read into the requester's own buffer instead.
//
// Pieces. The origin gives whole blocks. From an SSD a reader who wants a small part of a block gets the
// chunks around it and no more; read-ahead and large reads get whole blocks. A fetch is of a piece [start,
// start + length) of a block, and is joined by those who want a part of that piece.
//
// Streams. Small files that lie in one object and are read in order are fetched ahead as the stream that they
// are (pack_streams.h): the rest of the object, and those that follow it.
//
// An SSD that fails. The fetch ends with `again`: its entries are gone from the SSD's index by then, so those
// who waited look once more and find the origin's turn come.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/histogram.h"
#include "cached/io/reactor.h"
#include "cached/io/task.h"
#include "cached/memory_tier/memory_tier.h"
#include "cached/origin/source.h"
#include "cached/readpath/fetch_gate.h"
#include "cached/readpath/pack_streams.h"
#include "cached/readpath/slot_queue.h"
#include "cached/ssd_tier/ssd_shard.h"
#include "cached/ssd_tier/writer.h"
#include "shm/session_layout.h"
#include "shm/types.h"

namespace cached::readpath {

struct ReadRequest {
  uint16_t volume = 0;
  uint16_t data_set = 0;
  origin::Source* source = nullptr;  // outlives the read
  shm::Handle handle;
  shm::ObjectId object;
  uint64_t offset = 0;  // in the object
  uint32_t length =
      0;  // within one extent; at most kMaximumReadBytes for read(), kExtentBytes for prefetch()
  // Where bytes go when slots cannot be had: at least length + kReadBufferSlackBytes. Must stay mapped for
  // the read.
  std::byte* buffer = nullptr;
  uint64_t buffer_bytes = 0;
};

struct ReadResult {
  origin::Outcome outcome;
  // Either pinned pieces in order, each with one pin that the caller gives back with unpin()...
  struct Pinned {
    memory_tier::SlotId slot;
    shm::Extent extent;
  };
  std::vector<Pinned> pieces = {};
  // ...or bytes at this offset of the buffer.
  bool in_buffer = false;
  uint64_t buffer_offset = 0;
};

// What fill() brought in.
struct FillResult {
  origin::Outcome outcome;
  uint64_t present_bytes = 0;                  // of the request that were there
  uint64_t fetched_bytes = 0;                  // content of the blocks that were fetched
  std::vector<memory_tier::SlotId> kept = {};  // by which the blocks are kept, if that was asked for
  uint64_t kept_bytes = 0;
};

struct ReadPathStats {
  uint64_t reads = 0;
  uint64_t fetched_blocks = 0;
  uint64_t prefetch_bytes = 0;
  uint64_t prefetch_dropped = 0;
  uint64_t buffer_answers = 0;  // reads answered through the session's buffer for want of slots
  uint64_t ssd_retries = 0;     // fetches from an SSD that failed and went to the origin
};

// Where the bytes of a read came from that the daemon served: the farthest place that it had to wait for.
enum class ReadTier : uint8_t { kMemory, kSsd, kOrigin };
inline constexpr unsigned kReadTiers = 3;
enum class ReadOutcome : uint8_t { kOk, kChanged, kError };
inline constexpr unsigned kReadOutcomes = 3;

// Reads that ended, by tier and outcome.
struct ReadFigures {
  struct Cell {
    Histogram latency_us;
    uint64_t bytes = 0;
  };
  Cell& at(ReadTier tier, ReadOutcome outcome) {
    return cells[static_cast<unsigned>(tier) * kReadOutcomes + static_cast<unsigned>(outcome)];
  }
  std::array<Cell, kReadTiers * kReadOutcomes> cells;
};

// The shard's part of the SSD tier, as the read path uses it.
struct SsdParts {
  ssd_tier::SsdShard* shard = nullptr;
  ssd_tier::Writer* writer = nullptr;
  ssd_tier::AdmissionPolicy* policy = nullptr;
};

class ReadPath {
 public:
  struct Options {
    unsigned fetches_in_flight = 64;              // commands at each volume's origin
    uint64_t slot_wait_ns = 20'000'000;           // before a read goes through the session's buffer
    uint64_t prefetch_limit_bytes = 64ULL << 20;  // read-ahead that has slots and is not there yet
  };
  ReadPath(io::Reactor& reactor, memory_tier::MemoryTier& tier, const Options& options);
  // Puts the SSD tier between memory and origin; before the first read. Its writer's `done` leads to
  // written_to_ssd(). `queue_depths`: commands in flight, for each device.
  void set_ssd(const SsdParts& ssd, const std::vector<unsigned>& queue_depths);
  // The writer is through with a slot that was offered to it.
  void written_to_ssd(const ssd_tier::Writer::Offer& offer, bool written);

  // Reads; either all of it or an error. Counted in figures().
  io::Task<ReadResult> read(ReadRequest request);
  // Fetches what is missing in the background, as far as slots can be had at once. A hint.
  io::Task<void> prefetch(ReadRequest request);
  // Copies what `result` of `request` pinned into the request's buffer and gives the pins back: for a client
  // that has enough of them, and for callers that want the bytes in one place.
  void move_to_buffer(const ReadRequest& request, ReadResult* result);
  // Called with packs and files that are to be fetched ahead of a stream, for read_ahead() on the shard that
  // owns them.
  using SendAhead = std::function<void(const ReadRequest& request, unsigned window)>;
  void set_send_ahead(SendAhead send) { send_ahead_ = std::move(send); }
  // Fetches a pack in the background, ahead of a stream that has `window` packs ahead of it; 0: a file that
  // is none.
  void read_ahead(const ReadRequest& request, unsigned window);
  // Brings what the request wants into the cache, whole blocks, behind all foreground reads, and waits for
  // it: for slots, for room in the SSDs' queue, for what is in flight. Unlike a hint it gives up only with an
  // error; EAGAIN when slots cannot be had for long. Blocks go to the SSDs whatever the admission policy
  // would say. What an SSD holds is left there, unless `keep`: then all blocks come into memory and stay
  // until unkeep().
  io::Task<FillResult> fill(ReadRequest request, bool keep);
  void unkeep(memory_tier::SlotId slot);
  // Gives one pin back.
  void unpin(memory_tier::SlotId slot);

  const ReadPathStats& stats() const { return stats_; }
  const ReadFigures& figures() const { return figures_; }

 private:
  // A piece of a block that is on its way. Joiners count themselves in `waiters` and get one pin each when it
  // is published.
  struct Fetch {
    unsigned waiters = 0;
    io::Event done;
    origin::Outcome outcome;
    bool again = false;      // the SSD failed: look once more
    bool asked_for = false;  // by fill(): the admission policy is not asked
    memory_tier::SlotId slot;
    uint32_t start = 0;  // in the block
    uint32_t length = 0;
    bool prefetched = false;    // begun for nobody,
    bool joined = false;        // and a reader waits for it
    FetchGate* gate = nullptr;  // where it waits for its turn
    bool from_origin = false;   // else from an SSD
    std::shared_ptr<FetchGate::Ticket> ticket;
    bool covers(uint32_t begin, uint32_t end) const { return start <= begin && end <= start + length; }
  };
  struct KeyHash {
    size_t operator()(const shm::BlockKey& key) const;
  };
  struct KeyEqual {
    bool operator()(const shm::BlockKey& a, const shm::BlockKey& b) const { return a.same_block(b); }
  };
  // What of a block must be fetched, and from where.
  struct Need {
    uint32_t block = 0;
    uint32_t start = 0;
    uint32_t length = 0;                      // of the piece; unknown (0) for the origin
    std::optional<ssd_tier::Found> ssd = {};  // nothing: the origin
  };
  // Neighbouring pieces that one command reads.
  struct Run {
    std::vector<shm::BlockKey> keys;
    std::vector<std::shared_ptr<Fetch>> fetches;
    std::shared_ptr<origin::ObjectReader> reader;  // null: the SSD
    std::optional<ssd_tier::Found> last_found;     // of an SSD's run: where its last block lies
    std::shared_ptr<FetchGate::Ticket> ticket;
    uint64_t length = 0;      // bytes of content
    bool background = false;  // counts as read-ahead, whoever joined it since
  };
  // What one block of a request turned out to be.
  struct BlockState {
    shm::BlockKey key;
    std::shared_ptr<Fetch> fetch;          // waited for
    memory_tier::MemoryTier::Piece piece;  // pinned, if fetch is null
  };

  shm::BlockKey key_of(const ReadRequest& request, uint32_t block) const;
  std::shared_ptr<Fetch> in_flight_for(const shm::BlockKey& key, uint32_t begin, uint32_t end) const;
  // What of the request is neither present nor on its way. `whole`: nothing less than blocks.
  std::vector<Need> needs_of(const ReadRequest& request, bool whole) const;
  // Fills in the lengths that the origin's reader knows. False: it must be opened first.
  static bool complete_needs(const std::shared_ptr<origin::ObjectReader>& reader, std::vector<Need>* needs);
  // Pins, joins or starts fetching every block of the request, without suspending. False, with nothing
  // changed, if `slots` do not suffice for what is missing now. Takes from `slots` what it needs.
  bool gather(const ReadRequest& request, const std::shared_ptr<origin::ObjectReader>& reader,
              std::vector<memory_tier::SlotId>* slots, std::vector<BlockState>* states);
  // The read; `*tier` becomes where it had to go.
  io::Task<ReadResult> read_from_tiers(ReadRequest request, ReadTier* tier);
  void count_read(ReadTier tier, const ReadResult& result, uint32_t length, uint64_t started_ns);
  // Fetches in the background what the origin's units hold besides the request.
  void fetch_units(const ReadRequest& request, const origin::ObjectReader& reader);
  // Parts of fill(): what is to be fetched in one step; the wait for the SSDs' queue; the end.
  std::vector<Need> needs_of_fill(const ReadRequest& request, bool keep) const;
  io::Task<void> wait_for_writer();
  io::Task<FillResult> fill_step(ReadRequest request, std::shared_ptr<origin::ObjectReader> reader,
                                 bool keep);
  // Keeps the request's blocks. False: one is gone again.
  bool keep_blocks(const ReadRequest& request, FillResult* result);
  void retag_blocks(const ReadRequest& request);
  static std::vector<uint32_t> lengths_of(const std::vector<Need>& needs);
  bool slots_suffice(const std::vector<Need>& needs, const std::vector<memory_tier::SlotId>& slots) const;
  // Enters a Fetch with a slot of `slots` for each of `needs` into in_flight_ and groups them into commands.
  std::vector<Run> plan_fetches(const ReadRequest& request, const std::vector<Need>& needs,
                                const std::shared_ptr<origin::ObjectReader>& reader,
                                std::vector<memory_tier::SlotId>* slots, Priority priority);
  bool joins_run(const Run& run, const Need& need) const;
  FetchGate* origin_gate(uint16_t volume);
  io::Task<void> fetch_run(Run run);
  io::Task<void> fetch_from_origin(const Run& run);
  io::Task<void> fetch_from_ssd(const Run& run);
  void leave_flight(const Run& run);
  void enter_memory(const shm::BlockKey& key, const Fetch& fetch, memory_tier::Retention retention);
  memory_tier::Retention retention_of(const Fetch& fetch, bool on_ssd);
  // Besides, offers the block to the SSD.
  void publish_from_origin(const shm::BlockKey& key, Fetch& fetch);
  void offer(const shm::BlockKey& key, memory_tier::SlotId slot, uint32_t length);
  // Blocks that the SSD had room for when its queue had none have their turn, if they are in memory still.
  void offer_refused();
  // Waits for what was joined or started and turns it into extents. Nothing: an SSD failed, look again.
  io::Task<std::optional<ReadResult>> finish(const ReadRequest& request, std::vector<BlockState> states);
  // Sees whether the read belongs to a stream through packs, and fetches ahead of it. `reader` may be null.
  void follow_stream(const ReadRequest& request, const origin::ObjectReader* reader);
  io::Task<void> look_ahead(ReadRequest request, PackStreams::Ahead ahead);
  // Opens the object for who reads it, and begins to look ahead if its source says that files follow.
  io::Task<origin::OpenedObject> open_for_reader(ReadRequest request);
  // Fetches the files that follow that of the request in its directory, as far as its source names them. The
  // `first` who does so for a stream is joined by others.
  io::Task<void> look_ahead_in_directory(ReadRequest request, bool first);
  io::Task<ReadResult> read_into_buffer(const ReadRequest& request,
                                        std::shared_ptr<origin::ObjectReader> reader);
  void give_back(std::vector<memory_tier::SlotId>* slots);

  io::Reactor& reactor_;
  memory_tier::MemoryTier& tier_;
  Options options_;
  SlotQueue slots_;
  SsdParts ssd_;
  // At the origin, by volume: one whose source hangs holds up no other.
  std::unordered_map<uint16_t, std::unique_ptr<FetchGate>> gates_;
  std::vector<std::unique_ptr<FetchGate>> ssd_gates_;  // by device
  std::unordered_multimap<shm::BlockKey, std::shared_ptr<Fetch>, KeyHash, KeyEqual> in_flight_;
  // The last blocks that were worth writing and were not accepted.
  std::deque<std::pair<shm::BlockKey, memory_tier::SlotId>> refused_;
  uint64_t reopenings_seen_ = 0;  // of the policy
  uint64_t prefetching_bytes_ = 0;
  PackStreams streams_;
  SendAhead send_ahead_ = [this](const ReadRequest& request, unsigned window) {
    read_ahead(request, window);
  };
  ReadPathStats stats_;
  ReadFigures figures_;
};

}  // namespace cached::readpath
