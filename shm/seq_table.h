// SeqTable: a hash table in shared memory that one process writes and any number of processes read without
// locks.
//
// It is the form of the block index and of both halves of the name table (index_layout.h says where each
// lies).
//
// Shape. 2^n buckets in P partitions. A bucket is one cache line of 16-bit tags followed by seven records. A
// key hashes to two buckets of its partition; a record lies in either. There is no chain and no growth: when
// both buckets are full the writer drops a record, which a cache may do.
//
// Sequence protocol. Each record starts with a 64-bit sequence, even when the record is stable, odd while its
// one writer changes it. The payload is 64-bit words, each an atomic.
//   writer: seq = odd (release); words (release); seq = even (seq_cst)
//   reader: s1 = seq (acquire), odd: changing; words (acquire); s2 = seq; equal: the copy is one version
// A reader that has seen any word of a newer version has, by that word's release/acquire pair, also seen the
// odd sequence stored before it, so s2 differs from s1. No fences are used, because thread sanitizer does not
// model them. Sixty-four bits do not wrap, so equal sequences mean the same version (no ABA).
//
// Hazards. A reader that wants to use the slot that a record names publishes a hazard (seq_cst) between the
// copy and the second load of the sequence (seq_cst); the writer that removes a record changes the sequence
// (seq_cst) before it scans hazards (seq_cst loads). The four are in one total order: either the reader sees
// the changed sequence and backs off, or the writer's scan sees the hazard and leaves the slot alone.
// (Dekker's argument.) SeqTableReader::find() takes the publishing step as a function for that reason.
//
// A tag or a record that a dead writer left half changed costs a false miss, never a false hit.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <type_traits>

namespace cached::shm {

inline constexpr unsigned kRecordsPerBucket = 7;

// One record: the sequence and the payload as atomic words.
template <typename Payload>
struct SeqRecord {
  static_assert(std::is_trivially_copyable_v<Payload> && sizeof(Payload) % 8 == 0);
  static constexpr size_t kWords = sizeof(Payload) / 8;
  using Words = std::array<uint64_t, kWords>;

  std::atomic<uint64_t> sequence;
  std::array<std::atomic<uint64_t>, kWords> words;

  // Copies the payload; false if a writer is or was at work. `sequence_seen` gets the version copied.
  bool copy(Payload* payload, uint64_t* sequence_seen) const {
    const uint64_t before = sequence.load(std::memory_order_acquire);
    if (before & 1) return false;
    Words raw;
    for (size_t i = 0; i < kWords; ++i) raw[i] = words[i].load(std::memory_order_acquire);
    if (sequence.load(std::memory_order_seq_cst) != before) return false;
    std::memcpy(static_cast<void*>(payload), raw.data(), sizeof(Payload));
    *sequence_seen = before;
    return true;
  }

  // Replaces the payload. The partition's writer only.
  void write(const Payload& payload) {
    Words raw;
    std::memcpy(raw.data(), &payload, sizeof(Payload));
    const uint64_t before = sequence.load(std::memory_order_relaxed);
    sequence.store(before + 1, std::memory_order_release);
    for (size_t i = 0; i < kWords; ++i) words[i].store(raw[i], std::memory_order_release);
    sequence.store(before + 2, std::memory_order_seq_cst);
  }
};

template <typename Payload>
struct SeqBucket {
  std::array<std::atomic<uint16_t>, kRecordsPerBucket> tags;  // 0: empty; else the key's tag
  std::array<uint8_t, 64 - 2 * kRecordsPerBucket> padding;
  std::array<SeqRecord<Payload>, kRecordsPerBucket> records;
};

// Where a key lies: its partition's first bucket, its two buckets and its tag, all from one 64-bit hash.
struct SeqPlace {
  uint64_t first_bucket;
  uint64_t second_bucket;
  uint16_t tag;
};

// `bucket_count` is a multiple of `partitions`; each partition has a power of two of buckets.
inline unsigned partition_of_hash(uint64_t hash, unsigned partitions) {
  return static_cast<unsigned>((static_cast<unsigned __int128>(hash) * partitions) >> 64);
}
inline SeqPlace place_of_hash(uint64_t hash, uint64_t partition, uint64_t buckets_per_partition) {
  const uint64_t mask = buckets_per_partition - 1;
  const uint64_t base = partition * buckets_per_partition;
  const auto tag = static_cast<uint16_t>((hash >> 32) | 1);  // never 0
  // The second bucket differs from the first by a function of the tag, so that it can be found from either.
  const uint64_t first = hash & mask;
  const uint64_t second = (first ^ (tag * 0x9E3779B97F4A7C15ULL >> 20)) & mask;
  return {base + first, base + second, tag};
}

// Reads a table. Copyable; any thread; the mapping must outlive it.
template <typename Payload>
class SeqTableReader {
 public:
  using Bucket = SeqBucket<Payload>;
  SeqTableReader() = default;
  SeqTableReader(const Bucket* buckets, uint64_t buckets_per_partition)
      : buckets_(buckets), buckets_per_partition_(buckets_per_partition) {}

  // Finds a record for which `matches(payload)` holds. `protect(payload)` is called on the copy before its
  // sequence is checked a second time (publish the hazard there); `retract()` when that check fails. Nothing:
  // absent, or a writer was faster kRetries times (the caller then asks the daemon).
  template <typename Matches, typename Protect, typename Retract>
  std::optional<Payload> find(uint64_t hash, uint64_t partition, Matches matches, Protect protect,
                              Retract retract) const {
    const SeqPlace place = place_of_hash(hash, partition, buckets_per_partition_);
    for (const uint64_t index : {place.first_bucket, place.second_bucket}) {
      const Bucket& bucket = buckets_[index];
      for (unsigned way = 0; way < kRecordsPerBucket; ++way) {
        if (bucket.tags[way].load(std::memory_order_acquire) != place.tag) continue;
        const SeqRecord<Payload>& record = bucket.records[way];
        for (unsigned attempt = 0; attempt < kRetries; ++attempt) {
          Payload payload;
          uint64_t sequence = 0;
          if (!record.copy(&payload, &sequence)) continue;
          if (!matches(payload)) break;
          protect(payload);
          if (record.sequence.load(std::memory_order_seq_cst) == sequence) return payload;
          retract();
        }
      }
      if (place.second_bucket == place.first_bucket) break;
    }
    return std::nullopt;
  }

  template <typename Matches>
  std::optional<Payload> find(uint64_t hash, uint64_t partition, Matches matches) const {
    return find(
        hash, partition, matches, [](const Payload&) {}, [] {});
  }

 private:
  static constexpr unsigned kRetries = 8;
  const Bucket* buckets_ = nullptr;
  uint64_t buckets_per_partition_ = 0;
};

// Identifies a record for the writer.
struct SeqPosition {
  uint64_t bucket = 0;
  unsigned way = 0;
};

// Writes one partition of a table. One thread.
template <typename Payload>
class SeqTableWriter {
 public:
  using Bucket = SeqBucket<Payload>;
  SeqTableWriter(Bucket* buckets, uint64_t buckets_per_partition, uint64_t partition)
      : buckets_(buckets), buckets_per_partition_(buckets_per_partition), partition_(partition) {}

  // The record for which `matches(payload)` holds, or nothing.
  template <typename Matches>
  std::optional<SeqPosition> find(uint64_t hash, Matches matches) const {
    const SeqPlace place = place_of_hash(hash, partition_, buckets_per_partition_);
    for (const uint64_t index : {place.first_bucket, place.second_bucket}) {
      for (unsigned way = 0; way < kRecordsPerBucket; ++way) {
        if (buckets_[index].tags[way].load(std::memory_order_relaxed) != place.tag) continue;
        if (matches(payload_at({index, way}))) return SeqPosition{index, way};
      }
      if (place.second_bucket == place.first_bucket) break;
    }
    return std::nullopt;
  }

  // A free place for `hash`; nothing when both its buckets are full.
  std::optional<SeqPosition> free_place(uint64_t hash) const {
    const SeqPlace place = place_of_hash(hash, partition_, buckets_per_partition_);
    for (const uint64_t index : {place.first_bucket, place.second_bucket}) {
      for (unsigned way = 0; way < kRecordsPerBucket; ++way) {
        if (buckets_[index].tags[way].load(std::memory_order_relaxed) == 0) return SeqPosition{index, way};
      }
    }
    return std::nullopt;
  }

  // The place to take from when free_place() has none: `choice` picks one of the candidates (any number).
  SeqPosition victim_place(uint64_t hash, unsigned choice) const {
    const SeqPlace place = place_of_hash(hash, partition_, buckets_per_partition_);
    return {(choice / kRecordsPerBucket) % 2 == 0 ? place.first_bucket : place.second_bucket,
            choice % kRecordsPerBucket};
  }

  // Writes a record at a free place, or over the record that is there. The tag follows the record, so that
  // whoever sees the tag sees the record.
  void put(const SeqPosition& position, uint64_t hash, const Payload& payload) {
    Bucket& bucket = buckets_[position.bucket];
    bucket.records[position.way].write(payload);
    bucket.tags[position.way].store(place_of_hash(hash, partition_, buckets_per_partition_).tag,
                                    std::memory_order_release);
  }

  // Takes a record out: after it returns no reader can pass the second sequence check with the old content.
  void remove(const SeqPosition& position) {
    Bucket& bucket = buckets_[position.bucket];
    bucket.tags[position.way].store(0, std::memory_order_release);
    bucket.records[position.way].write(Payload{});
  }

  bool occupied(const SeqPosition& position) const {
    return buckets_[position.bucket].tags[position.way].load(std::memory_order_relaxed) != 0;
  }

  Payload payload_at(const SeqPosition& position) const {
    Payload payload;
    uint64_t sequence = 0;
    buckets_[position.bucket].records[position.way].copy(&payload, &sequence);  // own writes: always stable
    return payload;
  }

  uint64_t first_bucket() const { return partition_ * buckets_per_partition_; }
  uint64_t bucket_count() const { return buckets_per_partition_; }

 private:
  Bucket* buckets_;
  uint64_t buckets_per_partition_;
  uint64_t partition_;
};

}  // namespace cached::shm
