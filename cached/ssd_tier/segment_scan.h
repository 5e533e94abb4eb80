// SegmentScan: the rules by which the content of a segment is found again, apart from the reading: recovery
// and inspection read in their own ways and believe the same.
//
// The tail is read first. If it has a trailer, and the segment's first batch has the trailer's sequence, then
// the segment is sealed and the footer table is its content. A trailer without such a first batch is left
// from an older filling, whose data are being overwritten. In every other case the batches are walked from
// the start, each beginning where the one before it ended, with the same sequence and the next number; what
// ends the walk ends the content. So an open segment is found again after any kind of end, and so is a
// segment whose footer is damaged.
//
// No I/O, no clock; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "cached/ssd_tier/format.h"

namespace cached::ssd_tier {

enum class SegmentState : uint8_t {
  kBlank,    // nothing of this device at its start
  kOpen,     // batches without a footer of theirs
  kSealed,   // a footer of the filling that the first batch belongs to
  kDamaged,  // something of this device that is not whole or could not be read, and is no mere unfinished end
};
// "blank", "open", "sealed", "damaged".
const char* to_string(SegmentState state);

struct SegmentContent {
  uint32_t number = 0;
  SegmentState state = SegmentState::kBlank;
  uint64_t sequence = 0;  // 0: nothing was found
  uint32_t batches = 0;
  uint32_t used_bytes = 0;      // kOpen, kDamaged: end of the last whole batch
  std::vector<Record> records;  // also of a damaged segment, as far as its batches are whole
  std::string problem;          // what is damaged, or ended the walk; empty if nothing did
};

class SegmentScan {
 public:
  SegmentScan(const Layout& layout, const Uuid& device) : layout_(layout), device_(device) {}

  // Begins with segment `number` (below segment_count); memory is used again.
  void begin(uint32_t number);

  struct Read {
    uint32_t offset_bytes = 0;  // in the segment; both are multiples of block_bytes
    uint32_t length_bytes = 0;  // mostly 4 or 64 KiB, 8 MiB at most
  };
  // What is to be read next; nothing when the scan is complete.
  std::optional<Read> next() const;
  // Takes the bytes of next(), all of them.
  void feed(std::span<const std::byte> bytes);
  // The bytes of next() cannot be had: the scan goes on without them.
  void fail(const Status& status);

  // What was found; when next() gives nothing. The caller may move its records away.
  SegmentContent& content() { return content_; }

 private:
  enum class Step : uint8_t { kTail, kFirstBatch, kTable, kWalk, kDone };

  void read_tail(std::span<const std::byte> bytes);
  void read_first_batch(std::span<const std::byte> bytes);
  void read_table(std::span<const std::byte> bytes);
  void walk(std::span<const std::byte> bytes);
  void start_walk(const std::string& damage);
  void finish_walk(const std::string& problem, bool damaged);
  Read walk_read() const;

  const Layout layout_;
  const Uuid device_;
  Step step_ = Step::kDone;
  Read read_;
  TrailerInfo trailer_;
  std::vector<std::byte> table_;  // the part of it that the tail had, at its end
  std::string footer_damage_;
  std::vector<Record> batch_records_;
  SegmentContent content_;
};

}  // namespace cached::ssd_tier
