#include "cached/ssd_tier/inspect.h"

#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <optional>
#include <utility>

#include "base/units.h"
#include "cached/ssd_tier/aligned_buffer.h"

namespace cached::ssd_tier {

namespace {

__attribute__((format(printf, 1, 2))) std::string format(const char* pattern, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(line, sizeof line, pattern, arguments);
  va_end(arguments);
  return line;
}

const char* to_string(DeviceContent content) {
  switch (content) {
    case DeviceContent::kBlank:
      return "blank";
    case DeviceContent::kForeign:
      return "foreign";
    case DeviceContent::kNewer:
      return "newer";
    case DeviceContent::kUnusable:
      return "unusable";
    case DeviceContent::kOurs:
      break;
  }
  return "cache";
}

std::string object_name(const shm::BlockKey& key) {
  return format("%016" PRIx64 "%016" PRIx64, key.object.high, key.object.low);
}

std::string utc(int64_t time_s) {
  const std::time_t time = time_s;
  std::tm parts{};
  char text[32] = "?";
  if (gmtime_r(&time, &parts) != nullptr) std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

void add(Totals& totals, const Record& record) {
  ++totals.records;
  totals.data_bytes += record.length_bytes;
}

std::map<SegmentState, uint32_t> count_states(const Inspection& inspection) {
  std::map<SegmentState, uint32_t> counts;
  for (const SegmentSummary& segment : inspection.segments) ++counts[segment.state];
  return counts;
}

std::string segment_text(const SegmentSummary& segment) {
  std::string text = format("%8u  %-8s %10u.%-10u %8u %10" PRIu64 "  %-10s%s\n", segment.number,
                            to_string(segment.state), static_cast<uint32_t>(segment.sequence >> 32),
                            static_cast<uint32_t>(segment.sequence), segment.batches, segment.total.records,
                            format_size(segment.total.data_bytes).c_str(), segment.problem.c_str());
  for (const Record& record : segment.records) {
    text += format("            at %-9u %7u bytes  volume %u  object %s  block %u  data set %u\n",
                   record.offset_bytes, record.length_bytes, record.key.volume,
                   object_name(record.key).c_str(), record.key.block, record.key.data_set);
  }
  return text;
}

std::string totals_text(const char* title, const std::map<uint16_t, Totals>& totals) {
  std::string text;
  for (const auto& [number, total] : totals) {
    text += format("%s %-5u %10" PRIu64 " entries  %s\n", title, number, total.records,
                   format_size(total.data_bytes).c_str());
  }
  return text;
}

nlohmann::json to_json(const Totals& totals) {
  return {{"entries", totals.records}, {"bytes", totals.data_bytes}};
}

nlohmann::json to_json(const Record& record) {
  nlohmann::json checksums = nlohmann::json::array();
  for (uint32_t chunk = 0; chunk < chunks_of(record.length_bytes); ++chunk) {
    checksums.push_back(format("%08x", record.checksums[chunk]));
  }
  return {{"offset", record.offset_bytes},     {"length", record.length_bytes},
          {"object", object_name(record.key)}, {"block", record.key.block},
          {"volume", record.key.volume},       {"data_set", record.key.data_set},
          {"checksums", std::move(checksums)}};
}

nlohmann::json to_json(const SegmentSummary& segment) {
  nlohmann::json json{{"number", segment.number},         {"state", to_string(segment.state)},
                      {"sequence", segment.sequence},     {"batches", segment.batches},
                      {"entries", segment.total.records}, {"bytes", segment.total.data_bytes}};
  if (!segment.problem.empty()) json["problem"] = segment.problem;
  for (const Record& record : segment.records) json["records"].push_back(to_json(record));
  return json;
}

nlohmann::json to_json(const std::map<uint16_t, Totals>& totals) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [number, total] : totals) json[std::to_string(number)] = to_json(total);
  return json;
}

}  // namespace

SegmentContent read_segment(io::Device& device, SegmentScan& scan, const Layout& layout, uint32_t number) {
  scan.begin(number);
  while (const std::optional<SegmentScan::Read> read = scan.next()) {
    const uint64_t offset_bytes = layout.segment_offset(number) + read->offset_bytes;
    Result<AlignedBuffer> buffer = read_aligned(device, read->length_bytes, offset_bytes);
    if (!buffer.ok()) buffer = read_aligned(device, read->length_bytes, offset_bytes);
    if (buffer.ok()) {
      scan.feed(buffer->bytes());
    } else {
      scan.fail(buffer.status());
    }
  }
  return std::move(scan.content());
}

Result<Inspection> inspect_device(io::Device& device, bool keep_records) {
  Inspection inspection;
  inspection.path = device.path();
  Result<DeviceSurvey> survey = read_superblock(device);
  if (!survey.ok()) return survey.status();
  inspection.survey = *std::move(survey);
  if (inspection.survey.content != DeviceContent::kOurs) return inspection;

  const Superblock& superblock = inspection.survey.superblock;
  SegmentScan scan(superblock.layout, superblock.uuid);
  for (uint32_t number = 0; number < superblock.layout.segment_count; ++number) {
    SegmentContent content = read_segment(device, scan, superblock.layout, number);
    SegmentSummary segment{
        number, content.state, content.sequence, content.batches, {}, {}, std::move(content.problem)};
    for (const Record& record : content.records) {
      add(segment.total, record);
      add(inspection.total, record);
      add(inspection.by_volume[record.key.volume], record);
      add(inspection.by_data_set[record.key.data_set], record);
    }
    if (keep_records) segment.records = std::move(content.records);
    inspection.segments.push_back(std::move(segment));
  }
  return inspection;
}

std::string to_text(const Inspection& inspection) {
  const DeviceSurvey& survey = inspection.survey;
  if (survey.content != DeviceContent::kOurs) {
    return inspection.path + ": " + to_string(survey.content) +
           (survey.what.empty() ? "" : ": " + survey.what) + "\n";
  }
  const Layout& layout = survey.superblock.layout;
  std::string text =
      inspection.path + ": cache device, format version " + std::to_string(kFormatVersion) + "\n";
  text += "uuid        " + to_string(survey.superblock.uuid) + "\n";
  text += "created     " + utc(survey.superblock.created_s) + "\n";
  text += format("starts      %u\n", survey.superblock.start_count);
  text += format("capacity    %s (%" PRIu64 " bytes), blocks of %u bytes\n",
                 format_size(layout.capacity_bytes).c_str(), layout.capacity_bytes, layout.block_bytes);
  text += format("segments    %u of %s from %" PRIu64 " on:", layout.segment_count,
                 format_size(layout.segment_bytes).c_str(), layout.data_offset);
  for (const auto& [state, count] : count_states(inspection))
    text += format(" %u %s", count, to_string(state));
  text += "\n";
  if (survey.copy_damaged) text += "warning     one copy of the superblock is damaged: " + survey.what + "\n";
  text += format("entries     %" PRIu64 ", %s\n\n", inspection.total.records,
                 format_size(inspection.total.data_bytes).c_str());
  text += " segment  state      start.filling         batches    entries  bytes\n";
  for (const SegmentSummary& segment : inspection.segments) {
    if (segment.state != SegmentState::kBlank) text += segment_text(segment);
  }
  return text + "\n" + totals_text("volume  ", inspection.by_volume) +
         totals_text("data set", inspection.by_data_set);
}

nlohmann::json to_json(const Inspection& inspection) {
  const DeviceSurvey& survey = inspection.survey;
  nlohmann::json json{{"path", inspection.path}, {"content", to_string(survey.content)}};
  if (!survey.what.empty()) json["what"] = survey.what;
  if (survey.content != DeviceContent::kOurs) return json;
  const Layout& layout = survey.superblock.layout;
  json["version"] = kFormatVersion;
  json["uuid"] = to_string(survey.superblock.uuid);
  json["created_s"] = survey.superblock.created_s;
  json["start_count"] = survey.superblock.start_count;
  json["superblock_copy_damaged"] = survey.copy_damaged;
  json["layout"] = {{"capacity", layout.capacity_bytes},
                    {"block_bytes", layout.block_bytes},
                    {"data_offset", layout.data_offset},
                    {"segment_bytes", layout.segment_bytes},
                    {"segment_count", layout.segment_count}};
  json["segments"] = nlohmann::json::array();
  for (const SegmentSummary& segment : inspection.segments) json["segments"].push_back(to_json(segment));
  json["volumes"] = to_json(inspection.by_volume);
  json["data_sets"] = to_json(inspection.by_data_set);
  json["total"] = to_json(inspection.total);
  return json;
}

}  // namespace cached::ssd_tier
