// The command line of cached-bench: options of the program, jobs by --name, job files.
#pragma once

#include <span>
#include <string>

#include "base/status.h"
#include "bench/job_file.h"
#include "bench/options.h"

namespace cached::bench {

struct CommandLine {
  bool help = false;     // nothing else counts
  bool version = false;  // nor here
  ProgramOptions program;
  JobList list;
};

// Reads `arguments`, without the program's name, and the job files that they name. EINVAL with a message that
// names the option, or the file, line and key.
Result<CommandLine> parse_command_line(std::span<const std::string> arguments);

}  // namespace cached::bench
