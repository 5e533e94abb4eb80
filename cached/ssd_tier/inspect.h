// inspect: what a device of the SSD tier holds, for people and for programs. Reads only; works beside a
// daemon that writes, and then shows a moment's picture.
//
// Blocks; for tools and threads that are not reactors.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "cached/io/device.h"
#include "cached/ssd_tier/format.h"
#include "cached/ssd_tier/segment_scan.h"
#include "cached/ssd_tier/superblock.h"

namespace cached::ssd_tier {

// Reads what segment `number` holds, by `scan`, which is of this layout and device. Never fails: what cannot
// be read is kDamaged.
SegmentContent read_segment(io::Device& device, SegmentScan& scan, const Layout& layout, uint32_t number);

struct Totals {
  uint64_t records = 0;
  uint64_t data_bytes = 0;
};

struct SegmentSummary {
  uint32_t number = 0;
  SegmentState state = SegmentState::kBlank;
  uint64_t sequence = 0;  // 0: nothing was found
  uint32_t batches = 0;
  Totals total;
  std::vector<Record> records;  // only where asked for
  std::string problem;          // what is damaged; empty if nothing is
};

struct Inspection {
  std::string path;
  DeviceSurvey survey;
  std::vector<SegmentSummary> segments;
  std::map<uint16_t, Totals> by_volume;
  std::map<uint16_t, Totals> by_data_set;
  Totals total;
};

// Reads the whole metadata of `device`. `keep_records`: every segment's records too (memory: 72 bytes each).
// A device that is not ours gives its survey and nothing else. Errors are those of reading the superblock.
Result<Inspection> inspect_device(io::Device& device, bool keep_records);

// Lines for people; blank segments are only counted.
std::string to_text(const Inspection& inspection);
// The same for programs: all segments; sizes in bytes, checksums in hexadecimal.
nlohmann::json to_json(const Inspection& inspection);

}  // namespace cached::ssd_tier
