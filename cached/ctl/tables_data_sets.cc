// What the daemon says of data sets, as tables for a person: see tables.h.
#include <algorithm>
#include <functional>

#include "cached/ctl/reply_text.h"
#include "cached/ctl/tables.h"

namespace cached::ctl {
namespace {

using nlohmann::json;
using Rows = std::vector<std::vector<std::string>>;

constexpr unsigned kBarWidth = 24;

std::string bar(uint64_t part, uint64_t whole) {
  const uint64_t filled = whole == 0 ? 0 : std::min<uint64_t>(kBarWidth, part * kBarWidth / whole);
  return "[" + std::string(filled, '#') + std::string(kBarWidth - filled, '.') + "]";
}

std::string rate(const json& job) {
  return format_size(number(job, "bytes_per_s")) + "/s";
}

std::string files(uint64_t count) {
  return std::to_string(count) + (count == 1 ? " file" : " files");
}

}  // namespace

std::string format_progress(const json& job) {
  const uint64_t done = number(job, "bytes");
  const uint64_t total = number(job, "bytes_total");
  const bool known = member(job, "total_known") == json(true);
  std::string line = text(job, "what") + " " + bar(done, total) + " " + format_size(done) + " of " +
                     format_size(total) + (known ? "" : "+") + ", " + files(number(job, "files")) + ", " +
                     rate(job);
  if (member(job, "remaining_s").is_number())
    line += ", " + format_duration(number(job, "remaining_s")) + " left";
  return line;
}

std::string format_job_end(const json& job, bool dry_run) {
  const std::string state = text(job, "state");
  std::string answer = text(job, "what") + ": ";
  if (text(job, "kind") == "evict") {
    answer += std::string(dry_run ? "would evict " : "evicted ") + count(job, "evicted_blocks") +
              " blocks: " + size(job, "evicted_memory_bytes") + " from memory, " +
              size(job, "evicted_ssd_bytes") + " from SSDs";
  } else {
    const uint64_t bytes = number(job, "bytes");
    answer += std::string(text(job, "kind") == "pin" ? "pinned " : "warm: ") + format_size(bytes) + " in " +
              files(number(job, "files")) + ", " + size(job, "fetched_bytes") + " of it brought in, in " +
              format_duration(number(job, "elapsed_s")) + " (" + rate(job) + ")";
    if (number(job, "verified_bytes") > 0)
      answer += ", " + size(job, "verified_bytes") + " proved against the origin";
  }
  if (state != "done") answer += "; " + state;
  answer += "\n";
  if (number(job, "refused") > 0)
    answer += "  left out, because you may not read them: " + count(job, "refused") + "\n";
  if (number(job, "errors") > 0) answer += "  failed: " + files(number(job, "errors")) + "\n";
  if (!text(job, "error").empty()) answer += "  " + text(job, "error") + "\n";
  return answer;
}

std::string format_jobs(const json& jobs) {
  Rows rows = {{"JOB", "KIND", "STATE", "UID", "DONE", "OF", "FILES", "RATE", "LEFT", "ERRORS", "PLACE"}};
  for (const json& job : member(jobs, "jobs")) {
    const bool left = member(job, "remaining_s").is_number();
    rows.push_back({count(job, "id"), text(job, "kind"), text(job, "state"), count(job, "uid"),
                    size(job, "bytes"),
                    size(job, "bytes_total") + (member(job, "total_known") == json(true) ? "" : "+"),
                    count(job, "files"), rate(job), left ? format_duration(number(job, "remaining_s")) : "-",
                    count(job, "errors"), text(job, "what")});
  }
  return rows.size() == 1 ? "no jobs\n" : format_table(rows);
}

std::string format_pins(const json& pins) {
  Rows rows = {{"SIZE", "FILES", "UID", "PLACE"}};
  for (const json& pin : member(pins, "pins")) {
    rows.push_back({size(pin, "bytes"), count(pin, "files"), count(pin, "uid"), text(pin, "place")});
  }
  return (rows.size() == 1 ? "nothing is pinned" : format_table(rows)) + "\n" + size(pins, "pinned_bytes") +
         " of " + size(pins, "limit_bytes") + " (memory.pin_limit) are taken\n";
}

std::string format_unpin(const json& pin) {
  return text(pin, "place") + ": " + size(pin, "bytes") + " in " + files(number(pin, "files")) +
         " are not pinned any more; they stay in the cache until others need the room\n";
}

std::string format_top(const json& before, const json& after) {
  const double seconds = static_cast<double>(number(after, "at_ns") - number(before, "at_ns")) / 1e9;
  const auto rows_of = [&](const char* list, const char* key, const std::vector<const char*>& shown,
                           Rows rows) {
    std::vector<std::pair<uint64_t, std::vector<std::string>>> ranked;
    for (const json& entry : member(after, list)) {
      json earlier;
      for (const json& candidate : member(before, list)) {
        if (member(candidate, key) == member(entry, key)) earlier = candidate;
      }
      const auto grown = [&](const char* counter) {
        return number(entry, counter) - std::min(number(entry, counter), number(earlier, counter));
      };
      const auto per_second = [&](const char* counter) {
        return static_cast<uint64_t>(static_cast<double>(grown(counter)) / std::max(seconds, 1e-3));
      };
      std::vector<std::string> row;
      for (const char* const column : shown) row.push_back(text(entry, column));
      row.push_back(format_size(per_second("read_bytes")) + "/s");
      row.push_back(std::to_string(per_second("reads")));
      row.push_back(format_ratio(grown("hit_bytes"), grown("hit_bytes") + grown("miss_bytes")));
      row.push_back(format_size(per_second("miss_bytes")) + "/s");
      row.push_back(std::to_string(per_second("lookups")));
      ranked.emplace_back(grown("read_bytes"), std::move(row));
    }
    std::ranges::stable_sort(ranked, std::greater<>(), &std::pair<uint64_t, std::vector<std::string>>::first);
    for (auto& [bytes, row] : ranked) rows.push_back(std::move(row));
    return format_table(rows);
  };
  const std::vector<std::string> figures = {"READ", "READS/S", "HITS (BYTES)", "MISSED", "LOOKUPS/S"};
  const auto heading = [&](std::vector<std::string> first) {
    first.insert(first.end(), figures.begin(), figures.end());
    return Rows{std::move(first)};
  };
  return rows_of("mounts", "id", {"label", "volume", "uid", "pid"},
                 heading({"MOUNT", "VOLUME", "UID", "PID"})) +
         "\n" + rows_of("users", "uid", {"uid"}, heading({"UID"})) + "\n" +
         rows_of("data_sets", "name", {"name"}, heading({"DATA SET"}));
}

std::string format_du(const json& du) {
  Rows rows = {{"DATA SET", "SIZE", "FILES", "CACHED", "%", "MEMORY", "SSD", "IN MEMORY", "ON SSD", "PLACE"}};
  bool counting = false;
  for (const json& set : member(du, "data_sets")) {
    const bool counted = member(set, "counted") == json(true);
    const bool unknown = !counted && number(set, "files") == 0;
    const std::string more = counted ? "" : "+";
    counting |= !counted;
    rows.push_back({text(set, "name"), unknown ? "-" : size(set, "bytes") + more,
                    unknown ? "-" : count(set, "files") + more, size(set, "cached_bytes"),
                    counted ? format_ratio(number(set, "cached_bytes"), number(set, "bytes")) : "-",
                    size(set, "memory_bytes"), size(set, "ssd_bytes"), count(set, "memory_files") + " files",
                    count(set, "ssd_files") + " files", text(set, "volume") + ":" + text(set, "directory")});
  }
  return format_table(rows) + (counting ? "\n-, +: still being counted at the origin; ask again\n" : "");
}

}  // namespace cached::ctl
