// Warm, evict, pin and their jobs, as control commands: see data_set_commands.h.
#include "cached/server/data_set_commands.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/log.h"
#include "cached/server/evict.h"

namespace cached::server {
namespace {

using admin::ControlRequest;
using nlohmann::json;

constexpr uint64_t kMaximumParallel = 256;
constexpr unsigned kEndWaitMs = 5'000;

// The argument `name` if it is there, a whole number up to `maximum`.
Result<uint64_t> number_argument(const ControlRequest& request, const char* name, uint64_t preset,
                                 uint64_t maximum) {
  const auto found = request.arguments.find(name);
  if (found == request.arguments.end()) return preset;
  if (found->is_number_unsigned() && found->get<uint64_t>() <= maximum) return found->get<uint64_t>();
  return Status(EINVAL,
                std::string("\"") + name + "\" must be a whole number from 0 to " + std::to_string(maximum));
}

Result<bool> flag_argument(const ControlRequest& request, const char* name) {
  const auto found = request.arguments.find(name);
  if (found == request.arguments.end()) return false;
  if (found->is_boolean()) return found->get<bool>();
  return Status(EINVAL, std::string("\"") + name + "\" must be true or false");
}

// "/a//b/" as "a/b". Nothing if it climbs out or holds a zero byte.
std::optional<std::string> path_in_volume(const std::string& text) {
  std::string path = std::filesystem::path(text).lexically_normal();
  path.erase(0, path.find_first_not_of('/'));
  while (path.ends_with('/')) path.pop_back();
  const bool climbs = path == ".." || path.starts_with("../");
  if (climbs || path.find('\0') != std::string::npos) return std::nullopt;
  return path == "." ? "" : path;
}

}  // namespace

DataSetCommands::~DataSetCommands() {
  jobs_.cancel_all(kEndWaitMs);
}

admin::ControlCommands DataSetCommands::commands() {
  return {
      {"warm", [this](const ControlRequest& request) { return warm(request, JobKind::kWarm); }},
      {"evict", [this](const ControlRequest& request) { return evict(request); }},
      {"pin",
       admin::for_operator([this](const ControlRequest& request) { return warm(request, JobKind::kPin); })},
      {"unpin", admin::for_operator([this](const ControlRequest& request) { return unpin(request); })},
      {"pins", [this](const ControlRequest&) -> Result<json> { return pins_.to_json(); }},
      {"jobs",
       [this](const ControlRequest&) -> Result<json> {
         return json{{"jobs", jobs_.to_json()}};
       }},
      {"job", [this](const ControlRequest& request) { return job(request); }},
      {"cancel", [this](const ControlRequest& request) { return cancel(request); }},
  };
}

Result<DataSetCommands::Place> DataSetCommands::place_of(const ControlRequest& request) const {
  const Result<std::string> text = request.text_argument("path");
  if (!text.ok()) return text.status();
  const std::shared_ptr<const dataset::DataSets> sets = sets_.load();
  Place place;
  const dataset::DataSet* set = sets->by_name(*text);
  if (set != nullptr) {
    place.path = set->directory;
  } else {
    const size_t colon = text->find(":/");
    const auto path = colon == std::string::npos ? std::nullopt : path_in_volume(text->substr(colon + 1));
    const dataset::DataSet* const volume = path ? sets->by_name(text->substr(0, colon)) : nullptr;
    if (volume == nullptr || !volume->directory.empty()) {
      return Status(ENOENT,
                    "\"" + printable(*text) +
                        "\" is neither VOLUME:/PATH nor the name of a data set; `cachedctl du` lists those");
    }
    place.path = *path;
    set = sets->by_place(volume->name, *path);
    place.volume = volume->volume;
  }
  if (set != nullptr) {
    place.volume = set->volume;
    place.tags = set->tags;
  }
  place.name = place.volume->name() + ":/" + place.path;
  return place;
}

dataset::Caller DataSetCommands::caller_of(const ControlRequest& request) {
  return {request.from_operator(), request.uid, request.gid, request.groups};
}

Result<json> DataSetCommands::warm(const ControlRequest& request, JobKind kind) {
  const Result<Place> place = place_of(request);
  if (!place.ok()) return place.status();
  const Result<uint64_t> rate = number_argument(request, "rate_bytes_per_s", 0, UINT64_MAX);
  if (!rate.ok()) return rate.status();
  const Result<uint64_t> parallel =
      number_argument(request, "parallel", WarmOptions{}.parallel, kMaximumParallel);
  if (!parallel.ok()) return parallel.status();
  const Result<bool> verify = flag_argument(request, "verify");
  if (!verify.ok()) return verify.status();
  const bool pin = kind == JobKind::kPin;
  if (pin && pins_.contains(place->name)) {
    return Status(EEXIST, place->name + " is pinned already; unpin it to pin what it is now");
  }
  Result<std::shared_ptr<Job>> made = jobs_.add(kind, request.uid, request.from_operator(), place->name);
  if (!made.ok()) return made.status();
  WarmRequest warm;
  warm.job = *made;
  warm.volume = place->volume;
  warm.path = place->path;
  warm.caller = caller_of(request);
  warm.options.rate_bytes_s = *rate;
  warm.options.parallel = std::max(1U, static_cast<unsigned>(*parallel));
  warm.options.verify = *verify;
  warm.pins = pin ? &pins_ : nullptr;
  start_warm(std::move(warm), shards_);
  return (*made)->to_json();
}

Result<json> DataSetCommands::evict(const ControlRequest& request) {
  const Result<Place> place = place_of(request);
  if (!place.ok()) return place.status();
  const Result<uint64_t> older = number_argument(request, "older_than_s", 0, UINT32_MAX);
  if (!older.ok()) return older.status();
  const Result<bool> dry_run = flag_argument(request, "dry_run");
  if (!dry_run.ok()) return dry_run.status();
  EvictRequest evict;
  evict.volume = place->volume;
  evict.path = place->path;
  evict.caller = caller_of(request);
  evict.dry_run = *dry_run;
  evict.idle_ns = *older * kNanosecondsPerSecond;
  if (request.from_operator()) evict.tags = place->tags;
  if (*older != 0 && evict.tags.empty()) {
    return Status(
        EINVAL,
        request.from_operator()
            ? place->name + " is no data set, and what was not used for long is known of data sets only"
            : "by age, only root and the daemon's own user evict: it may be what others read");
  }
  Result<std::shared_ptr<Job>> made =
      jobs_.add(JobKind::kEvict, request.uid, request.from_operator(), place->name);
  if (!made.ok()) return made.status();
  evict.job = *made;
  start_evict(std::move(evict), shards_);
  return (*made)->to_json();
}

Result<json> DataSetCommands::unpin(const ControlRequest& request) {
  const Result<std::string> text = request.text_argument("path");
  if (!text.ok()) return text.status();
  // A pin outlives its data set and its volume in the configuration, so its own name will do.
  std::string name = *text;
  if (!pins_.contains(name)) {
    const Result<Place> place = place_of(request);
    if (!place.ok()) return place.status();
    name = place->name;
  }
  Result<PinTable::Pin> pin = pins_.take(name);
  if (!pin.ok()) return pin.status();
  json answer{{"place", pin->place}, {"bytes", pin->bytes}, {"files", pin->files}};
  unpin_slots(std::move(pin->slots));
  return answer;
}

Result<json> DataSetCommands::job(const ControlRequest& request) const {
  const Result<uint64_t> id = number_argument(request, "job", 0, UINT64_MAX);
  if (!id.ok()) return id.status();
  const std::shared_ptr<Job> found = jobs_.find(*id);
  if (found == nullptr)
    return Status(ENOENT, "there is no job " + std::to_string(*id) + "; `cachedctl jobs` lists them");
  return found->to_json();
}

Result<json> DataSetCommands::cancel(const ControlRequest& request) {
  const Result<uint64_t> id = number_argument(request, "job", 0, UINT64_MAX);
  if (!id.ok()) return id.status();
  const std::shared_ptr<Job> found = jobs_.find(*id);
  if (found == nullptr)
    return Status(ENOENT, "there is no job " + std::to_string(*id) + "; `cachedctl jobs` lists them");
  if (!request.from_operator() && request.uid != found->uid) {
    return Status(EPERM, "job " + std::to_string(*id) + " is of uid " + std::to_string(found->uid) +
                             ", and you are uid " + std::to_string(request.uid));
  }
  if (!found->running()) return Status(EALREADY, "job " + std::to_string(*id) + " has ended already");
  found->cancelled = true;
  return found->to_json();
}

}  // namespace cached::server
