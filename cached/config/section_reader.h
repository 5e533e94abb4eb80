// SectionReader: the visitor (see schema.h) that fills one section of a Config from its TOML table, strictly:
// wrong types, values out of range and unknown keys are errors that name file, line and key.
#pragma once

#include <set>
#include <string>
#include <vector>

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "cached/config/config.h"
#include "cached/config/schema.h"

namespace cached::config_schema {

// "FILE:LINE: key `KEY`: TEXT" as an EINVAL error; a line of 0 is left out.
Status error_at(const std::string& file, uint32_t line, const std::string& key, const std::string& text);

uint32_t line_of(const toml::node& node);

// What a value is, for errors: "text", "a list".
std::string kind_of(const toml::node& node);

// Keeps the first error, in the order of the file, and ignores what follows. Notes in `config` the line of
// every key that is set.
class SectionReader {
 public:
  // Both must outlive the reader. `section` is what keys are called by: "memory", "volume[0]".
  SectionReader(Config* config, const toml::table& table, std::string section)
      : config_(config), table_(table), section_(std::move(section)) {}

  void boolean(const char* name, bool& value);

  template <typename Integer>
  void integer(const char* name, Integer& value, uint64_t minimum, uint64_t maximum) {
    if (const auto number = whole_number(name, minimum, maximum)) value = static_cast<Integer>(*number);
  }

  template <typename Check>
  void size(const char* name, uint64_t& value, Check check) {
    const std::optional<uint64_t> size_bytes = size_in_bytes(name);
    if (!size_bytes) return;
    if (Complaint complaint = check(*size_bytes)) return fail(name, *complaint);
    value = *size_bytes;
  }

  template <typename Check>
  void text(const char* name, std::string& value, Check check) {
    const std::optional<std::string> content = text_of(name, "text in quotes");
    if (!content) return;
    if (Complaint complaint = check(*content)) return fail(name, *complaint);
    value = *content;
  }

  // Fails unless the file sets `name`.
  void require(const char* name, const std::string& example);

  // Fails if the file sets `name`, which exists but not here: `reason` says where it belongs.
  void refuse(const char* name, const std::string& reason);

  // To be called last: keys that nobody took are unknown. Of several errors, the one that stands first in the
  // file.
  Status finish();

 private:
  const toml::node* take(const char* name);
  std::optional<uint64_t> whole_number(const char* name, uint64_t minimum, uint64_t maximum);
  std::optional<uint64_t> size_in_bytes(const char* name);
  std::optional<std::string> text_of(const char* name, const std::string& wanted);
  void fail_type(const char* name, const toml::node& node, const std::string& wanted);
  void fail(const char* name, const std::string& text);
  void keep_earlier(uint32_t line, Status error);

  Config* config_;
  const toml::table& table_;
  std::string section_;
  std::set<std::string> known_;
  std::vector<std::string> choices_;  // what errors about unknown keys offer, in the order of the schema
  uint32_t error_line_ = 0;
  Status error_;
};

// A visitor that refuses the keys of another kind of section.
class RefusingReader {
 public:
  RefusingReader(SectionReader* reader, std::string reason) : reader_(reader), reason_(std::move(reason)) {}
  void boolean(const char* name, bool) { reader_->refuse(name, reason_); }
  template <typename Integer>
  void integer(const char* name, Integer&, uint64_t, uint64_t) {
    reader_->refuse(name, reason_);
  }
  template <typename Check>
  void text(const char* name, const std::string&, Check) {
    reader_->refuse(name, reason_);
  }

 private:
  SectionReader* reader_;
  std::string reason_;
};

}  // namespace cached::config_schema
