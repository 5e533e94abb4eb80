// Formatting of the daemon's answers: see tables.h.
#include "cached/ctl/tables.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "base/log.h"
#include "base/units.h"
#include "cached/ctl/reply_text.h"

namespace cached::ctl {
namespace {

using nlohmann::json;
using Rows = std::vector<std::vector<std::string>>;

constexpr size_t kColumnGap = 2;

bool looks_like_number(const std::string& cell) {
  return !cell.empty() && (std::isdigit(static_cast<unsigned char>(cell.front())) != 0 || cell == "-");
}

// A number between 0 and 1 as a percentage.
std::string percentage(const json& object, const char* key) {
  const json& value = member(object, key);
  if (!value.is_number()) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", 100.0 * value.get<double>());
  return text;
}

std::string latency(const json& latency_us, const char* key) {
  const uint64_t value_us = number(latency_us, key);
  if (value_us < 10'000) return std::to_string(value_us) + " us";
  return std::to_string(value_us / 1'000) + " ms";
}

std::string hit_ratio(const json& counters, const char* hits, const char* misses) {
  return format_ratio(number(counters, hits), number(counters, hits) + number(counters, misses));
}

// Bytes that were read through mounts and did not come from the origin for it.
uint64_t saved_bytes(const json& status) {
  const uint64_t read_bytes = number(member(status, "clients"), "read_bytes");
  return read_bytes - std::min(read_bytes, number(member(status, "origin"), "read_bytes"));
}

// "name   value" lines under a heading, names as wide as the widest of the whole status.
class StatusText {
 public:
  void section(const std::string& heading) { text_ += (text_.empty() ? "" : "\n") + heading + "\n"; }
  void line(const std::string& name, const std::string& value) {
    constexpr size_t kNameWidth = 18;
    text_ +=
        "  " + name + std::string(kNameWidth - std::min(kNameWidth, name.size()) + 1, ' ') + value + "\n";
  }
  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

void add_memory(StatusText* out, const json& memory) {
  out->section("memory");
  out->line("used", size(memory, "used_bytes") + " of " + size(memory, "capacity_bytes") + " (" +
                        format_ratio(number(memory, "used_bytes"), number(memory, "capacity_bytes")) + ")");
  out->line("content", size(memory, "content_bytes") + " in " + count(memory, "entries") + " entries");
  out->line("pinned, limbo", count(memory, "pinned") + ", " + count(memory, "limbo"));
  out->line("inserted, evicted", count(memory, "insertions") + ", " + count(memory, "evictions"));
}

void add_ssd(StatusText* out, const json& ssd) {
  if (!ssd.is_object()) return;  // a daemon without an SSD tier
  out->section("ssd");
  out->line("used", size(ssd, "used_bytes") + " of " + size(ssd, "capacity_bytes") + " (" +
                        format_ratio(number(ssd, "used_bytes"), number(ssd, "capacity_bytes")) + ") on " +
                        count(ssd, "devices") + (number(ssd, "devices") == 1 ? " device" : " devices"));
  out->line("hits", count(ssd, "hits") + " (" + hit_ratio(ssd, "hits", "misses") + " of misses in memory), " +
                        size(ssd, "hit_bytes"));
  out->line("written", size(ssd, "written_bytes") + ", dropped offers " + count(ssd, "dropped_offers"));
}

void add_clients(StatusText* out, const json& status) {
  const json& clients = member(status, "clients");
  out->section("reads through mounts");
  out->line("read", size(clients, "read_bytes") + " in " + count(clients, "reads") + " reads");
  const json& recent = member(member(status, "traffic"), "recent");
  out->line("hit ratio", hit_ratio(clients, "hit_bytes", "miss_bytes") + " of bytes, " +
                             hit_ratio(clients, "hits", "misses") + " of requests");
  out->line("last " + count(recent, "seconds") + " s",
            size(recent, "read_bytes") + " read, hit ratio " + hit_ratio(recent, "hit_bytes", "miss_bytes") +
                " of bytes, " + hit_ratio(recent, "hits", "misses") + " of requests; from the origin " +
                size(recent, "origin_bytes") + ", saved " + size(recent, "saved_bytes"));
  out->line("lookups", count(clients, "lookups") + ", hit ratio " +
                           format_ratio(number(clients, "lookup_hits"), number(clients, "lookups")));
  out->line("daemon asked", count(clients, "requests") + " times, woken " + count(clients, "wakeups"));
}

void add_origin(StatusText* out, const json& status) {
  const json& origin = member(status, "origin");
  out->section("origin");
  out->line("read", size(origin, "read_bytes") + " in " + count(origin, "reads") + " reads, of it ahead " +
                        size(origin, "prefetch_bytes"));
  out->line("in flight, errors", count(origin, "in_flight") + ", " + count(origin, "errors"));
  out->line("traffic saved",
            format_size(saved_bytes(status)) + " (" +
                format_ratio(saved_bytes(status), number(member(status, "clients"), "read_bytes")) +
                " of what was read)");
}

std::string amplification(const json& device) {
  const json& value = member(device, "write_amplification");
  if (!value.is_number() || value.get<double>() <= 0) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value.get<double>());
  return text;
}

uint64_t errors(const json& device) {
  uint64_t sum = 0;
  for (const char* key : {"read_errors", "write_errors", "timeouts", "short_reads", "mismatches"}) {
    sum += number(device, key);
  }
  return sum;
}

std::vector<std::string> device_row(const json& device) {
  const json& read_latency = member(device, "read_latency_us");
  const uint64_t used_bytes = number(device, "used_bytes");
  return {text(device, "state"),
          size(device, "capacity_bytes"),
          format_ratio(used_bytes, number(device, "capacity_bytes")),
          format_ratio(number(device, "live_bytes"), used_bytes),
          count(device, "entries"),
          count(device, "segments_free") + "/" + count(device, "segments"),
          size(device, "read_bytes"),
          latency(read_latency, "p50"),
          latency(read_latency, "p99"),
          latency(read_latency, "max"),
          size(device, "write_bytes"),
          amplification(device),
          std::to_string(errors(device)),
          text(device, "path")};
}

// What a person must know of a device beyond the table: why it is not healthy, and which errors it had.
std::string device_notes(const json& device) {
  std::string notes;
  if (const std::string reason = text(device, "reason"); !reason.empty()) notes += ": " + reason;
  if (errors(device) > 0) {
    notes += "; errors: read " + count(device, "read_errors") + ", write " + count(device, "write_errors") +
             ", time-outs " + count(device, "timeouts") + ", short reads " + count(device, "short_reads") +
             ", mismatches " + count(device, "mismatches");
  }
  return notes.empty() ? "" : text(device, "path") + " is " + text(device, "state") + notes + "\n";
}

// The figures of the tier as a whole.
std::string tier_lines(const json& devices) {
  StatusText out;
  if (const json& index = member(devices, "index"); index.is_object()) {
    out.section("index");
    out.line("entries", count(index, "entries"));
    out.line("memory", size(index, "memory_bytes") + " of " + size(index, "limit_bytes"));
  }
  if (const json& admission = member(devices, "admission"); admission.is_object()) {
    const bool open = member(admission, "open") == json(true);
    out.section("admission");
    out.line("new blocks", open ? "all are taken" : percentage(admission, "probability") + " are taken");
    out.line("hit ratio", percentage(admission, "hit_ratio_recent") + " recently, " +
                              percentage(admission, "hit_ratio_reference") + " before");
  }
  return out.str().empty() ? "" : "\n" + out.str();
}

}  // namespace

std::string format_table(const Rows& rows) {
  std::vector<size_t> widths;
  std::vector<bool> right;
  for (size_t row = 0; row < rows.size(); ++row) {
    widths.resize(std::max(widths.size(), rows[row].size()), 0);
    right.resize(widths.size(), rows.size() > 1);
    for (size_t column = 0; column < rows[row].size(); ++column) {
      widths[column] = std::max(widths[column], rows[row][column].size());
      if (row > 0 && !looks_like_number(rows[row][column])) right[column] = false;
    }
  }
  std::string table;
  for (const auto& row : rows) {
    std::string line;
    for (size_t column = 0; column < row.size(); ++column) {
      const std::string padding(widths[column] - row[column].size(), ' ');
      line += right[column] ? padding + row[column] : row[column] + padding;
      line.append(kColumnGap, ' ');
    }
    table += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return table;
}

std::string format_duration(uint64_t duration_s) {
  const uint64_t days = duration_s / 86'400;
  const uint64_t hours = duration_s / 3'600 % 24;
  const uint64_t minutes = duration_s / 60 % 60;
  if (days > 0) return std::to_string(days) + "d " + std::to_string(hours) + "h";
  if (hours > 0) return std::to_string(hours) + "h " + std::to_string(minutes) + "m";
  if (minutes > 0) return std::to_string(minutes) + "m " + std::to_string(duration_s % 60) + "s";
  return std::to_string(duration_s) + "s";
}

std::string format_ratio(uint64_t part, uint64_t whole) {
  if (whole == 0) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
  return text;
}

std::string format_status(const json& status) {
  const json& daemon = member(status, "daemon");
  StatusText out;
  out.section("daemon");
  out.line("version", text(daemon, "version") + ", pid " + count(daemon, "pid") + ", up " +
                          format_duration(number(daemon, "uptime_s")) + ", " + count(daemon, "shards") +
                          " shards");
  out.line("heap", size(daemon, "heap_allocated_bytes") + " in use, " + size(daemon, "heap_mapped_bytes") +
                       " mapped");
  out.line("sessions", count(status, "sessions"));
  add_memory(&out, member(status, "memory"));
  add_ssd(&out, member(status, "ssd"));
  const json& names = member(status, "names");
  out.section("name table");
  out.line("names, inodes", count(names, "entries") + ", " + count(names, "inodes"));
  add_clients(&out, status);
  add_origin(&out, status);
  return out.str() + "\n" + format_volumes(status);
}

std::string format_sessions(const json& sessions) {
  Rows rows = {{"ID", "PID", "UID", "VOLUME", "AGE", "QUEUES", "PINS", "READ", "HITS (BYTES)", "HITS (READS)",
                "LOOKUPS", "STATE", "MOUNT"}};
  for (const json& session : member(sessions, "sessions")) {
    rows.push_back({text(session, "id"), count(session, "pid"), count(session, "uid"),
                    text(session, "volume"), format_duration(number(session, "age_s")),
                    count(session, "queues"), count(session, "pins"),
                    format_size(number(session, "hit_bytes") + number(session, "miss_bytes")),
                    hit_ratio(session, "hit_bytes", "miss_bytes"), hit_ratio(session, "hits", "misses"),
                    count(session, "lookups"), text(session, "state"), text(session, "label")});
  }
  return rows.size() == 1 ? "no sessions: nothing is mounted\n" : format_table(rows);
}

std::string format_volumes(const json& volumes) {
  Rows rows = {{"VOLUME", "ID", "SIZE", "FILES", "SESSIONS", "SOURCE"}};
  std::string notes;
  for (const json& volume : member(volumes, "volumes")) {
    // The first statfs through a mount starts the count; until it ends the numbers are those of the part that
    // was seen.
    const bool counted = member(volume, "counted") == json(true);
    const bool unknown = !counted && number(volume, "files") == 0;
    const std::string more = counted ? "" : "+";
    rows.push_back({text(volume, "name"), text(volume, "id"), unknown ? "-" : size(volume, "bytes") + more,
                    unknown ? "-" : count(volume, "files") + more, count(volume, "sessions"),
                    text(volume, "source")});
    if (const std::string trouble = text(volume, "trouble"); !trouble.empty())
      notes += text(volume, "name") + ": " + trouble + "\n";
  }
  return format_table(rows) + (notes.empty() ? "" : "\n" + notes);
}

std::string format_devices(const json& devices) {
  Rows rows = {{"STATE", "CAPACITY", "USED", "LIVE", "ENTRIES", "FREE SEGMENTS", "READ", "P50", "P99", "MAX",
                "WRITTEN", "W.AMP", "ERRORS", "DEVICE"}};
  std::string notes;
  for (const json& device : member(devices, "devices")) {
    rows.push_back(device_row(device));
    notes += device_notes(device);
  }
  if (rows.size() == 1)
    return "no devices: the cache is in memory alone; [[device]] in the configuration adds SSDs\n";
  return format_table(rows) + (notes.empty() ? "" : "\n" + notes) + tier_lines(devices);
}

std::string format_drain(const json& device) {
  const std::string is = text(device, "path") + " is " + text(device, "state");
  const std::string entries = count(device, "entries") + " entries";
  if (text(device, "state") == "drained") return is + "; it may be taken out of the configuration\n";
  if (text(device, "state") == "draining") {
    return is + ", " + entries + " to go; `cachedctl devices` shows when it is drained\n";
  }
  return is + ", with " + entries + "\n";
}

std::string format_running_config(const json& config) {
  Rows rows = {{"KEY", "VALUE", "FROM"}};
  for (const json& item : member(config, "values")) {
    const bool set = member(item, "line").is_number();
    rows.push_back({text(item, "key"), text(item, "value"), set ? "line " + count(item, "line") : "default"});
  }
  return "in force; from " + text(config, "file") + "\n" + format_table(rows);
}

std::string format_reload(const json& reload) {
  std::string answer;
  for (const json& change : member(reload, "changed"))
    answer += "in force: " + printable(change.get<std::string>()) + "\n";
  for (const json& change : member(reload, "needs_restart")) {
    answer += "needs a restart: " + printable(change.get<std::string>()) + "\n";
  }
  return answer.empty() ? "nothing changed\n" : answer;
}

std::string format_config(const Config& config) {
  Rows rows = {{"KEY", "VALUE", "FROM"}};
  for (const ConfigItem& item : describe_config(config)) {
    rows.push_back({item.key, item.value, item.line == 0 ? "default" : "line " + std::to_string(item.line)});
  }
  return format_table(rows);
}

}  // namespace cached::ctl
