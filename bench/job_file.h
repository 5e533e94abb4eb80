// Job files in fio's format: [section]s of key=value lines; [global] holds for the sections that follow it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "bench/options.h"

namespace cached::bench {

// The jobs of one or more files, and what [global] sections said, for the report.
struct JobList {
  std::vector<BenchOptions> jobs;
  std::vector<GivenOption> global;
};

// Appends the jobs of `text` to *list, each begun as a copy of `defaults`. ';' and '#' begin comments;
// ${NAME} stands for the environment variable. The error names `path`, the line and the key.
Status parse_job_file(std::string_view text, const std::string& path, const BenchOptions& defaults,
                      JobList* list);

// The same for the file at `path`; "-" is standard input, as in fio.
Status read_job_file(const std::string& path, const BenchOptions& defaults, JobList* list);

}  // namespace cached::bench
