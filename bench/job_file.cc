// Job files in fio's format: see job_file.h.
#include "bench/job_file.h"

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

namespace cached::bench {
namespace {

constexpr std::string_view kBlanks = " \t\r";

std::string_view without_blanks(std::string_view text) {
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return "";
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

// Puts environment variables in place of ${NAME}.
Result<std::string> expanded(std::string_view text) {
  std::string result;
  for (;;) {
    const size_t begin = text.find("${");
    const size_t end = begin == std::string_view::npos ? begin : text.find('}', begin);
    result += text.substr(0, end == std::string_view::npos ? end : begin);
    if (end == std::string_view::npos) return result;
    const std::string name(text.substr(begin + 2, end - begin - 2));
    const char* const value = std::getenv(name.c_str());
    if (value == nullptr)
      return Status(EINVAL, "${" + name + "}: the environment has no variable of this name");
    result += value;
    text.remove_prefix(end + 1);
  }
}

class Parser {
 public:
  Parser(const std::string& path, const BenchOptions& defaults, JobList* list)
      : path_(path), defaults_(defaults), list_(list) {
    defaults_.given.clear();
  }

  Status parse(std::string_view text) {
    std::istringstream lines{std::string(text)};
    for (std::string line; std::getline(lines, line);) {
      ++line_number_;
      const std::string_view content =
          without_blanks(std::string_view(line).substr(0, line.find_first_of(";#")));
      if (content.empty()) continue;
      CACHED_RETURN_IF_ERROR(
          (content.front() == '[' ? begin_section(content) : set(content)).with_context(where()));
    }
    return finish_section();
  }

 private:
  std::string where() const { return path_ + ":" + std::to_string(line_number_); }

  Status begin_section(std::string_view content) {
    CACHED_RETURN_IF_ERROR(finish_section());
    if (content.size() < 3 || content.back() != ']')
      return Status(EINVAL, "'" + std::string(content) + "' is not a [section]");
    const std::string_view name = content.substr(1, content.size() - 2);
    section_line_ = line_number_;
    in_global_ = name == "global";
    in_job_ = !in_global_;
    job_ = defaults_;
    job_.name = name;
    return Status();
  }

  Status set(std::string_view content) {
    if (!in_global_ && !in_job_)
      return Status(EINVAL, "'" + std::string(content) + "' stands before any [section]");
    const size_t equals = content.find('=');
    const std::string_view key = without_blanks(content.substr(0, equals));
    std::optional<std::string> value;
    if (equals != std::string_view::npos) {
      Result<std::string> text = expanded(without_blanks(content.substr(equals + 1)));
      if (!text.ok()) return text.status().with_context(std::string(key));
      value = std::move(*text);
    }
    return set_job_option(key, value, in_global_ ? &defaults_ : &job_);
  }

  Status finish_section() {
    if (in_global_) {
      list_->global.insert(list_->global.end(), defaults_.given.begin(), defaults_.given.end());
      defaults_.given.clear();
    }
    if (in_job_) {
      Status status = check_job(job_);
      if (!status.ok())
        return status.with_context(path_ + ":" + std::to_string(section_line_) + ": [" + job_.name + "]");
      list_->jobs.push_back(job_);
    }
    in_global_ = in_job_ = false;
    return Status();
  }

  const std::string path_;
  BenchOptions defaults_;
  JobList* list_;
  BenchOptions job_;
  bool in_global_ = false;
  bool in_job_ = false;
  unsigned line_number_ = 0;
  unsigned section_line_ = 0;
};

}  // namespace

Status parse_job_file(std::string_view text, const std::string& path, const BenchOptions& defaults,
                      JobList* list) {
  const size_t before = list->jobs.size();
  CACHED_RETURN_IF_ERROR(Parser(path, defaults, list).parse(text));
  return list->jobs.size() > before ? Status()
                                    : Status(EINVAL, path + ": no job: a [section] that is not [global]");
}

Status read_job_file(const std::string& path, const BenchOptions& defaults, JobList* list) {
  using Bytes = std::istreambuf_iterator<char>;
  if (path == "-")
    return parse_job_file(std::string(Bytes(std::cin), Bytes()), "standard input", defaults, list);
  std::ifstream file(path);
  if (!file) return Status::from_errno("cannot read the job file " + path);
  return parse_job_file(std::string(Bytes(file), Bytes()), path, defaults, list);
}

}  // namespace cached::bench
