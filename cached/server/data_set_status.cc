// Figures of data sets: see data_set_status.h.
#include "cached/server/data_set_status.h"

#include "base/log.h"
#include "cached/server/ask_shards.h"

namespace cached::server {
namespace {

using dataset::DataSet;
using dataset::DataSets;
using memory_tier::DataSetCount;
using nlohmann::json;

DataSetCount sum_of(const std::vector<DataSetCount>& by_tag, const std::vector<uint16_t>& tags) {
  DataSetCount sum;
  for (const uint16_t tag : tags) {
    if (tag < by_tag.size()) sum += by_tag[tag];
  }
  return sum;
}

json data_set_json(const DataSet& set, const std::vector<ShardDataSetUse>& shards) {
  DataSetCount memory;
  DataSetCount ssd;
  for (const ShardDataSetUse& shard : shards) {
    memory += sum_of(shard.memory, set.tags);
    ssd += sum_of(shard.ssd, set.tags);
  }
  const volume::TreeTotals totals = set.volume->tree_totals(set.directory);
  return {{"name", set.name},
          {"volume", set.volume_name},
          {"directory", "/" + set.directory},
          {"tag", set.tag},
          {"bytes", totals.bytes},
          {"files", totals.files},
          {"counted", totals.counted},
          {"memory_bytes", memory.bytes},
          {"memory_files", memory.heads},
          {"ssd_bytes", ssd.bytes},
          {"ssd_files", ssd.heads},
          {"cached_bytes", ssd.bytes + memory.only_bytes}};
}

std::string names_of(const DataSets& sets) {
  std::string names;
  for (const DataSet& set : sets.list()) names += (names.empty() ? "" : ", ") + set.name;
  return names;
}

}  // namespace

Result<json> DataSetReporter::du(const admin::ControlRequest& request) {
  const std::shared_ptr<const DataSets> sets = sets_.load();
  const DataSet* wanted = nullptr;
  if (request.arguments.contains("data_set")) {
    const Result<std::string> name = request.text_argument("data_set");
    if (!name.ok()) return name.status();
    wanted = sets->by_name(*name);
    if (wanted == nullptr) {
      return Status(ENOENT, "\"" + printable(*name) + "\" is no data set; those are: " + names_of(*sets) +
                                ". A section [[dataset]] in the configuration and a reload add one");
    }
  }
  const auto shards = ask_shards(shards_, [](const Shard& shard) { return shard.data_set_use(); });
  if (!shards.ok()) return shards.status();
  json list = json::array();
  for (const DataSet& set : sets->list()) {
    if (wanted == nullptr || wanted == &set) list.push_back(data_set_json(set, *shards));
  }
  return json{{"data_sets", list}};
}

}  // namespace cached::server
