#include "cached/ssd_tier/segment_scan.h"

#include <algorithm>

namespace cached::ssd_tier {

namespace {

// Enough for the first batch's header where entries are large; where they are small the rest is asked for.
constexpr uint32_t kFirstReadBytes = 4096;

static_assert(kFirstReadBytes % kMaximumBlockBytes == 0 && kTailReadBytes % kMaximumBlockBytes == 0 &&
              kMaximumBatchHeaderBytes % kMaximumBlockBytes == 0);

}  // namespace

const char* to_string(SegmentState state) {
  switch (state) {
    case SegmentState::kBlank:
      return "blank";
    case SegmentState::kOpen:
      return "open";
    case SegmentState::kSealed:
      return "sealed";
    case SegmentState::kDamaged:
      break;
  }
  return "damaged";
}

void SegmentScan::begin(uint32_t number) {
  content_.number = number;
  content_.state = SegmentState::kBlank;
  content_.sequence = 0;
  content_.batches = 0;
  content_.used_bytes = 0;
  content_.records.clear();
  content_.problem.clear();
  footer_damage_.clear();
  step_ = Step::kTail;
  read_ = {layout_.segment_bytes - kTailReadBytes, kTailReadBytes};
}

std::optional<SegmentScan::Read> SegmentScan::next() const {
  if (step_ == Step::kDone) return std::nullopt;
  return read_;
}

void SegmentScan::feed(std::span<const std::byte> bytes) {
  switch (step_) {
    case Step::kTail:
      return read_tail(bytes);
    case Step::kFirstBatch:
      return read_first_batch(bytes);
    case Step::kTable:
      return read_table(bytes);
    case Step::kWalk:
      return walk(bytes);
    case Step::kDone:
      return;
  }
}

void SegmentScan::fail(const Status& status) {
  if (step_ == Step::kTail || step_ == Step::kTable) {
    start_walk(status.message());
  } else {
    finish_walk(status.message(), true);
  }
}

void SegmentScan::read_tail(std::span<const std::byte> bytes) {
  const Result<TrailerInfo> trailer =
      decode_trailer(layout_, device_, content_.number, bytes.last<kTrailerBytes>());
  if (!trailer.ok()) {
    start_walk(trailer.error_number() == ENODATA ? "" : trailer.status().message());
    return;
  }
  trailer_ = *trailer;
  const std::span<const std::byte> before = bytes.first(bytes.size() - kTrailerBytes);
  const uint32_t tail_offset = read_.offset_bytes;
  const uint32_t skip =
      trailer_.table_offset_bytes > tail_offset ? trailer_.table_offset_bytes - tail_offset : 0;
  table_.assign(before.begin() + skip, before.end());
  step_ = Step::kFirstBatch;
  read_ = {0, kFirstReadBytes};
}

void SegmentScan::read_first_batch(std::span<const std::byte> bytes) {
  const uint32_t wanted_bytes =
      static_cast<uint32_t>(align_up(batch_header_bytes_wanted(bytes), kMaximumBlockBytes));
  if (wanted_bytes > bytes.size()) {
    read_.length_bytes = wanted_bytes;
    return;
  }
  const Result<BatchInfo> first = decode_batch(layout_, device_, content_.number, 0, bytes, batch_records_);
  if (!first.ok() || first->sequence != trailer_.sequence || first->number != 0) {
    // Of an older filling.
    start_walk("");
    return;
  }
  const uint32_t missing_bytes = layout_.segment_bytes - kTrailerBytes - trailer_.table_offset_bytes -
                                 static_cast<uint32_t>(table_.size());
  if (missing_bytes == 0) return read_table({});
  step_ = Step::kTable;
  read_ = {trailer_.table_offset_bytes, missing_bytes};
}

void SegmentScan::read_table(std::span<const std::byte> bytes) {
  table_.insert(table_.begin(), bytes.begin(), bytes.end());
  const std::span<const std::byte> table(table_.data(), trailer_.table_bytes);
  const Status status = decode_table(layout_, device_, trailer_, table, content_.records);
  if (!status.ok()) return start_walk(status.message());
  content_.state = SegmentState::kSealed;
  content_.sequence = trailer_.sequence;
  content_.batches = trailer_.batch_count;
  content_.used_bytes = trailer_.table_offset_bytes;
  step_ = Step::kDone;
}

// `damage`: what is wrong with the footer; empty if there is none or an older one.
void SegmentScan::start_walk(const std::string& damage) {
  footer_damage_ = damage;
  content_.records.clear();
  step_ = Step::kWalk;
  read_ = walk_read();
}

SegmentScan::Read SegmentScan::walk_read() const {
  return {content_.used_bytes,
          std::min(kMaximumBatchHeaderBytes, layout_.segment_bytes - content_.used_bytes)};
}

void SegmentScan::walk(std::span<const std::byte> bytes) {
  const Result<BatchInfo> batch =
      decode_batch(layout_, device_, content_.number, content_.used_bytes, bytes, batch_records_);
  if (!batch.ok()) {
    const bool nothing = batch.error_number() == ENODATA;
    // Behind a whole batch anything may lie; at the start, something of ours that is not whole is damage.
    return finish_walk(nothing ? "" : batch.status().message(), !nothing && content_.batches == 0);
  }
  if (batch->number != content_.batches || (content_.batches > 0 && batch->sequence != content_.sequence)) {
    const bool damaged = content_.batches == 0;
    return finish_walk(damaged ? "the segment begins with batch " + std::to_string(batch->number) : "",
                       damaged);
  }
  content_.sequence = batch->sequence;
  ++content_.batches;
  content_.used_bytes = batch->offset_bytes + batch->length_bytes;
  content_.records.insert(content_.records.end(), batch_records_.begin(), batch_records_.end());
  read_ = walk_read();
}

void SegmentScan::finish_walk(const std::string& problem, bool damaged) {
  step_ = Step::kDone;
  content_.problem =
      footer_damage_.empty() || problem.empty() ? footer_damage_ + problem : footer_damage_ + "; " + problem;
  if (damaged) {
    content_.state = SegmentState::kDamaged;
  } else if (content_.batches > 0) {
    content_.state = footer_damage_.empty() ? SegmentState::kOpen : SegmentState::kDamaged;
  } else {
    content_.state = footer_damage_.empty() ? SegmentState::kBlank : SegmentState::kDamaged;
  }
}

}  // namespace cached::ssd_tier
