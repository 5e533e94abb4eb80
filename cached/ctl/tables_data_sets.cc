// What the daemon says of data sets, as tables for a person: see tables.h.
#include "cached/ctl/reply_text.h"
#include "cached/ctl/tables.h"

namespace cached::ctl {
namespace {

using nlohmann::json;
using Rows = std::vector<std::vector<std::string>>;

}  // namespace

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
