#include "mount/virtual_files.h"

#include <fmt/format.h>
#include <unistd.h>

namespace cached::mount {

namespace {

constexpr uint64_t kFirstIno = 0x7FFFFFFFFFFFFF00;
constexpr blksize_t kBlockBytes = 4096;

// A JSON string.
std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (byte < 32) {
      result += fmt::format("\\u{:04x}", byte);
    } else {
      result += c;
    }
  }
  return result + '"';
}

double seconds(uint64_t duration_ns) {
  return static_cast<double>(duration_ns) / 1e9;
}

}  // namespace

const VirtualFile* virtual_file(std::string_view name) {
  if (name.empty() || name.front() != '.') return nullptr;
  for (const VirtualFile& file : kVirtualFiles) {
    if (file.name == name) return &file;
  }
  return nullptr;
}

struct stat attributes_of(const VirtualFile& file, int64_t time_s) {
  struct stat attributes {};
  attributes.st_ino = kFirstIno + file.nodeid;
  attributes.st_mode = S_IFREG | file.mode;
  attributes.st_nlink = 1;
  attributes.st_uid = ::geteuid();
  attributes.st_gid = ::getegid();
  attributes.st_blksize = kBlockBytes;
  attributes.st_atim.tv_sec = attributes.st_mtim.tv_sec = attributes.st_ctim.tv_sec = time_s;
  return attributes;
}

std::string render_config(const Options& options) {
  return fmt::format(
      "{{\n"
      "  \"version\": {},\n"
      "  \"volume\": {},\n"
      "  \"mountpoint\": {},\n"
      "  \"pid\": {},\n"
      "  \"socket\": {},\n"
      "  \"snapshot\": {},\n"
      "  \"threads\": {},\n"
      "  \"read_ahead_bytes\": {},\n"
      "  \"attr_timeout_s\": {},\n"
      "  \"entry_timeout_s\": {},\n"
      "  \"negative_timeout_s\": {},\n"
      "  \"daemon_timeout_s\": {},\n"
      "  \"allow_other\": {},\n"
      "  \"log_level\": {},\n"
      "  \"log_file\": {}\n"
      "}}\n",
      quoted(CACHED_VERSION), quoted(options.volume), quoted(options.mountpoint), ::getpid(),
      quoted(options.socket), options.snapshot, options.threads, options.read_ahead_bytes,
      seconds(options.attribute_timeout_ns), seconds(options.entry_timeout_ns),
      seconds(options.negative_timeout_ns), static_cast<double>(options.daemon_timeout_ms) / 1000,
      options.allow_other, quoted(options.log_level), quoted(options.log_file));
}

}  // namespace cached::mount
