// The commands about data sets and what the cache holds of them: du, warm, evict, pin, unpin, pins, jobs.
//
// warm, evict and pin start jobs in the daemon and wait for their end, asking a few times a second. Ctrl-C
// cancels the job; so it is only with --background that one goes on when its command is gone.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>

#include "base/units.h"
#include "cached/ctl/commands.h"
#include "cached/ctl/control_client.h"
#include "cached/ctl/place.h"
#include "cached/ctl/reply_text.h"
#include "cached/ctl/tables.h"

namespace cached::ctl {
namespace {

using nlohmann::json;

constexpr std::chrono::milliseconds kFirstPoll{5};
constexpr std::chrono::milliseconds kPoll{200};
constexpr const char* kPlaceHelp = "A path below a mount, VOLUME:/PATH, or the name of a data set";

volatile sig_atomic_t interrupted = 0;

void on_interrupt(int) {
  interrupted = 1;
}

struct JobArguments {
  std::vector<std::string> places;
  std::string rate;
  std::string older;
  unsigned parallel = 16;
  uint64_t cancel = 0;
  bool verify = false;
  bool background = false;
  bool dry_run = false;
};

int fail_with(const ControlReply& reply) {
  return fail(reply.outcome == ControlReply::Outcome::kUnreachable ? kExitUnreachable : kExitError,
              reply.error);
}

int exit_status_of_job(const json& job) {
  const std::string state = text(job, "state");
  if (state == "cancelled") return kExitInterrupted;
  return state == "done" && number(job, "errors") == 0 ? kExitOk : kExitError;
}

// Shows how the job gets on, on a terminal, until it ended; null, with *status set, if it cannot be asked
// for.
json wait_for_job(const CommandLine& line, json job, int* status) {
  const bool show = !line.json && ::isatty(STDERR_FILENO) == 1;
  bool cancel_sent = false;
  for (auto pause = kFirstPoll; text(job, "state") == "running"; pause = std::min(2 * pause, kPoll)) {
    std::this_thread::sleep_for(pause);
    if (interrupted != 0 && !cancel_sent) {
      // Refused if it has just ended: then the next look says so.
      ask_daemon(line.socket, "cancel", {{"job", number(job, "id")}});
      cancel_sent = true;
    }
    const ControlReply reply = ask_daemon(line.socket, "job", {{"job", number(job, "id")}});
    if (reply.outcome != ControlReply::Outcome::kAnswered) {
      *status = fail_with(reply);
      return nullptr;
    }
    job = reply.result;
    if (show) std::fprintf(stderr, "\r\033[K%s", format_progress(job).c_str());
  }
  if (show) std::fprintf(stderr, "\r\033[K");
  return job;
}

// Starts a job for each place, one after the other, and waits for its end. The worst exit status of all.
int run_jobs(const CommandLine& line, const std::string& command, const JobArguments& arguments,
             const json& options) {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  int worst = kExitOk;
  json ended = json::array();
  for (const std::string& argument : arguments.places) {
    const Result<std::string> place = place_of_argument(argument);
    if (!place.ok()) return fail(kExitUsage, place.status().message());
    json request = options;
    request["path"] = *place;
    ControlReply reply = ask_daemon(line.socket, command, std::move(request));
    if (reply.outcome != ControlReply::Outcome::kAnswered) return fail_with(reply);
    int status = kExitOk;
    json job = arguments.background ? reply.result : wait_for_job(line, reply.result, &status);
    if (job.is_null()) return status;
    if (!arguments.background) status = exit_status_of_job(job);
    if (status != kExitOk) worst = status;
    if (!line.json && arguments.background) {
      print("job " + count(job, "id") + ": " + text(job, "what") +
            "; `cachedctl jobs` shows it, `cachedctl " + command + " --cancel " + count(job, "id") +
            "` ends it\n");
    } else if (!line.json) {
      const std::string told = format_job_end(job, arguments.dry_run);
      if (status == kExitOk) print(told);
      if (status != kExitOk) std::fprintf(stderr, "cachedctl: %s", told.c_str());
    }
    ended.push_back(std::move(job));
    if (interrupted != 0) break;
  }
  if (line.json) print_json({{"jobs", ended}});
  return worst;
}

int cancel_job(const CommandLine& line, uint64_t id) {
  return ask_and_print(line, "cancel", {{"job", id}}, [](const json& job) {
    return "job " + count(job, "id") + " of " + text(job, "what") + " is being ended\n";
  });
}

int warm(const CommandLine& line, const std::string& command, const JobArguments& arguments) {
  if (arguments.cancel != 0) return cancel_job(line, arguments.cancel);
  if (arguments.places.empty())
    return fail(kExitUsage, "name what to " + command + "; see cachedctl " + command + " --help");
  json options{{"verify", arguments.verify}, {"parallel", arguments.parallel}};
  if (!arguments.rate.empty()) {
    const Result<uint64_t> rate = parse_size(arguments.rate);
    if (!rate.ok() || *rate == 0)
      return fail(kExitUsage, "--rate: use a size for each second, such as 500MiB");
    options["rate_bytes_per_s"] = *rate;
  }
  return run_jobs(line, command, arguments, options);
}

// "90", "15m", "12h", "7d" in seconds.
std::optional<uint64_t> seconds_of(const std::string& text) {
  size_t digits = 0;
  uint64_t value = 0;
  while (digits < text.size() && std::isdigit(static_cast<unsigned char>(text[digits])) != 0 && digits < 9) {
    value = value * 10 + static_cast<uint64_t>(text[digits++] - '0');
  }
  const std::string unit = text.substr(digits);
  if (digits == 0) return std::nullopt;
  if (unit.empty() || unit == "s") return value;
  if (unit == "m") return value * 60;
  if (unit == "h") return value * 3'600;
  if (unit == "d") return value * 86'400;
  return std::nullopt;
}

int evict(const CommandLine& line, const JobArguments& arguments) {
  json options{{"dry_run", arguments.dry_run}};
  if (!arguments.older.empty()) {
    const std::optional<uint64_t> seconds = seconds_of(arguments.older);
    if (!seconds) return fail(kExitUsage, "--older-than: use a time such as 90s, 15m, 12h or 7d");
    options["older_than_s"] = *seconds;
  }
  return run_jobs(line, "evict", arguments, options);
}

void add_du(CLI::App* app, CommandLine* line) {
  CLI::App* command = app->add_subcommand("du", "How much of each data set is in the cache");
  command->footer(
      "A data set is a volume, or a directory that the configuration names with [[dataset]].\n"
      "  cachedctl du            all of them\n"
      "  cachedctl du speech     one\n"
      "Size and number of files are counted at the origin in the background when you first ask, and again "
      "when\n"
      "the count is older than five minutes. CACHED is what memory and SSDs hold together.");
  const auto data_set = std::make_shared<std::string>();
  command->add_option("DATASET", *data_set, "Its name");
  command->add_flag("--json", line->json, "Print JSON for programs");
  command->callback([=] {
    line->run = [=] {
      json arguments = json::object();
      if (!data_set->empty()) arguments["data_set"] = *data_set;
      return ask_and_print(*line, "du", arguments, format_du);
    };
  });
}

void add_warm(CLI::App* app, CommandLine* line) {
  CLI::App* command = app->add_subcommand("warm", "Bring files into the cache before they are read");
  command->footer(
      "  cachedctl warm /mnt/data/speech                 everything below, with a progress bar; Ctrl-C ends "
      "it\n"
      "  cachedctl warm data:/speech data:/text --background --rate 200MiB\n"
      "  cachedctl warm --cancel 3                       ends job 3\n"
      "Anybody may warm what they may read. What is cached already costs nothing, so starting it again goes "
      "on\n"
      "where it stopped. With SSDs, what does not fit into memory ends up there. Foreground reads go first.");
  const auto arguments = std::make_shared<JobArguments>();
  command->add_option("PATH", arguments->places, kPlaceHelp);
  command->add_option("--rate", arguments->rate, "At most so much each second, such as 500MiB");
  command->add_option("--parallel", arguments->parallel, "Pieces of 4 MiB, or files, in flight")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  command->add_flag("--verify", arguments->verify,
                    "Compare all that is cached with the origin, reading it again");
  command->add_flag("--background", arguments->background, "Start it and return; `cachedctl jobs` shows it");
  command->add_option("--cancel", arguments->cancel,
                      "End this job of `cachedctl jobs`, yours or, for root, any");
  command->add_flag("--json", line->json, "Print JSON for programs");
  command->callback([=] { line->run = [=] { return warm(*line, "warm", *arguments); }; });
}

void add_evict(CLI::App* app, CommandLine* line) {
  CLI::App* command = app->add_subcommand("evict", "Take files out of the cache; never touches the origin");
  command->footer(
      "  cachedctl evict data:/old-speech --dry-run      what would go?\n"
      "  sudo cachedctl evict speech                     a data set or a volume, deleted files included\n"
      "  sudo cachedctl evict data --older-than 7d       what was not used for a week, as far as the cache "
      "knows\n"
      "Anybody may evict what they may read. What is pinned, or being read at this moment, stays.");
  const auto arguments = std::make_shared<JobArguments>();
  command->add_option("PATH", arguments->places, kPlaceHelp)->required();
  command->add_option("--older-than", arguments->older,
                      "Only what was not used for so long: 90s, 15m, 12h, 7d (data sets; root)");
  command->add_flag("--dry-run", arguments->dry_run, "Change nothing, say what would go");
  command->add_flag("--json", line->json, "Print JSON for programs");
  command->callback([=] { line->run = [=] { return evict(*line, *arguments); }; });
}

void add_pin(CLI::App* app, CommandLine* line) {
  CLI::App* pin =
      app->add_subcommand("pin", "Bring files into memory and keep them there (root, or the daemon's user)");
  pin->footer(
      "A pin holds what lies below PATH at that moment, whole or not at all, until `unpin` or the daemon's "
      "end;\n"
      "memory.pin_limit bounds all pins together. `cachedctl pins` lists them.");
  const auto arguments = std::make_shared<JobArguments>();
  pin->add_option("PATH", arguments->places, kPlaceHelp)->required();
  pin->add_flag("--background", arguments->background, "Start it and return; `cachedctl jobs` shows it");
  pin->add_flag("--json", line->json, "Print JSON for programs");
  pin->callback([=] { line->run = [=] { return warm(*line, "pin", *arguments); }; });

  CLI::App* unpin = app->add_subcommand("unpin", "Take `pin` back (root, or the daemon's user)");
  const auto place = std::make_shared<std::string>();
  unpin->add_option("PATH", *place, "As `cachedctl pins` shows it, or as it was given")->required();
  unpin->add_flag("--json", line->json, "Print JSON for programs");
  unpin->callback([=] {
    line->run = [=] {
      const Result<std::string> meant = place_of_argument(*place);
      if (!meant.ok()) return fail(kExitUsage, meant.status().message());
      return ask_and_print(*line, "unpin", {{"path", *meant}}, format_unpin);
    };
  });
}

void add_list(CLI::App* app, CommandLine* line, const char* name, const char* help,
              std::string (*format)(const json&)) {
  CLI::App* command = app->add_subcommand(name, help);
  command->add_flag("--json", line->json, "Print JSON for programs");
  command->callback([=] { line->run = [=] { return ask_and_print(*line, name, json::object(), format); }; });
}

}  // namespace

void add_data_set_commands(CLI::App* app, CommandLine* line) {
  add_du(app, line);
  add_warm(app, line);
  add_evict(app, line);
  add_pin(app, line);
  add_list(app, line, "pins", "What is pinned, and the limit", format_pins);
  add_list(app, line, "jobs", "What warm, evict and pin do in the background, or did lately", format_jobs);
}

}  // namespace cached::ctl
