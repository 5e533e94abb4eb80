// cachedctl volume: looks after data sets in RADOS: list, info, snapshots, verify, remove-snapshot, collect,
// destroy. They work on the cluster itself and need no daemon.
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <memory>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"
#include "cached/ctl/commands.h"
#include "cached/ctl/rados_access.h"
#include "cached/import/collector.h"
#include "cached/import/journal.h"
#include "cached/import/verifier.h"
#include "cached/import/volume_head.h"

namespace cached::ctl {
namespace {

constexpr int64_t kNanosecondsInSecond = 1'000'000'000;

struct VolumeArguments {
  std::string config = kDefaultConfigFile;
  std::string volume;
  uint64_t snapshot = 0;
  uint32_t grace_s = 300;
  bool no_wait = false;
  bool orphans = false;
  bool unfinished = false;
  bool yes = false;
};

using Work = std::function<int(const DatasetAccess&, const VolumeArguments&, bool json)>;

int with_dataset(const VolumeArguments& arguments, bool json, const Work& work) {
  const Result<DatasetAccess> access = open_dataset(arguments.config, arguments.volume);
  if (!access.ok()) return fail(exit_status_of(access.status()), access.status().message());
  return work(*access, arguments, json);
}

std::string format_time(int64_t time_ns) {
  const std::time_t seconds = time_ns / kNanosecondsInSecond;
  std::tm parts{};
  ::localtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  return text;
}

int list_volumes(const VolumeArguments& arguments, bool json) {
  const Result<std::vector<DatasetAccess>> stores = open_all_stores(arguments.config);
  if (!stores.ok()) return fail(exit_status_of(stores.status()), stores.status().message());
  nlohmann::json items = nlohmann::json::array();
  std::string text;
  for (const DatasetAccess& access : *stores) {
    const Result<std::vector<std::string>> names = import::list_volumes(*access.store);
    if (!names.ok()) return fail(kExitError, names.status().message());
    for (const std::string& name : *names) {
      const Result<volume::Head> head = import::load_head(*access.store, name);
      if (head.error_number() == ENOENT) continue;  // made or destroyed at this moment
      const volume::SnapshotMark* const current = head.ok() ? head->find_snapshot(head->current) : nullptr;
      const std::string place = access.place + "/" + name;
      items.push_back({{"volume", place},
                       {"snapshot", current == nullptr ? 0 : current->number},
                       {"files", current == nullptr ? 0 : current->files},
                       {"bytes", current == nullptr ? 0 : current->bytes},
                       {"error", head.status().message()}});
      if (!head.ok()) {
        text += place + "  " + head.status().message() + "\n";
      } else if (current == nullptr) {
        text += place + "  no snapshot yet\n";
      } else {
        text += fmt::format("{}  snapshot {}, {} files, {}\n", place, current->number, current->files,
                            format_size(current->bytes));
      }
    }
  }
  return json ? print_json(items) : print(text);
}

nlohmann::json to_json(const volume::SnapshotMark& mark, bool current) {
  return {{"number", mark.number},
          {"published_at", mark.published_at_ns / kNanosecondsInSecond},
          {"delete_at", mark.delete_at_ns / kNanosecondsInSecond},
          {"files", mark.files},
          {"bytes", mark.bytes},
          {"current", current}};
}

int show_snapshots(const DatasetAccess& access, const VolumeArguments&, bool json) {
  const Result<volume::Head> head = import::load_head(*access.store, access.dataset);
  if (!head.ok()) return fail(kExitError, head.status().message());
  nlohmann::json items = nlohmann::json::array();
  std::string text;
  for (const volume::SnapshotMark& mark : head->snapshots) {
    items.push_back(to_json(mark, mark.number == head->current));
    text +=
        fmt::format("{:>6}  {}  {:>10} files  {:>9}{}{}\n", mark.number, format_time(mark.published_at_ns),
                    mark.files, format_size(mark.bytes), mark.number == head->current ? "  current" : "",
                    mark.delete_at_ns == 0 ? "" : "  goes at " + format_time(mark.delete_at_ns));
  }
  return json ? print_json(items) : print(text);
}

int show_info(const DatasetAccess& access, const VolumeArguments&, bool json) {
  const Result<volume::Head> head = import::load_head(*access.store, access.dataset);
  if (!head.ok()) return fail(kExitError, head.status().message());
  nlohmann::json result = {{"volume", access.place},
                           {"snapshots", head->snapshots.size()},
                           {"current", head->current},
                           {"unfinished_imports", head->imports.size()}};
  std::string text =
      fmt::format("volume              {}\nsnapshots           {}\n", access.place, head->snapshots.size());
  for (const volume::ImportMark& mark : head->imports) {
    const Result<import::ImportOwner> owner = import::load_owner(*access.store, access.dataset, mark.id);
    const bool alive = owner.ok() && owner->alive(system_clock().realtime_ns());
    text += fmt::format("unfinished import   begun {}, {}\n", format_time(mark.started_at_ns),
                        alive ? fmt::format("runs on {} as process {}", printable(owner->host), owner->pid)
                              : "interrupted; the next import goes on with it");
  }
  if (const volume::SnapshotMark* const mark = head->find_snapshot(head->current)) {
    const Result<volume::SnapshotRecord> record = import::load_snapshot(*access.store, access.dataset, *mark);
    if (!record.ok()) return fail(kExitError, record.status().message());
    result["snapshot"] = {{"number", mark->number},
                          {"published_at", mark->published_at_ns / kNanosecondsInSecond},
                          {"source", record->source},
                          {"host", record->host},
                          {"names", record->entries},
                          {"files", record->files},
                          {"directories", record->directories},
                          {"bytes", record->bytes},
                          {"stored_bytes", record->stored_bytes},
                          {"objects", record->objects},
                          {"metadata_bytes", record->metadata_bytes()}};
    text += fmt::format(
        "current snapshot    {}, published {}\nimported from       {} on {}\nfiles               {} in {} "
        "directories\nsize                {}, {} stored in {} objects\nmetadata            {}, {:.0f} bytes "
        "a name\n",
        mark->number, format_time(mark->published_at_ns), printable(record->source), printable(record->host),
        record->files, record->directories, format_size(record->bytes), format_size(record->stored_bytes),
        record->objects, format_size(record->metadata_bytes()),
        static_cast<double>(record->metadata_bytes()) / static_cast<double>(record->entries));
  }
  return json ? print_json(result) : print(text);
}

int verify(const DatasetAccess& access, const VolumeArguments& arguments, bool json) {
  std::atomic<uint64_t> done{0};
  Result<import::VerifyReport> report = Status(EIO, "not run");
  {
    const ProgressDisplay display("verify", [&done] { return Advance{.bytes = done}; });
    report = import::verify_volume(access.store, {.volume = access.dataset, .snapshot = arguments.snapshot},
                                   &done);
  }
  if (!report.ok()) return fail(kExitError, report.status().message());
  for (const std::string& problem : report->problems) fail(kExitError, problem);
  if (json) {
    print_json({{"snapshots", report->snapshots},
                {"pages", report->pages},
                {"objects", report->objects},
                {"bytes", report->bytes},
                {"orphans", report->orphans},
                {"problems", report->problems},
                {"problem_count", report->problem_count}});
  } else {
    print(fmt::format(
        "{} snapshots, {} pages of metadata and {} in {} objects read back and proved{}\n", report->snapshots,
        report->pages, format_size(report->bytes), report->objects,
        report->orphans == 0
            ? ""
            : fmt::format("; {} orphans: cachedctl volume collect --orphans removes them", report->orphans)));
  }
  if (report->problem_count == 0) return kExitOk;
  return fail(kExitError, fmt::format("{} is damaged: {} problems", access.place, report->problem_count));
}

int run_collect(const DatasetAccess& access, const VolumeArguments& arguments, bool json) {
  const Result<import::CollectReport> report = import::collect(
      access.store, access.dataset, {.orphans = arguments.orphans, .unfinished = arguments.unfinished});
  if (!report.ok()) return fail(kExitError, report.status().message());
  if (json) {
    return print_json({{"snapshots", report->snapshots},
                       {"objects", report->objects},
                       {"next_delete_at", report->next_delete_at_ns / kNanosecondsInSecond}});
  }
  return print(fmt::format("{} snapshots and {} objects removed{}\n", report->snapshots, report->objects,
                           report->next_delete_at_ns == 0
                               ? ""
                               : "; the next one may go at " + format_time(report->next_delete_at_ns)));
}

int remove_snapshot(const DatasetAccess& access, const VolumeArguments& arguments, bool json) {
  const int64_t due_ns = system_clock().realtime_ns() + arguments.grace_s * kNanosecondsInSecond;
  const Status status = import::mark_snapshot(*access.store, access.dataset, arguments.snapshot, due_ns);
  if (!status.ok()) return fail(kExitError, status.message());
  if (arguments.no_wait) {
    return print(fmt::format("snapshot {} goes with the first import or cachedctl volume collect after {}\n",
                             arguments.snapshot, format_time(due_ns)));
  }
  if (arguments.grace_s > 0 && !json) {
    print(fmt::format("readers of snapshot {} have {} s; interrupted, cachedctl volume collect goes on\n",
                      arguments.snapshot, arguments.grace_s));
  }
  const int64_t left_ns = due_ns - system_clock().realtime_ns();
  if (left_ns > 0) std::this_thread::sleep_for(std::chrono::nanoseconds(left_ns + 1));
  return run_collect(access, arguments, json);
}

int destroy(const DatasetAccess& access, const VolumeArguments& arguments, bool json) {
  if (!arguments.yes) {
    return fail(kExitUsage, "this removes " + access.place +
                                " with all its snapshots, whoever reads it; say --yes if that is meant");
  }
  const Result<uint64_t> removed = import::destroy_volume(*access.store, access.dataset);
  if (!removed.ok()) return fail(kExitError, removed.status().message());
  if (json) return print_json({{"objects", *removed}});
  return print(fmt::format("{} is gone: {} objects removed\n", access.place, *removed));
}

}  // namespace

void add_volume_commands(CLI::App* app, CommandLine* line) {
  const auto arguments = std::make_shared<VolumeArguments>();
  CLI::App* group = app->add_subcommand("volume", "Look after data sets in RADOS; needs no daemon");
  const auto add = [&](const char* name, const char* help, const Work& work) {
    CLI::App* command = group->add_subcommand(name, help);
    command->add_option("VOLUME", arguments->volume, kVolumeHelp)->required();
    command->callback([=] { line->run = [=] { return with_dataset(*arguments, line->json, work); }; });
    return command;
  };
  CLI::App* list = group->add_subcommand("list", "The data sets that are in the configured pools");
  list->callback([=] { line->run = [=] { return list_volumes(*arguments, line->json); }; });
  CLI::App* info = add("info", "What a data set holds, and unfinished imports", show_info);
  CLI::App* snapshots = add("snapshots", "The snapshots of a data set", show_snapshots);
  CLI::App* check = add("verify", "Read everything back, prove every checksum, find orphans", verify);
  check->add_option("--snapshot", arguments->snapshot, "Only this one, without looking for orphans");
  CLI::App* remove = add("remove-snapshot", "Remove a snapshot and what only it uses", remove_snapshot);
  remove->add_option("NUMBER", arguments->snapshot, "Its number")->required();
  remove->add_option("--grace", arguments->grace_s, "Seconds in which readers may finish")
      ->capture_default_str();
  remove->add_flag("--no-wait", arguments->no_wait,
                   "Do not wait for the end of the grace; collect removes it later");
  CLI::App* collect_command = add("collect", "Remove what was marked and whose grace is over", run_collect);
  collect_command->add_flag("--orphans", arguments->orphans,
                            "Also objects that nothing refers to; lists the pools");
  collect_command->add_flag("--unfinished", arguments->unfinished, "Also forget interrupted imports");
  CLI::App* destruction = add("destroy", "Remove a data set with all its snapshots", destroy);
  destruction->add_flag("--yes", arguments->yes, "It is meant");
  for (CLI::App* command : {list, info, snapshots, check, remove, collect_command, destruction}) {
    command->add_option("--config", arguments->config, kConfigHelp)->capture_default_str();
    command->add_flag("--json", line->json, "Print JSON for programs");
  }
}

}  // namespace cached::ctl
