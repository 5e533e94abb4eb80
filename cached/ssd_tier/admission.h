// AdmissionPolicy: which blocks from the origin a shard writes to the SSDs, and which it keeps in memory.
//
// The load. A training job reads a data set of N bytes once an epoch, in a new random order each time. With a
// cache of S bytes no policy without knowledge of the future hits more than S/N, and what reaches it is not
// to change the contents at all: whatever is admitted takes the place of a block that is as likely to be read
// next. So while there is room everything is admitted, and afterwards next to nothing. All else here is about
// the loads for which that would be wrong.
//
// The trickle. When full, a block is admitted with a probability of 2 %, times the share of the last misses
// whose keys were seen before (at least 5 %). A tree that is read once is nothing but new keys: with the
// factor, a tar of twice the data set writes 0.002 N and cannot be seen in the hit ratio afterwards; without
// it, it would take the place of 0.04 N.
//
// Hot blocks. A key that misses a second time within a quarter of the capacity is admitted (RecentMisses; not
// within the same sixteenth, where it may be the rest of one read). A hot set beside an endless scan gets in
// that way: the trickle alone admits the scan ten times as often as the hot set. In permuted epochs so short
// a gap comes only from the end of one epoch to the beginning of the next; at S = N/2 it adds 0.004 N of
// writes an epoch.
//
// A change of data set. Once the old data set is not read any more, holding on to it is wrong, and the
// trickle would take dozens of epochs. Admission is reopened (everything is admitted) when the hit ratio
// falls far below what the capacity could reach. Both are measured on re-references of a sample of the keys
// (ReuseSampler), so that a scan of new keys changes neither:
//  - The working set W is the mean gap between references to a key, in bytes looked up and weighted by bytes:
//    a block of size s that is read r times for each byte that is looked up has gaps of 1/r, and the sum of
//    r s (1/r) over all blocks is the sum of their sizes. It holds for any mixture of rates, but only if a
//    lookup counts with the size of the whole block, however little of it is read. Attainable is S/W.
//    References to a key within a sixteenth of the capacity count as one: they may be the pieces of one read.
//  - The hit ratio is that of the re-references in the last W bytes of lookups: one round of the working set.
//    After a change the first epoch of the new data set has no re-references; when the second has brought the
//    first few hundred, the round behind it holds nothing of the old data set, and the verdict comes at
//    once. Two data sets that are read in turn have gaps of both together, so the round always holds an epoch
//    of each, and what was cached of one stays: no data set is flushed each time the other has its turn. The
//    same order each epoch, where all hits come in one half of the epoch, is judged by the whole of it.
//  - Reopened is when the hit ratio is below a third of attainable, by three standard deviations of so many
//    references. At the beginning of an epoch all gaps are short ones (the long ones end later), which makes
//    W seem half as large as it is; the second epoch after a start shows nothing else, and a half would be
//    a false alarm. And at least 0.1 must be to gain: a data set of many times the cache has nothing to win.
//  - It closes when one capacity was written or the hit ratio is back at 0.8 of attainable, and then rests
//    for two rounds, so that what was written can show what it is worth; a reopening that did not help
//    doubles the rest. Loads that nothing can help cost a capacity of writes in ever longer intervals.
// VictimChooser makes the new data set replace the old one and not itself.
//
// Memory. With SSDs below it, a block is worth a place in memory if it is not on an SSD: memory and SSDs
// together then hold M + S of the data set. So the memory tier has two lists. The transient one, FIFO, at
// least a tenth of the slots and all that the main list leaves free, takes what came from an SSD, was
// admitted to one, or was not chosen; a block that is hit there moves to the main list (SIEVE).
// keep_in_memory() chooses for the main list: what is not on an SSD while it has room, then next to nothing,
// for the same reason as above. It is less than what SSDs take (0.5 %): SIEVE gives up what was not visited
// since the hand came by, which in permuted epochs is what this epoch still wants. When there are hardly any
// misses, copies of what is on the SSDs are the best that memory can hold.
//
// SIEVE's hand stays among the newest slots while little comes in, so that a data set that is gone would stay
// for ever. So when reopenings() grows the owner of the list forgets all visited marks and puts the hand to
// the oldest slot; what is hot earns its mark again while admission is open; and when it closes, as much as
// memory holds is kept unconditionally.
//
// What it comes to, 20,000 blocks, simulated (tests/unit/ssd_tier_policy prints all of it); hit ratio and
// SSD bytes written an epoch over N:
//   permuted, S = 0.2 / 0.5 / 0.8 N       0.190 / 0.490 / 0.793      0.015 / 0.013 / 0.007
//   permuted, 0.5 N, a tenth of it memory 0.485 from the third epoch  0.012
//   the same order, S = 0.5 N             0.494                       0.009
//   change of data set, epochs 1, 2, 3    0.000, 0.001, 0.482         0.001, 0.465, 0.013
//   two data sets in turn, 0.5 N          0.239 on average            0.014
//   20 times the cache                    0.043                       0.016
//   hot set of 0.01 N, 9 % of a scan      0.995 in the third stretch  0.001
//
// Threads: the shard's own. Cost: about 50 ns a call. Memory: 140 KiB, and a byte for 128 KiB of capacity.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <random>

#include "cached/ssd_tier/recent_misses.h"
#include "cached/ssd_tier/reuse_sampler.h"

namespace cached::ssd_tier {

class AdmissionPolicy {
 public:
  struct Options {
    uint64_t capacity_bytes = 0;  // the shard's part of all SSDs
    uint64_t memory_bytes = 0;    // the shard's part of the memory tier
    uint64_t seed = 0;            // the same seed and calls give the same answers
  };
  // For status.
  struct Figures {
    double admit_probability = 1;  // at which blocks are admitted now
    bool reopened = false;         // a change of data set is being followed
    uint64_t reopenings = 0;
    std::optional<double> hit_ratio;   // of re-references, by bytes, over the last round of the working set
    std::optional<double> attainable;  // what the capacity could reach for that working set
    std::optional<uint64_t> working_set_bytes;
  };

  explicit AdmissionPolicy(const Options& options);

  // A read missed memory and asked the SSD index for a block. `block_bytes` is the length of the whole block,
  // however little of it is read: gaps between references are then the working set's size (see above).
  void on_lookup(uint64_t key_hash, uint32_t block_bytes, bool ssd_hit);

  // Whether a block that came from the origin is to be written to an SSD; asked once for each fetch. `room`:
  // its place is one for which no segment was or must be given up. What is left of a segment that took a
  // victim's place is not room, or admission would be open whenever a segment is. Without capacity the answer
  // is no.
  bool admit(uint64_t key_hash, bool room);

  // An admitted block was handed to the log.
  void on_written(uint32_t block_bytes);

  // Whether a block that is now in memory goes to memory's main list, not to the transient one. `main_full`:
  // the main list would have to evict for it; `on_ssd`: it came from an SSD or is admitted. Without capacity
  // there is nothing below memory, and the answer is yes: SIEVE alone decides.
  bool keep_in_memory(uint32_t block_bytes, bool main_full, bool on_ssd);

  // A device came or went: the shard's part of those that are left. Forgets RecentMisses.
  void set_capacity_bytes(uint64_t capacity_bytes);

  // The time for VictimChooser: grows by kTicksPerHalving while one capacity is looked up.
  uint32_t heat_tick() const { return heat_tick_; }

  // Grows when a change of data set is noticed: memory's main list then starts over (see above).
  uint64_t reopenings() const { return reopenings_; }
  Figures figures() const;

 private:
  // A stretch of lookups, an eighth of the capacity.
  struct Span {
    uint64_t start_bytes = 0;  // position
    uint64_t references = 0;   // re-references of sampled keys
    double bytes = 0;          // theirs
    double hit_bytes = 0;      // of these, SSD hits
    double gap_sum = 0;        // bytes times gap
  };
  struct Window {
    uint64_t references = 0;
    double hit_ratio = 0;
    double working_set_bytes = 0;
    double attainable = 0;
  };
  static constexpr unsigned kHorizonCapacities = 32;
  static constexpr unsigned kSpansPerCapacity = 8;
  static constexpr unsigned kSpans = kHorizonCapacities * kSpansPerCapacity;

  uint64_t span_bytes() const { return capacity_bytes_ / kSpansPerCapacity + 1; }
  uint64_t horizon_bytes() const { return capacity_bytes_ * kHorizonCapacities; }
  uint64_t tick_bytes() const;
  double known_factor() const;
  bool happens(double probability);
  void advance(uint32_t block_bytes);
  std::optional<Window> last_round() const;
  void judge();
  static bool collapsed(const Window& window);
  void reopen();
  void close();

  uint64_t capacity_bytes_;
  uint64_t memory_bytes_;
  std::mt19937_64 random_;
  ReuseSampler sampler_;
  RecentMisses refused_;

  uint64_t position_bytes_ = 0;  // all that was looked up
  uint32_t heat_tick_ = 0;
  uint64_t heat_tick_at_bytes_ = 0;  // the position at which it grew last
  std::array<Span, kSpans> spans_;   // a ring
  unsigned span_ = 0;                // the current one
  std::optional<Window> window_;     // as judged last
  double known_share_ = 0;           // of the last misses, those of keys that were seen before
  double miss_share_ = 1;            // of the last lookups

  bool full_ = false;
  bool reopened_ = false;
  uint64_t reopened_written_bytes_ = 0;
  uint64_t no_reopening_before_bytes_ = 0;  // position
  unsigned fruitless_ = 0;                  // reopenings since the hit ratio was good
  uint64_t reopenings_ = 0;
  uint64_t memory_reopened_bytes_ = 0;  // still to be kept in memory after a reopening
};

}  // namespace cached::ssd_tier
