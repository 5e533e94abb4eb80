// Reading one section of the configuration: see section_reader.h.
#include "cached/config/section_reader.h"

#include <algorithm>

#include "base/log.h"

namespace cached::config_schema {

Status error_at(const std::string& file, uint32_t line, const std::string& key, const std::string& text) {
  const std::string place = line == 0 ? printable(file) : printable(file) + ":" + std::to_string(line);
  return Status(EINVAL, place + ": key `" + key + "`: " + text);
}

uint32_t line_of(const toml::node& node) {
  return static_cast<uint32_t>(node.source().begin.line);
}

std::string kind_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "text";
    case toml::node_type::integer:
      return "a whole number";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or time";
  }
}

void SectionReader::boolean(const char* name, bool& value) {
  const toml::node* node = take(name);
  if (node == nullptr) return;
  if (!node->is_boolean()) return fail_type(name, *node, "true or false, without quotes");
  value = node->as_boolean()->get();
}

std::optional<uint64_t> SectionReader::whole_number(const char* name, uint64_t minimum, uint64_t maximum) {
  const toml::node* node = take(name);
  if (node == nullptr) return std::nullopt;
  if (!node->is_integer()) {
    fail_type(name, *node, "a whole number, without quotes");
    return std::nullopt;
  }
  const int64_t number = node->as_integer()->get();
  if (number < 0 || static_cast<uint64_t>(number) < minimum || static_cast<uint64_t>(number) > maximum) {
    fail(name, std::to_string(number) + " is out of range; use " + std::to_string(minimum) + " to " +
                   std::to_string(maximum));
    return std::nullopt;
  }
  return static_cast<uint64_t>(number);
}

std::optional<uint64_t> SectionReader::size_in_bytes(const char* name) {
  const std::optional<std::string> content = text_of(name, "a size in quotes, such as \"64GiB\"");
  if (!content) return std::nullopt;
  const Result<uint64_t> size_bytes = parse_size(*content);
  if (size_bytes.ok()) return *size_bytes;
  fail(name, size_bytes.status().message());
  return std::nullopt;
}

std::optional<std::string> SectionReader::text_of(const char* name, const std::string& wanted) {
  const toml::node* node = take(name);
  if (node == nullptr) return std::nullopt;
  if (node->is_string()) return node->as_string()->get();
  fail_type(name, *node, wanted);
  return std::nullopt;
}

void SectionReader::require(const char* name, const std::string& example) {
  if (!table_.contains(name)) fail(name, "is missing; add a line such as " + example);
}

void SectionReader::refuse(const char* name, const std::string& reason) {
  known_.insert(name);
  if (table_.contains(name)) fail(name, reason);
}

Status SectionReader::finish() {
  for (const auto& [key, node] : table_) {
    const std::string name(key.str());
    if (known_.contains(name)) continue;
    std::string choices;
    for (const std::string& choice : choices_) choices += (choices.empty() ? "" : ", ") + choice;
    keep_earlier(line_of(node), error_at(config_->file, line_of(node), section_ + "." + printable(name),
                                         "is not known here; the keys of this section are " + choices));
  }
  return error_;
}

const toml::node* SectionReader::take(const char* name) {
  known_.insert(name);
  choices_.emplace_back(name);
  const toml::node* node = table_.get(name);
  if (node != nullptr) config_->lines[section_ + "." + name] = line_of(*node);
  return node;
}

void SectionReader::fail_type(const char* name, const toml::node& node, const std::string& wanted) {
  fail(name, "is " + kind_of(node) + " and must be " + wanted);
}

void SectionReader::fail(const char* name, const std::string& text) {
  const toml::node* node = table_.get(name);
  const uint32_t line = std::max(1U, node != nullptr ? line_of(*node) : line_of(table_));
  keep_earlier(line, error_at(config_->file, line, section_ + "." + name, text));
}

void SectionReader::keep_earlier(uint32_t line, Status error) {
  if (!error_.ok() && error_line_ <= line) return;
  error_line_ = line;
  error_ = std::move(error);
}

}  // namespace cached::config_schema
