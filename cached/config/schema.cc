// What each kind of configuration value may be: see schema.h.
#include "cached/config/schema.h"

#include <arpa/inet.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <filesystem>
#include <string_view>

#include "base/log.h"

namespace cached::config_schema {
namespace {

constexpr uint64_t kMinimumArenaBytes = 64 * kMiB;
constexpr uint64_t kMaximumArenaPercent = 90;  // the rest is the kernel's and the jobs'
constexpr size_t kMaximumNameLength = 100;
constexpr size_t kMaximumGroupLength = 32;  // of Linux's user database
constexpr uint64_t kMinimumIndexBytes = kMiB;
constexpr uint64_t kMaximumIndexPercent = 50;
constexpr size_t kMaximumCephNameLength = 128;
constexpr size_t kMaximumDataSetPath = 1024;
constexpr std::string_view kDirScheme = "dir:";
constexpr std::string_view kRadosScheme = "rados:";
constexpr std::string_view kJuicefsScheme = "juicefs:";
constexpr std::string_view kRedisScheme = "redis://";
constexpr std::string_view kUnixScheme = "unix://";
constexpr size_t kMaximumRedisNameLength = 128;

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool to_number(const std::string& text, uint32_t minimum, uint32_t maximum, uint32_t* number) {
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, *number);
  return error == std::errc() && end == last && *number >= minimum && *number <= maximum;
}

std::string in_quotes(const std::string& text) {
  return "\"" + printable(text) + "\"";
}

Complaint check_absolute(const std::string& path) {
  if (path.empty() || path.front() != '/') {
    return in_quotes(path) + " is not an absolute path; start it with /";
  }
  if (path.size() >= PATH_MAX) return "a path has at most " + std::to_string(PATH_MAX - 1) + " bytes";
  if (path.find('\0') != std::string::npos) return in_quotes(path) + " holds a zero byte, which no path can";
  return std::nullopt;
}

bool has_scheme(const std::string& source, std::string_view scheme);

// Takes "HOST[:PORT][/DB]" or "/PATH[?db=DB]" apart; what is wrong with it, or nothing.
Complaint take_redis_apart(const std::string& source, JuicefsVolumeConfig* juicefs) {
  constexpr std::string_view kHow =
      "write \"juicefs:redis://HOST:PORT/DB\" or \"juicefs:unix:///PATH?db=DB\"";
  std::string place = source.substr(kJuicefsScheme.size());
  // Nothing of what may be a password is repeated.
  if (place.find('@') != std::string::npos)
    return "a user and a password do not belong into the source; use redis_user and password_file";
  const bool tcp = has_scheme(place, kRedisScheme);
  const bool socket = has_scheme(place, kUnixScheme);
  if (!tcp && !socket) return in_quotes(source) + " names no Redis; " + std::string(kHow);
  place = place.substr((tcp ? kRedisScheme : kUnixScheme).size());
  std::string database = "0";
  const size_t query = tcp ? place.find('/') : place.find("?db=");
  if (query != std::string::npos) {
    database = place.substr(query + (tcp ? 1 : 4));
    place.resize(query);
  }
  if (!to_number(database.empty() ? "0" : database, 0, UINT16_MAX, &juicefs->redis_database))
    return in_quotes(database) + " is not the number of a database; " + std::string(kHow);
  if (socket) {
    juicefs->redis_socket = place;
    return check_socket_path(place);
  }
  const size_t colon = place.rfind(':');
  if (colon != std::string::npos && place.find(']', colon) == std::string::npos) {
    uint32_t port = 0;
    if (!to_number(place.substr(colon + 1), 1, UINT16_MAX, &port))
      return in_quotes(place.substr(colon + 1)) + " is not a port; " + std::string(kHow);
    juicefs->redis_port = static_cast<uint16_t>(port);
    place.resize(colon);
  }
  std::erase_if(place, [](char c) { return c == '[' || c == ']'; });
  juicefs->redis_host = place;
  const bool sound = !place.empty() && std::all_of(place.begin(), place.end(), [](char c) {
    return is_letter_or_digit(c) || c == '.' || c == '-' || c == '_' || c == ':' || c == '%';
  });
  if (!sound) return in_quotes(place) + " is not the name of a host; " + std::string(kHow);
  return std::nullopt;
}

bool has_scheme(const std::string& source, std::string_view scheme) {
  return source.compare(0, scheme.size(), scheme) == 0;
}

// What can name a pool or a namespace here: Ceph takes nearly anything, a source must be able to say it.
bool is_ceph_name(const std::string& name) {
  return name.size() <= kMaximumCephNameLength &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c <= '~' && c != '/'; });
}

Complaint check_rados_source(const std::string& source) {
  const std::string place = source.substr(kRadosScheme.size());
  const size_t slash = place.find('/');
  if (slash == std::string::npos || slash == 0) {
    return in_quotes(source) + " names no pool and data set; write \"rados:POOL/NAME\"";
  }
  if (!is_ceph_name(place.substr(0, slash))) {
    return in_quotes(place.substr(0, slash)) + " is not the name of a pool; use at most " +
           std::to_string(kMaximumCephNameLength) + " printable characters without blanks";
  }
  if (!check_volume_name(place.substr(slash + 1))) return std::nullopt;
  return in_quotes(place.substr(slash + 1)) + " is not the name of a data set; use 1 to " +
         std::to_string(kMaximumNameLength) + " letters, digits, dots, underscores and hyphens";
}

}  // namespace

Complaint check_socket_path(const std::string& path) {
  if (Complaint complaint = check_absolute(path)) return complaint;
  constexpr size_t kMaximum = sizeof(sockaddr_un::sun_path) - 1;
  if (path.size() > kMaximum) {
    return "the path has " + std::to_string(path.size()) + " bytes, and a Unix socket's path at most " +
           std::to_string(kMaximum) + "; choose a shorter one";
  }
  return std::nullopt;
}

Complaint check_directory_path(const std::string& path) {
  return check_absolute(path);
}

Complaint check_log_file(const std::string& path) {
  return path.empty() ? std::nullopt : check_absolute(path);
}

Complaint check_group(const std::string& group) {
  const bool plain = std::all_of(group.begin(), group.end(), [](char c) {
    return is_letter_or_digit(c) || c == '_' || c == '-' || c == '.';
  });
  if (plain && group.size() <= kMaximumGroupLength) return std::nullopt;
  return in_quotes(group) +
         " is not the name of a group; use one such as \"cached\", or \"\" to trust root alone";
}

Complaint check_log_level(const std::string& level) {
  static constexpr std::array<std::string_view, 6> kLevels = {"trace",   "debug", "info",
                                                              "warning", "error", "off"};
  if (std::find(kLevels.begin(), kLevels.end(), level) != kLevels.end()) return std::nullopt;
  return in_quotes(level) + " is not a level; use trace, debug, info, warning, error or off";
}

Complaint check_log_target(const std::string& target) {
  if (target == "auto" || target == "journal" || target == "stderr" || target == "file") return std::nullopt;
  return in_quotes(target) + " is not a target; use auto, journal, stderr or file";
}

Complaint check_log_format(const std::string& format) {
  if (format == "text" || format == "json") return std::nullopt;
  return in_quotes(format) + " is not a format; use text or json";
}

Complaint check_rotate_size(uint64_t size_bytes) {
  if (size_bytes >= 64 * kKiB && size_bytes <= kTiB) return std::nullopt;
  return "impossible size: " + format_size(size_bytes) + "; use 64KiB to 1TiB";
}

// HOST:PORT with the host as an address: a name would have to be looked up at each start.
Complaint check_listen_address(const std::string& address) {
  if (address.empty()) return std::nullopt;
  const size_t colon = address.rfind(':');
  const std::string host = address.substr(0, colon);
  const std::string port = colon == std::string::npos ? "" : address.substr(colon + 1);
  const bool digits =
      !port.empty() && port.size() <= 5 && port.find_first_not_of("0123456789") == std::string::npos;
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  in6_addr parsed{};
  const bool known = bracketed ? ::inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &parsed) == 1
                               : ::inet_pton(AF_INET, host.c_str(), &parsed) == 1;
  if (known && digits && std::stoul(port) >= 1 && std::stoul(port) <= 65'535) return std::nullopt;
  return in_quotes(address) +
         " is not an address and a port; use one such as \"127.0.0.1:9477\" or \"[::1]:9477\"";
}

Complaint check_arena_size(uint64_t size_bytes) {
  if (size_bytes < kMinimumArenaBytes) {
    return "impossible size: " + format_size(size_bytes) + " is less than the smallest arena, " +
           format_size(kMinimumArenaBytes);
  }
  const uint64_t most_bytes = machine_memory_bytes() / 100 * kMaximumArenaPercent;
  if (size_bytes > most_bytes) {
    return "impossible size: " + format_size(size_bytes) + " is more than " +
           std::to_string(kMaximumArenaPercent) + " % of this machine's memory; use at most " +
           std::to_string(most_bytes / kMiB) + "MiB";
  }
  return std::nullopt;
}

Complaint check_volume_name(const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-';
  });
  if (!name.empty() && name.size() <= kMaximumNameLength && plain) return std::nullopt;
  return in_quotes(name) + " is not a volume's name; use 1 to " + std::to_string(kMaximumNameLength) +
         " letters, digits, dots, underscores and hyphens";
}

Complaint check_pin_limit(uint64_t size_bytes) {
  if (size_bytes == 0 || size_bytes <= machine_memory_bytes()) return std::nullopt;
  return "impossible size: " + format_size(size_bytes) + " is more than this machine's memory";
}

Complaint check_data_set_directory(const std::string& directory) {
  const bool plain = std::none_of(directory.begin(), directory.end(),
                                  [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; });
  const std::string normal = std::filesystem::path(directory).lexically_normal();
  if (directory.starts_with('/') && plain && directory.size() <= kMaximumDataSetPath && normal != "/")
    return std::nullopt;
  return in_quotes(directory) +
         " is no directory of a volume; use a path from the volume's root, such as \"/speech/train\"; the "
         "volume as a "
         "whole is a data set without being named";
}

Complaint check_device_path(const std::string& path) {
  return check_absolute(path);
}

Complaint check_device_size(uint64_t size_bytes) {
  if (size_bytes == 0 || (size_bytes >= kMinimumDeviceBytes && size_bytes <= kMaximumDeviceBytes)) {
    return std::nullopt;
  }
  return "impossible size: " + format_size(size_bytes) + "; use " + format_size(kMinimumDeviceBytes) +
         " to " + format_size(kMaximumDeviceBytes) + ", or \"0\" for all that the device has";
}

Complaint check_index_size(uint64_t size_bytes) {
  const uint64_t most_bytes = machine_memory_bytes() / 100 * kMaximumIndexPercent;
  if (size_bytes == 0 || (size_bytes >= kMinimumIndexBytes && size_bytes <= most_bytes)) return std::nullopt;
  return "impossible size: " + format_size(size_bytes) + "; use " + format_size(kMinimumIndexBytes) +
         " to half of this machine's memory, " + std::to_string(most_bytes / kMiB) +
         "MiB, or \"0\" for a sixteenth of it";
}

Complaint check_source(const std::string& source) {
  if (has_scheme(source, kDirScheme)) return check_absolute(source.substr(kDirScheme.size()));
  if (has_scheme(source, kRadosScheme)) return check_rados_source(source);
  if (has_scheme(source, kJuicefsScheme)) {
    JuicefsVolumeConfig ignored;
    return take_redis_apart(source, &ignored);
  }
  return in_quotes(source) +
         " names no kind of source that exists; use \"dir:/absolute/path\", \"rados:POOL/NAME\" or "
         "\"juicefs:redis://HOST:PORT/DB\"";
}

Complaint check_file_path(const std::string& path) {
  return check_absolute(path);
}

Complaint check_optional_file_path(const std::string& path) {
  return path.empty() ? std::nullopt : check_absolute(path);
}

Complaint check_ceph_user(const std::string& user) {
  if (has_scheme(user, "client.")) return in_quotes(user) + " is the whole name; leave out \"client.\"";
  if (!user.empty() && is_ceph_name(user)) return std::nullopt;
  return in_quotes(user) + " is not the name of a Ceph user; use one such as \"admin\", without \"client.\"";
}

Complaint check_redis_user(const std::string& user) {
  const bool plain = std::all_of(user.begin(), user.end(), [](char c) { return c > ' ' && c <= '~'; });
  if (plain && user.size() <= kMaximumRedisNameLength) return std::nullopt;
  return in_quotes(user) + " is not the name of a Redis user; use at most " +
         std::to_string(kMaximumRedisNameLength) + " printable characters without blanks";
}

Complaint check_optional_pool(const std::string& pool) {
  if (is_ceph_name(pool)) return std::nullopt;
  return in_quotes(pool) + " is not the name of a pool; use at most " +
         std::to_string(kMaximumCephNameLength) + " printable characters without blanks and slashes";
}

Complaint check_rados_namespace(const std::string& name) {
  if (is_ceph_name(name)) return std::nullopt;
  return in_quotes(name) + " is not the name of a namespace; use at most " +
         std::to_string(kMaximumCephNameLength) + " printable characters without blanks and slashes";
}

std::optional<VolumeKind> kind_of_source(const std::string& source) {
  if (check_source(source)) return std::nullopt;
  if (has_scheme(source, kJuicefsScheme)) return VolumeKind::kJuicefs;
  return has_scheme(source, kDirScheme) ? VolumeKind::kDir : VolumeKind::kRados;
}

void take_source_apart(VolumeConfig* volume) {
  if (has_scheme(volume->source, kDirScheme)) {
    volume->kind = VolumeKind::kDir;
    volume->directory = volume->source.substr(kDirScheme.size());
    return;
  }
  if (has_scheme(volume->source, kJuicefsScheme)) {
    volume->kind = VolumeKind::kJuicefs;
    take_redis_apart(volume->source, &volume->juicefs);
    return;
  }
  volume->kind = VolumeKind::kRados;
  const std::string place = volume->source.substr(kRadosScheme.size());
  const size_t slash = place.find('/');
  volume->rados.pool = place.substr(0, slash);
  volume->rados.dataset = place.substr(slash + 1);
  if (volume->rados.metadata_pool.empty()) volume->rados.metadata_pool = volume->rados.pool;
}

uint64_t machine_memory_bytes() {
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE));
}

std::string volume_section(size_t place) {
  return "volume[" + std::to_string(place) + "]";
}

std::string data_set_section(size_t place) {
  return "dataset[" + std::to_string(place) + "]";
}

std::string device_section(size_t place) {
  return "device[" + std::to_string(place) + "]";
}

}  // namespace cached::config_schema
