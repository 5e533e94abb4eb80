// The command line of cached-bench: see command_line.h.
#include "bench/command_line.h"

#include <algorithm>

#include "shm/client.h"

namespace cached::bench {
namespace {

class Parser {
 public:
  Parser(std::span<const std::string> arguments, CommandLine* line) : arguments_(arguments), line_(line) {
    defaults_.socket = shm::kDefaultSocket;
  }

  Status parse() {
    for (; position_ < arguments_.size(); ++position_) {
      const std::string& argument = arguments_[position_];
      if (argument == "--help" || argument == "-h") line_->help = true;
      if (argument == "--version" || argument == "-v") line_->version = true;
      if (line_->help || line_->version) return Status();
      CACHED_RETURN_IF_ERROR(argument.starts_with("--") ? as_option(option(argument.substr(2)))
                                                        : job_file(argument));
    }
    return finish();
  }

 private:
  Status job_file(const std::string& path) {
    if (path.size() > 1 && path.front() == '-')
      return Status(EINVAL, path + ": no such option; options begin with --");
    files_.push_back(path);
    return Status();
  }

  // Errors begin with the option's name: here it was written with two dashes.
  static Status as_option(const Status& status) {
    return status.ok() ? status : Status(status.error_number(), "--" + status.message());
  }

  // "name", "name=value", or "name" with the value as the next argument.
  Status option(std::string_view text) {
    const size_t equals = text.find('=');
    const std::string_view name = text.substr(0, equals);
    std::optional<std::string_view> value;
    if (equals != std::string_view::npos) value = text.substr(equals + 1);
    if (const auto* row = find_option(program_options(), name)) {
      take_next_argument(row->is_flag, &value);
      return set_option(*row, value, &line_->program);
    }
    const auto* row = find_option(job_options(), name);
    if (row != nullptr) take_next_argument(row->is_flag, &value);
    if (row != nullptr && row->name == "name") {
      CACHED_RETURN_IF_ERROR(begin_job(value.value_or("")));
      if (!in_job_) return Status();
    }
    return set_job_option(name, value, in_job_ ? &job_ : &defaults_);
  }

  void take_next_argument(bool is_flag, std::optional<std::string_view>* value) {
    if (!is_flag && !value->has_value() && position_ + 1 < arguments_.size())
      *value = arguments_[++position_];
  }

  // "global" is no job: what follows holds for all jobs after it.
  Status begin_job(std::string_view name) {
    CACHED_RETURN_IF_ERROR(finish_job());
    if (name == "global") return Status();
    job_ = defaults_;
    job_.given.clear();
    in_job_ = true;
    return Status();
  }

  Status finish_job() {
    if (!in_job_) return Status();
    in_job_ = false;
    CACHED_RETURN_IF_ERROR(check_job(job_).with_context("job " + job_.name));
    line_->list.jobs.push_back(job_);
    return Status();
  }

  Status finish() {
    CACHED_RETURN_IF_ERROR(finish_job());
    // Options alone are the one job; with jobs or files they are what these have in common.
    if (line_->list.jobs.empty() && files_.empty()) {
      if (arguments_.empty()) return Status(EINVAL, "no job: name a job file, or options of one; see --help");
      CACHED_RETURN_IF_ERROR(as_option(check_job(defaults_)));
      line_->list.jobs.push_back(defaults_);
      return refuse_writes();
    }
    line_->list.global = defaults_.given;
    for (const std::string& path : files_)
      CACHED_RETURN_IF_ERROR(read_job_file(path, defaults_, &line_->list));
    return refuse_writes();
  }

  Status refuse_writes() const {
    const auto writes = [](const BenchOptions& job) { return job.load.writes; };
    const auto writer = std::find_if(line_->list.jobs.begin(), line_->list.jobs.end(), writes);
    if (!line_->program.read_only || writer == line_->list.jobs.end()) return Status();
    return Status(EINVAL, "job " + writer->name + ": rw=" + writer->load.name + ": readonly was asked for");
  }

  std::span<const std::string> arguments_;
  CommandLine* line_;
  size_t position_ = 0;
  BenchOptions defaults_;
  BenchOptions job_;
  bool in_job_ = false;
  std::vector<std::string> files_;
};

}  // namespace

Result<CommandLine> parse_command_line(std::span<const std::string> arguments) {
  CommandLine line;
  CACHED_RETURN_IF_ERROR(Parser(arguments, &line).parse());
  return line;
}

}  // namespace cached::bench
