// The commands about data sets and what the cache holds of them: du.
#include <memory>

#include "cached/ctl/commands.h"
#include "cached/ctl/tables.h"

namespace cached::ctl {
namespace {

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
      nlohmann::json arguments = nlohmann::json::object();
      if (!data_set->empty()) arguments["data_set"] = *data_set;
      return ask_and_print(*line, "du", arguments, format_du);
    };
  });
}

}  // namespace

void add_data_set_commands(CLI::App* app, CommandLine* line) {
  add_du(app, line);
}

}  // namespace cached::ctl
