// DataSetUse: what a cache tier of one shard holds of each data set, counted as pieces come and go, so that
// the question costs the same for any number of them. One thread.
#pragma once

#include <cstdint>
#include <vector>

namespace cached::memory_tier {

struct DataSetCount {
  uint64_t pieces = 0;
  uint64_t bytes = 0;
  uint64_t heads = 0;       // pieces that are the beginning of an object: files, where a file is an object
  uint64_t only_bytes = 0;  // in memory: those that no SSD is known to hold as well

  DataSetCount& operator+=(const DataSetCount& other) {
    pieces += other.pieces;
    bytes += other.bytes;
    heads += other.heads;
    only_bytes += other.only_bytes;
    return *this;
  }
  DataSetCount& operator-=(const DataSetCount& other) {
    pieces -= other.pieces;
    bytes -= other.bytes;
    heads -= other.heads;
    only_bytes -= other.only_bytes;
    return *this;
  }
  friend bool operator==(const DataSetCount&, const DataSetCount&) = default;
};

class DataSetUse {
 public:
  void add(uint16_t data_set, const DataSetCount& count) { of(data_set) += count; }
  void remove(uint16_t data_set, const DataSetCount& count) { of(data_set) -= count; }
  // By tag; tags beyond the end hold nothing.
  const std::vector<DataSetCount>& by_tag() const { return by_tag_; }

 private:
  // Tags are given from 1 up, so this stays short; one from a device that somebody else wrote makes it 2 MiB.
  DataSetCount& of(uint16_t data_set) {
    if (data_set >= by_tag_.size()) by_tag_.resize(data_set + size_t{1});
    return by_tag_[data_set];
  }
  std::vector<DataSetCount> by_tag_;
};

}  // namespace cached::memory_tier
